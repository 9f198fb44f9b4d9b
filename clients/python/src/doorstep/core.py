"""The owner of a client's connection and of everything that it remembers.

The application talks to it through `doorstep.Client`. All of it happens on one event loop, and nobody else touches its
state, so that there is nothing to lock.
"""

import asyncio
import logging
import math
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, TypeVar

from .announcer import Announcer
from .dial import DialError, Dialled, Dialler
from .errors import ClosedError, NotConnectedError, SendError, StorageError
from .events import Closed, Connected, Disconnected, Presence, Refused, Settled, State
from .fitting import SendFrame, UnfitError, frame_text, portions
from .inbox import Inbox
from .intake import Intake, Work
from .journal import Journal
from .names import new_id
from .options import Options
from .reconnect import Advice, Backoff, Ended
from .sends import Outcome, Pending, Sends
from .session import LEAVE_MAX_S, Session
from .storage import Answered, Done, Identity, Kept, Outgoing, Stored
from .watching import Watching

_log = logging.getLogger("doorstep")
_T = TypeVar("_T")

#: A session that lasted so long was a good one: the next back-off starts small again.
_SETTLED_S = 10.0
#: How long the storage may take at the end.
_STORAGE_CLOSE_MAX_S = 10.0
#: Pings without an answer; further ones fail.
_PINGS_MAX = 16


