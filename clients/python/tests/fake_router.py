"""A router that says what a test wants, on a port of its own on loopback."""

import asyncio
import json
from types import TracebackType
from typing import Any, Self

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from waiting import QUIET_S, soon

Frame = dict[str, Any]

LIMITS = {
    "frame_bytes": 4096,
    "body_bytes": 1024,
    "window": 256,
    "sends_in_flight": 256,
    "heartbeat_ms": 30_000,
}


class Peer:
    """One connection, as the router has it."""

    def __init__(self, connection: ServerConnection) -> None:
        self._connection = connection
        self.hello: Frame = {}
        self.over = asyncio.Event()

    async def frame(self) -> Frame:
        """The client's next frame."""
        frame = json.loads(await soon(self._connection.recv()))
        assert isinstance(frame, dict)
        return frame

    async def expect(self, kind: str, **fields: object) -> Frame:
        """The client's next frame, which must have these fields."""
        frame = await self.frame()
        assert frame["type"] == kind, frame
        assert {name: frame.get(name) for name in fields} == fields, frame
        return frame

    async def is_quiet(self) -> None:
        """Nothing comes."""
        try:
            text = await asyncio.wait_for(self._connection.recv(), QUIET_S)
        except TimeoutError:
            return
        raise AssertionError(f"the client said {text!r}")

    async def say(self, kind: str, **fields: object) -> None:
        await self.say_text(json.dumps({"type": kind} | fields))

    async def say_text(self, text: str) -> None:
        await self._connection.send(text)

    async def welcome(self, **fields: Any) -> None:
        self.hello = await self.expect("hello")
        limits = LIMITS | fields.pop("limits", {})
        said: Frame = {
            "user": self.hello.get("user", "bot"),
            "device": self.hello["device"],
            "session": "01KAW3A0C5W2V8T6K9Q4ZJ7XYM",
            "protocol": 1,
            "server": "fake/1",
            "registered": False,
            "pending": 0,
            "cursor": 0,
        }
        await self.say("welcome", **(said | fields), limits=limits)

    async def message(self, seq: int, body: object = None, **fields: object) -> None:
        said = {"seq": seq, "id": f"m{seq}", "from": "alice", "ts_ms": 1, "body": body}
        await self.say("message", **(said | fields))

    async def accept(self, send: Frame, seq: int = 1, *, stored: bool = False) -> None:
        await self.say("accepted", id=send["id"], to=send["to"], seq=seq, stored=stored)

    async def reject(self, send: Frame, code: str, **fields: object) -> None:
        await self.say("rejected", id=send["id"], to=send["to"], code=code, reason="so", **fields)

    async def close(self, code: int, reason: str = "") -> None:
        await self._connection.close(code, reason)

    def drop(self) -> None:
        """Without a goodbye."""
        self._connection.transport.abort()

    def ping(self) -> None:
        """One of the WebSocket, that nobody waits for."""
        self._connection.protocol.send_ping(b"")
        self._connection.send_data()

    async def close_code(self) -> int | None:
        """How the client ended the connection; `None`: without a close frame."""
        try:
            while True:
                await soon(self._connection.recv())
        except ConnectionClosed as error:
            return None if error.rcvd is None else int(error.rcvd.code)


class FakeRouter:
    def __init__(self) -> None:
        self._peers: asyncio.Queue[Peer] = asyncio.Queue()
        self._all: list[Peer] = []
        self._server: Server | None = None
        #: HTTP statuses that the next attempts are answered with.
        self.statuses: list[int] = []
        self.retry_after: str | None = None
        self.attempts = 0

    async def __aenter__(self) -> Self:
        self._server = await serve(
            self._serve,
            "127.0.0.1",
            0,
            subprotocols=[Subprotocol("doorstep.v1")],
            compression=None,
            ping_interval=None,
            max_size=None,
            process_request=self._process,
            close_timeout=1,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        for peer in self._all:
            peer.over.set()
            peer.drop()
        self._server.close()
        await soon(self._server.wait_closed())

    @property
    def url(self) -> str:
        assert self._server is not None
        port = next(iter(self._server.sockets)).getsockname()[1]
        return f"ws://127.0.0.1:{port}/v1/connect"

    async def peer(self) -> Peer:
        """The next connection."""
        return await soon(self._peers.get())

    async def session(self, **welcome: Any) -> Peer:
        """The next connection, with its ``hello`` answered."""
        peer = await self.peer()
        await peer.welcome(**welcome)
        return peer

    async def is_left_alone(self) -> None:
        """Nobody connects."""
        before = self.attempts
        await asyncio.sleep(QUIET_S)
        assert self.attempts == before

    async def _process(self, connection: ServerConnection, request: Request) -> Response | None:
        self.attempts += 1
        if not self.statuses:
            return None
        response = connection.respond(self.statuses.pop(0), "no\n")
        if self.retry_after is not None:
            response.headers["retry-after"] = self.retry_after
        return response

    async def _serve(self, connection: ServerConnection) -> None:
        peer = Peer(connection)
        self._all.append(peer)
        self._peers.put_nowait(peer)
        # What ends the connection is the test, or the client.
        await asyncio.wait(
            {asyncio.ensure_future(peer.over.wait()), asyncio.ensure_future(connection.wait_closed())},
            return_when=asyncio.FIRST_COMPLETED,
        )
        peer.over.set()
