"""The application's hand."""

import random
from collections.abc import AsyncIterator, Iterable
from ssl import SSLContext
from types import TracebackType
from typing import Final, Literal, Self

from .core import Core
from .errors import ClosedError, NotConnectedError, SendError
from .events import Accepted, Closed, Message, Presence, State
from .fitting import UnfitError, body_text
from .frames import INTEGER_MAX
from .names import check_id, check_user, new_id
from .options import EventHandler, MessageHandler, Options, PoisonHandler, TokenProvider, check_status
from .storage import Outgoing, Storage


class _Default:
    """Stands for "as the client was told" where `None` means something else."""


_DEFAULT: Final = _Default()


class Client:
    """A client of a Doorstep router, which outlives connections.

    ::

        async with Client("ws://127.0.0.1:7400/v1/connect", user="bot", on_message=handle) as client:
            await client.send("alice", {"text": "hi"})
            await client.wait_closed()

    It belongs to the event loop that it was started on; its calls are not safe from other threads.

    Args:
        url: ``ws://host:port/v1/connect``, or ``wss://``.
        user: Who this is, where the router lets clients name themselves; a token says it otherwise.
        device: One installation of a client. Two running clients of a user must not share one: each would throw the
            other out. Left out, the client makes one, and keeps it in the storage.
        token: The token, or an async callable that is asked for one before each connection, and again shortly before
            the one in use ends.
        storage: What outlives the process; `FileStorage` for one. Without it, what is not answered and what was done
            is known for as long as the client lives.
        on_message: Called for each message, one after another; async or not. A message is acknowledged when it has
            returned. Without it, `messages` hands them over.
        on_poison: Called with a message that ``on_message`` failed for ``handler_attempts`` times, or whose body is
            not JSON, and the error. Then the message is acknowledged. Without it, it is logged.
        on_event: Called for everything else that happens; see `Event`. An exception in it is logged.
        handler_attempts: How often ``on_message`` is called for one message.
        status: The state to begin with.
        window: Messages that may be unacknowledged at once; the router's own limit when `None`.
        send_timeout_s: How long a send is repeated before it fails, unless the call says otherwise. `None`: for ever.
        connect_timeout_s: How long connecting may take, ``welcome`` included.
        close_timeout_s: How long `close` waits for a handler that is running.
        backoff_min_s: Bound of the first back-off.
        backoff_max_s: Bound of every later one.
        ssl: For ``wss://``; the system's trust store when `None`.
        proxy: Address of a proxy; `True`: the one that the environment names.
        rng: Where jitter comes from.
    """

    def __init__(
        self,
        url: str,
        *,
        user: str | None = None,
        device: str | None = None,
        token: TokenProvider | str | None = None,
        storage: Storage | None = None,
        on_message: MessageHandler | None = None,
        on_poison: PoisonHandler | None = None,
        on_event: EventHandler | None = None,
        handler_attempts: int = 5,
        status: State = "online",
        window: int | None = None,
        send_timeout_s: float | None = 30.0,
        connect_timeout_s: float = 10.0,
        close_timeout_s: float = 5.0,
        backoff_min_s: float = 0.25,
        backoff_max_s: float = 30.0,
        ssl: SSLContext | None = None,
        proxy: str | Literal[True] | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self._options = Options(
            url=url,
            user=user,
            device=device,
            token=token,
            storage=storage,
            on_message=on_message,
            on_poison=on_poison,
            on_event=on_event,
            handler_attempts=handler_attempts,
            status=status,
            window=window,
            send_timeout_s=send_timeout_s,
            connect_timeout_s=connect_timeout_s,
            close_timeout_s=close_timeout_s,
            backoff_min_s=backoff_min_s,
            backoff_max_s=backoff_max_s,
            ssl=ssl,
            proxy=proxy,
            rng=rng or random.Random(),
        )
        self._started: Core | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A block that ended well has dealt with the message that it took last.
        if self._started is not None:
            await self._started.close(taken_is_done=kind is None)

    async def start(self) -> None:
        """Loads what is stored and begins to connect; it does not wait for the connection. ``async with`` does it.

        Raises `StorageError` when the storage cannot be opened, or belongs to another user or device.
        """
        if self._started is not None:
            raise RuntimeError("a client is started once")
        core = Core(self._options)
        await core.start()
        self._started = core

    @property
    def user(self) -> str | None:
        """Who this is; `None` until it is known."""
        return self._options.user if self._started is None else self._started.user

    @property
    def device(self) -> str | None:
        """Which device this is; `None` before `start` when it was not given."""
        return self._options.device if self._started is None else self._started.device

    @property
    def is_connected(self) -> bool:
        """Whether there is a session now. It may be gone with the next word; nothing depends on it."""
        return self._started is not None and self._started.session is not None

    async def send(
        self,
        to: str,
        body: object,
        *,
        id: str | None = None,
        ttl_ms: int | None = None,
        timeout_s: float | _Default | None = _DEFAULT,
        repeat: bool = False,
    ) -> Accepted:
        """Sends ``body``, any JSON value, and waits until it is safe.

        Until then it is repeated under the same id, across rejections that pass and across reconnects. Sends to one
        recipient go out in the order of the calls. Those that are under way at the same time can still be accepted
        in another order when one of them is rejected; to rule that out, await each before the next.

        Cancelling does not recall the message: it goes on being sent until its time is over, and `Settled` tells what
        came of it. Only one that still waited for room (16 MiB of others) is dropped.

        Args:
            to: The recipient.
            body: What to send.
            id: 1 to 64 of ``A-Z a-z 0-9 . _ : -``, never used before by this user; a ULID when left out.
            ttl_ms: How long it may wait at the router before it expires.
            timeout_s: How long it is repeated; `None`: for ever.
            repeat: It may have been sent under this ``id`` before.

        Raises:
            SendError: It is not known to be safe; see there.
            TypeError, ValueError: ``body`` is not JSON, or a name is none. Nothing was sent.
        """
        if repeat and id is None:
            raise ValueError("a repeat has the id of what it repeats")
        message_id = new_id() if id is None else check_id(id)
        timeout = self._options.send_timeout_s if isinstance(timeout_s, _Default) else timeout_s
        try:
            # A time that the protocol cannot say becomes the nearest one that it can.
            ttl = None if ttl_ms is None else min(max(ttl_ms, 1), INTEGER_MAX)
            message = Outgoing(message_id, check_user(to), body_text(body), ttl)
        except UnfitError as error:
            raise SendError(message_id, to, error.code, error.reason, maybe_taken=repeat) from None
        outcome = await self._core.send(message, timeout, repeat=repeat)
        if isinstance(outcome, SendError):
            raise outcome
        return outcome

    def ephemeral(self, to: str, body: object) -> None:
        """Sends something that only live sessions get, and only when they have room: typing, cursors.

        Nobody says whether it arrived, and without a connection it is dropped. `Refused` tells when the router does
        not want it.
        """
        try:
            text = body_text(body)
        except UnfitError as error:
            raise ValueError(error.reason) from None
        self._core.ephemeral(check_user(to), text)

    def messages(self) -> AsyncIterator[Message]:
        """The messages, for a client without ``on_message``::

            async for message in client.messages():
                ...

        A message is done, and is acknowledged, when the loop comes back for the next one; so is one whose loop was
        left when another loop begins, or when the ``async with`` of the client ends without an exception.
        It ends with the client, and raises `ClosedError` when that was not wished.
        """
        return _Messages(self._core)

    def watch(self, users: Iterable[str]) -> None:
        """Asks for the presence of ``users`` and for every change of it, also on later connections.

        It comes as `PresenceChanged`. Raises `ValueError` when that would be too many; then none is added.
        """
        self._core.watch(_names(users))

    def unwatch(self, users: Iterable[str]) -> None:
        """Ends `watch`."""
        self._core.unwatch(_names(users))

    def presence(self, user: str) -> Presence | None:
        """The newest that is known of a user who is watched."""
        return self._core.presence(user)

    def set_status(self, state: State, text: str | None = None) -> None:
        """Says how available this session is, also on later connections."""
        check_status(state, text)
        self._core.set_status(state, text)

    async def ping(self) -> float:
        """The time to the router and back, in seconds. Raises `NotConnectedError`."""
        return await self._core.ping()

    async def forget(self) -> None:
        """Logs the device out: the router forgets it, with what only it still lacked, the storage is emptied, and the
        client ends. Without a connection it waits for one.

        Raises `ClosedError` when the client ended in another way.
        """
        closed = await self._core.forget()
        if closed.reason != "done":
            raise ClosedError(closed.message, closed.reason, closed.close_code)

    async def close(self) -> None:
        """Lets a running handler end, acknowledges what is done, says goodbye and ends.

        Sends without an answer fail, unless there is a storage: then they are kept (`SendError.kept`).
        From within a callback it only begins to close, and returns at once.
        """
        if self._started is not None:
            await self._started.close()

    async def abort(self) -> None:
        """Ends as if the process had: nothing more is said, acknowledged or written. For tests of applications."""
        if self._started is not None:
            await self._started.abort()

    async def wait_closed(self) -> Closed:
        """Waits for the end of the client, and says why it ended."""
        return await self._core.wait_closed()

    @property
    def _core(self) -> Core:
        if self._started is None:
            raise NotConnectedError("the client was not started")
        return self._started


def _names(users: Iterable[str]) -> list[str]:
    """However often the application names them, what is said to the router is bounded."""
    if isinstance(users, str):
        raise TypeError("users must be a list of names, not one name")
    return list(dict.fromkeys(check_user(user) for user in users))


class _Messages(AsyncIterator[Message]):
    """No generator: waiting for the next message may be cancelled, as by a timeout, and go on later."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def __anext__(self) -> Message:
        message = await self._core.inbox.take()
        if message is not None:
            return message
        closed = self._core.closed
        if closed is None or closed.reason == "done":
            raise StopAsyncIteration
        raise ClosedError(closed.message, closed.reason, closed.close_code)