class Core:
    def __init__(self, options: Options) -> None:
        self.options = options
        self.announcer = Announcer(options.on_event)
        self.inbox = Inbox(options, self.announcer, self._done)
        self.intake = Intake()
        self.sends = Sends(options.rng, self._admitted, self._settled)
        self.watching = Watching()
        self.device = options.device or ""
        self.user = options.user
        self.closed: Closed | None = None
        self.session: Session | None = None
        self._journal = Journal(options.storage, options.rng)
        self._backoff = Backoff(options.backoff_min_s, options.backoff_max_s, options.rng)
        self.dialler = Dialler(options, self.device)
        self._status: tuple[State, str | None] = (options.status, None)
        self._forgetting = False
        self._forgotten = False
        self._loop = asyncio.get_running_loop()
        #: Of messages on their way into the storage.
        self._tickets: dict[Pending, int] = {}
        self._answers: dict[Pending, asyncio.Future[Outcome]] = {}
        #: What has its answer, and the application is to hear of it when that is written.
        self._untold: dict[Pending, Outcome] = {}
        self._expiry: asyncio.TimerHandle | None = None
        #: Resolved when the connection shall be closed.
        self._leave: asyncio.Future[None] = self._loop.create_future()
        self._ended = asyncio.Event()
        self._tasks: list[asyncio.Task[Any]] = []
        self._main: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Loads what is stored and begins to connect. Raises `StorageError`."""
        storage = self.options.storage
        stored = Stored() if storage is None else await storage.open()
        try:
            self._restore(stored)
            if storage is not None:
                # A device name that is not kept would be another device in the next process.
                await storage.write([Identity(self.device, self.user)])
        except BaseException:
            if storage is not None:
                await storage.close()
            raise
        self._tasks = [
            asyncio.create_task(self._journal.run(), name="doorstep-journal"),
            asyncio.create_task(self.announcer.run(), name="doorstep-announcer"),
        ]
        self.inbox.start()
        self._main = asyncio.create_task(self._run(), name="doorstep-client")

    # What the application asks for.

    async def send(self, message: Outgoing, timeout_s: float | None, *, repeat: bool) -> Outcome:
        if self.closed is not None:
            return SendError(message.id, message.to, "closed", "the client is closed", maybe_taken=repeat)
        now = self._loop.time()
        deadline = math.inf if timeout_s is None else now + timeout_s
        answer: asyncio.Future[Outcome] = self._loop.create_future()
        pending = self.sends.submit(message, now, deadline, repeat=repeat)
        # Nothing settles before this, not even what is refused at once: that takes a writer.
        self._answers[pending] = answer
        self._arm_expiry(deadline)
        self._wake()
        try:
            return await answer
        except asyncio.CancelledError:
            self._answers.pop(pending, None)
            self.sends.give_up(pending)
            raise

    def ephemeral(self, to: str, body: str) -> None:
        self._check_open()
        session = self.session
        if session is None or not session.has_room_for_an_ephemeral():
            return
        try:
            session.say(SendFrame(to, body).text(session.limits))
        except UnfitError as error:
            self._stays_here(error, to)

    def watch(self, users: list[str]) -> None:
        self._check_open()
        self.watching.add(users)
        self._say_users("watch", users)

    def unwatch(self, users: list[str]) -> None:
        self._check_open()
        removed = self.watching.remove(users)
        self.announcer.forget_presence([user for user in removed if not self.watching.minds(user)])
        self._say_users("unwatch", removed)

    def set_status(self, state: State, text: str | None) -> None:
        self._check_open()
        self._status = (state, text)
        self._say_status()

    def presence(self, user: str) -> Presence | None:
        return self.watching.known(user)

    async def ping(self) -> float:
        self._check_open()
        started = self._loop.time()
        if self.session is None or self.session.pings_waiting >= _PINGS_MAX:
            raise NotConnectedError("there is no connection at the moment")
        answer = self.session.ping()
        await asyncio.wait({answer})
        if answer.cancelled():
            raise NotConnectedError("the connection was lost before the answer")
        return self._loop.time() - started

    async def forget(self) -> Closed:
        self._check_open()
        if not self._forgetting:
            self._forgetting = True
            self.say({"type": "forget"})
        return await self.wait_closed()

    async def close(self, *, taken_is_done: bool = False) -> None:
        if self._main is None or self._ended.is_set():
            return
        if taken_is_done:
            self.inbox.finish_taken()
        if self._closing is None:
            self._closing = asyncio.create_task(self._close(), name="doorstep-close")
        # From within a callback there is nothing to wait for: the client waits for the callback.
        if not self.inbox.is_called_by_handler() and asyncio.current_task() not in self._tasks:
            await self._ended.wait()

    async def abort(self) -> None:
        if self._main is not None:
            self._main.cancel()
            await asyncio.wait({self._main})
            if not self._ended.is_set():
                # It was cancelled before its first step.
                await self._drop()

    async def wait_closed(self) -> Closed:
        await self._ended.wait()
        return self.closed or Closed("done", "closed")

    def say(self, frame: dict[str, Any]) -> bool:
        """Says it on the connection that is. Without one there is nothing to do: what matters is said again at the
        start of the next. False when it cannot be said to this router.
        """
        if self.session is None:
            return True
        try:
            self.session.say(frame_text(frame, self.session.limits))
        except UnfitError as error:
            self._stays_here(error, str(frame["type"]))
            return False
        return True

    # The life of the client.

    async def _run(self) -> None:
        try:
            closed = await self._live()
        except asyncio.CancelledError:
            await self._drop()
            return
        except Exception as error:
            _log.exception("the client ends by a mistake of its own")
            closed = Closed("impossible", f"internal error: {error!r}")
        try:
            await self._finish(closed)
        except asyncio.CancelledError:
            await self._drop()

    async def _live(self) -> Closed:
        while True:
            ended = await self._connection()
            if ended is None:
                return Closed("done", "closed")
            closed = self._verdict(ended)
            if closed is not None:
                return closed
            retry_in_s = self._backoff.next_s(ended.retry_after_s)
            _log.debug("disconnected: %s (%s), retry in %.3f s", ended.reason, ended.close_code, retry_in_s)
            self.announcer.announce(Disconnected(ended.close_code, ended.reason, retry_in_s))
            if await self._unless_leaving(asyncio.sleep(retry_in_s, result=True)) is None:
                return Closed("done", "closed")

    async def _connection(self) -> Ended | None:
        """One attempt to connect and the session it leads to; `None` when the application leaves."""
        try:
            dialled = await self._unless_leaving(self.dialler.dial(self._status[0]))
        except DialError as error:
            return error.ended
        if dialled is None:
            return None
        began = self._loop.time()
        try:
            stranger = self._identify(dialled.welcome.user)
            if stranger is not None:
                # A session in another's name is not left to run out by itself.
                await dialled.link.close()
                return stranger
            session = Session(self, dialled)
            self._begin(session, dialled)
            return await session.run(self._leave)
        finally:
            dialled.link.abort()
            self.session = None
            self.sends.disconnected(self._loop.time())
            if self._loop.time() - began >= _SETTLED_S:
                self._backoff.reset()

    def _identify(self, user: str) -> Ended | None:
        """Two inboxes must not be mixed, nor what was kept be sent in another name."""
        if self.user is not None and self.user != user:
            return Ended.impossible(f"the router says that this is {user}, it was {self.user}")
        if self.user is None:
            self.user = user
            self._journal.put(Identity(user=user))
        return None

    def _begin(self, session: Session, dialled: Dialled) -> None:
        """Says again what has to hold on every connection."""
        self.session = session
        welcome: Connected = dialled.welcome
        self.intake.connected(session.limits.window)
        self.watching.i_am(welcome.user)
        self._say_users("watch", self.watching.users())
        if self._status != (dialled.status, None):
            self._say_status()
        if self._forgetting:
            self.say({"type": "forget"})
        self.announcer.announce(welcome)

    def _verdict(self, ended: Ended) -> Closed | None:
        """Whether an end is final."""
        match ended.advice:
            case Advice.DONE:
                self._forgotten = self._forgetting
                return Closed("done", ended.reason, ended.close_code)
            case Advice.STOP if ended.close_code is not None:
                return Closed("refused", ended.reason, ended.close_code)
            case Advice.STOP:
                return Closed("impossible", ended.reason)
            case Advice.NEW_TOKEN if callable(self.options.token):
                self.dialler.refused(ended)
                return None
            case Advice.NEW_TOKEN | Advice.NO_TOKEN:
                return Closed("not_authenticated", ended.reason, ended.close_code)
            case Advice.RETRY:
                return None

    async def _close(self) -> None:
        """What is running may end, what is done is written, and then the connection says so."""
        await self.inbox.stop(self.options.close_timeout_s)
        await self._journal.drain(LEAVE_MAX_S)
        if not self._leave.done():
            self._leave.set_result(None)

    async def _finish(self, closed: Closed) -> None:
        """Every call gets its answer, then the application its last event."""
        self.closed = closed
        self.sends.close(kept=self._journal.keeps and not self._forgotten)
        await self.inbox.stop(self.options.close_timeout_s)
        await self._journal.drain(LEAVE_MAX_S)
        self._disarm_expiry()
        journal, announcer = self._tasks
        journal.cancel()
        await asyncio.gather(journal, return_exceptions=True)
        self._tell_all()
        await self._put_storage_away()
        self.announcer.close(closed)
        await asyncio.wait({announcer}, timeout=self.options.close_timeout_s)
        announcer.cancel()
        await asyncio.gather(announcer, return_exceptions=True)
        self._ended.set()

    async def _put_storage_away(self) -> None:
        storage = self.options.storage
        if storage is None:
            return
        try:
            # A disk that hangs must not keep the application from ending.
            async with asyncio.timeout(_STORAGE_CLOSE_MAX_S):
                if self._forgotten:
                    await storage.clear()
                await storage.close()
        except Exception:
            _log.exception("the storage could not be closed")

    async def _drop(self) -> None:
        """As if the process had ended: nothing is said, nothing is written."""
        self.closed = self.closed or Closed("done", "aborted")
        for task in (*self._tasks, *filter(None, [self._closing])):
            task.cancel()
        self.inbox.cancel()
        self._disarm_expiry()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.inbox.stop(0)
        await self._put_storage_away()
        self.sends.close(kept=self._journal.keeps)
        self._tell_all()
        self._ended.set()

    # Smaller things.

    def _restore(self, stored: Stored) -> None:
        for kind, given, known in (
            ("device", self.options.device, stored.device),
            ("user", self.user, stored.user),
        ):
            if given is not None and known is not None and given != known:
                raise StorageError(f"the storage belongs to the {kind} {known}, not to {given}")
        self.device = self.options.device or stored.device or new_id()
        self.user = self.user or stored.user
        self.dialler = Dialler(self.options, self.device)
        self.intake = Intake(stored.done_seq, stored.done_names)
        for message in stored.outbox:
            self.sends.restore(message, self._loop.time())

    def _admitted(self, pending: Pending) -> None:
        def saved() -> None:
            self._tickets.pop(pending, None)
            self.sends.saved(pending)
            self._wake()

        ticket = self._journal.put(Kept(pending.message), saved)
        if not pending.saved:
            self._tickets[pending] = ticket

    def _settled(self, pending: Pending, outcome: Outcome) -> None:
        message = pending.message
        ticket = self._tickets.pop(pending, None)
        is_kept = isinstance(outcome, SendError) and outcome.kept
        was_put = pending.number >= 0 and not (ticket is not None and self._journal.withdraw(ticket))
        self._untold[pending] = outcome
        if was_put and not is_kept:
            # A message that the application was told to have failed must not be sent by the next process.
            self._journal.put(Answered(message.id, message.to), lambda: self._tell(pending))
        if not was_put or is_kept or (isinstance(outcome, SendError) and outcome.code == "timeout"):
            # Whoever set a time is told when it is over, also by a storage that hangs.
            self._tell(pending)

    def _tell(self, pending: Pending) -> None:
        outcome = self._untold.pop(pending, None)
        if outcome is None:
            return
        answer = self._answers.pop(pending, None)
        if answer is not None and not answer.done():
            answer.set_result(outcome)
        self.announcer.announce(Settled(pending.message.id, pending.message.to, outcome))

    def _tell_all(self) -> None:
        """The client ends: every call gets its answer, written or not."""
        for pending in list(self._untold):
            self._tell(pending)

    def _done(self, work: Work, then: Callable[[], None]) -> None:
        """The application is done with it; once that is written it may be acked."""

        def written() -> None:
            self.intake.finished(work)
            self._wake()
            then()

        self._journal.put(Done(work.seq, work.name), written)

    def _wake(self) -> None:
        if self.session is not None:
            self.session.wake()

    def _say_users(self, kind: str, users: Iterable[str]) -> None:
        if self.session is not None:
            for portion in portions(users, self.session.limits.frame_bytes):
                self.say({"type": kind, "users": portion})

    def _say_status(self) -> None:
        state, text = self._status
        self.say({"type": "status", "state": state} | ({} if text is None else {"text": text}))

    def _stays_here(self, error: UnfitError, about: str) -> None:
        self.announcer.announce(Refused(error.code, error.reason, about))

    def _check_open(self) -> None:
        if self.closed is not None:
            raise ClosedError("the client is closed", self.closed.reason, self.closed.close_code)
        if self._main is None:
            raise NotConnectedError("the client was not started")

    def _arm_expiry(self, deadline: float) -> None:
        if deadline < math.inf and (self._expiry is None or deadline < self._expiry.when()):
            self._disarm_expiry()
            self._expiry = self._loop.call_at(deadline, self._expire)

    def _disarm_expiry(self) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None

    def _expire(self) -> None:
        self._expiry = None
        self.sends.expire(self._loop.time())
        self._arm_expiry(self.sends.expires_at())
        self._wake()

    async def _unless_leaving(self, work: Coroutine[Any, Any, _T]) -> _T | None:
        """What ``work`` comes to; `None` when the application leaves before that."""
        task = asyncio.create_task(work)
        either: set[asyncio.Future[Any]] = {task, self._leave}
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            await _discard(task)
            raise
        if task.done():
            return task.result()
        await _discard(task)
        return None


async def _discard(task: asyncio.Task[Any]) -> None:
    """Nobody wants what the task comes to. It may be there already, and with it a connection or an exception."""
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled() and task.exception() is None and isinstance(task.result(), Dialled):
        task.result().link.abort()
