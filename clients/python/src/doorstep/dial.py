"""From an address to a session: connect, upgrade, ``hello``, ``welcome``.

It knows nothing of what goes on in a session, and it must always come to an end: the whole way is under one deadline.
"""

import asyncio
from dataclasses import dataclass, replace
from typing import Any

from websockets.exceptions import (
    ConnectionClosed,
    InvalidProxy,
    InvalidStatus,
    InvalidURI,
    WebSocketException,
)
from websockets.typing import Subprotocol

from .envelope import FrameError
from .events import Connected, State
from .fitting import frame_text
from .frames import GoodbyeFrame, server_frame
from .link import Link, close_code, close_reason, open_link
from .options import Options
from .reconnect import Advice, Ended, close_code_of_status, spread_s

SUBPROTOCOL = Subprotocol("doorstep.v1")
#: The most that a router may be told to let through. A lower bound would meet a message above it again on every
#: connection, and never get past it.
_FRAME_BYTES_CEILING = 64 << 20
_USER_AGENT = "doorstep-python/0.1.0"


class DialError(Exception):
    """There is no session."""

    def __init__(self, ended: Ended) -> None:
        super().__init__(ended.reason)
        self.ended = ended


@dataclass(frozen=True, slots=True)
class Dialled:
    """A session that has begun."""

    link: Link
    welcome: Connected
    #: What ``hello`` said. The application may have said something else since.
    status: State


class Dialler:
    """Remembers the token that was refused, so that it is not tried again."""

    def __init__(self, options: Options, device: str) -> None:
        self._options = options
        self._device = device
        #: The one that holds for the connection that is, or the one shown last for one.
        self.token: str | None = None
        self._refusal: Ended | None = None

    def refused(self, ended: Ended) -> None:
        """The token shown last is no good."""
        self._refusal = ended

    async def dial(self, status: State) -> Dialled:
        """Begins a session. Raises `DialError`."""
        try:
            async with asyncio.timeout(self._options.connect_timeout_s):
                await self._ask_token()
                link = await self._upgrade()
                try:
                    await link.send(self._hello(status))
                    welcome = await _welcome(link)
                except BaseException:
                    link.abort()
                    raise
                # What a token was refused for has passed: the next refusal is the first of another kind.
                self._refusal = None
                return Dialled(link, welcome, status)
        except TimeoutError:
            raise DialError(Ended.trouble("connecting took too long")) from None
        except ConnectionClosed as error:
            raise DialError(Ended.closed(close_code(error), close_reason(error))) from None

    async def _ask_token(self) -> None:
        try:
            token = await self._options.provide_token()
        except Exception as error:
            raise DialError(Ended.trouble(f"no token: {error}")) from error
        if self._refusal is not None and token in (None, self.token):
            raise DialError(replace(self._refusal, advice=Advice.NO_TOKEN))
        self.token = token

    async def _upgrade(self) -> Link:
        options: dict[str, Any] = {} if self._options.ssl is None else {"ssl": self._options.ssl}
        try:
            return await open_link(
                self._options.address(),
                subprotocols=[SUBPROTOCOL],
                max_size=_FRAME_BYTES_CEILING,
                user_agent_header=_USER_AGENT,
                proxy=self._options.proxy,
                **options,
            )
        except TimeoutError:
            raise
        except InvalidStatus as error:
            raise DialError(self._refused(error)) from None
        except (InvalidURI, InvalidProxy, ValueError) as error:
            raise DialError(Ended.impossible(str(error))) from None
        except (OSError, EOFError, WebSocketException) as error:
            raise DialError(Ended.trouble(str(error) or type(error).__name__)) from None

    def _refused(self, error: InvalidStatus) -> Ended:
        status = error.response.status_code
        retry_after = error.response.headers.get("retry-after", "")
        wait = spread_s(int(retry_after), self._options.rng) if retry_after.isdecimal() else None
        return Ended.closed(close_code_of_status(status), f"the router answered with HTTP {status}", wait)

    def _hello(self, status: State) -> str:
        fields = {
            "token": self.token,
            "user": self._options.user,
            "device": self._device,
            "status": status,
            "window": self._options.window,
        }
        said = {name: value for name, value in fields.items() if value is not None}
        return frame_text({"type": "hello", **said})


async def _welcome(link: Link) -> Connected:
    goodbye: GoodbyeFrame | None = None
    while True:
        try:
            text = await link.recv()
        except ConnectionClosed as error:
            raise DialError(ended(error, goodbye)) from None
        try:
            frame = server_frame(text) if isinstance(text, str) else None
        except FrameError as error:
            raise DialError(Ended.trouble(f"not a doorstep router: {error}")) from None
        if isinstance(frame, Connected):
            return frame
        if isinstance(frame, GoodbyeFrame):
            goodbye = frame


def ended(error: ConnectionClosed, goodbye: GoodbyeFrame | None) -> Ended:
    """What the end of a connection means, seen together with the ``goodbye`` before it."""
    code = close_code(error)
    if goodbye is None:
        return Ended.closed(code, close_reason(error))
    return Ended.closed(code or goodbye.code, goodbye.reason or close_reason(error), goodbye.retry_after_s)
