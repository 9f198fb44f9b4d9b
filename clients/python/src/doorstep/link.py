"""One WebSocket connection, with a note of when anything came.

A message that takes minutes to come in over a slow line is a sign of life all the while, and so is a ping. The
WebSocket library tells of neither; were only complete messages counted, such a message would be broken off and begin
anew on every connection.
"""

import asyncio
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

#: How long the router may take to end the connection after the close frames.
CLOSE_TIMEOUT_S = 2.0
#: Of the close codes, those that stand for a close frame without one, or for none.
_NO_CODE = (1005, 1006)


class Link(ClientConnection):
    heard_at: float
    _is_ending = False
    _is_lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.heard_at = self.loop.time()
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        self.heard_at = self.loop.time()
        super().data_received(data)
        if self.protocol.close_rcvd is not None and not self._is_ending:
            # All is said. A router that does not end the connection would keep the client from coming back.
            self._is_ending = True
            self.loop.call_later(CLOSE_TIMEOUT_S, self.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_lost = True
        super().connection_lost(exc)

    def abort(self) -> None:
        """Ends the connection without another word."""
        # A transport that was closed while it still had something to write raises when it is aborted after its end.
        if not self._is_lost:
            self.transport.abort()


class Dial(connect):
    """Follows no redirects: they could lead a token anywhere."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


async def open_link(address: str, **options: Any) -> Link:
    link = await Dial(
        address,
        create_connection=Link,
        compression=None,
        # Who waits for this has a deadline for all of it.
        open_timeout=None,
        # The router pings. What it is silent for is judged by `heard_at`.
        ping_interval=None,
        close_timeout=CLOSE_TIMEOUT_S,
        **options,
    )
    assert isinstance(link, Link)  # noqa: S101 - by `create_connection`
    return link


def close_code(error: ConnectionClosed) -> int | None:
    return None if error.rcvd is None or error.rcvd.code in _NO_CODE else int(error.rcvd.code)


def close_reason(error: ConnectionClosed) -> str:
    if error.rcvd is None:
        return "it broke without a goodbye"
    return error.rcvd.reason or f"closed with {int(error.rcvd.code)}"
