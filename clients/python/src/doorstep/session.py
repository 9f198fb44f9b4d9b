"""A client while it has a connection: frames in, frames out.

Four tasks share the work: one reads, one writes, one watches for silence, one renews the token. None of them ever
waits for the application, and reading never waits for writing: the router may be doing the same, and then neither
would ever go on. The session must never take a message for delivered that it could not read.
"""

import asyncio
import logging
import math
from typing import TYPE_CHECKING, Any

from websockets.exceptions import ConnectionClosed

from .dial import Dialled, ended
from .envelope import FrameError
from .errors import UnreadableBodyError
from .events import Accepted, CaughtUp, Connected, Ephemeral, PresenceChanged, PutOff, Refused
from .fitting import SendFrame, UnfitError, frame_text
from .frames import (
    CaughtUpFrame,
    ErrorFrame,
    GoodbyeFrame,
    MessageFrame,
    PongFrame,
    PresenceFrame,
    RejectedFrame,
    ServerFrame,
    TokenOkFrame,
    UnreadableMessageError,
    server_frame,
)
from .intake import BeyondWindowError
from .reconnect import Ended
from .renewal import Renewal
from .said import Said

if TYPE_CHECKING:
    from .core import Core

_log = logging.getLogger("doorstep")

#: How long a polite end may take.
LEAVE_MAX_S = 2.0
#: A shorter heartbeat of the router is not believed: a busy event loop would take itself for cut off.
_HEARTBEAT_MIN_S = 0.5


class Session:
    def __init__(self, core: "Core", dialled: Dialled) -> None:
        self._core = core
        self._link = dialled.link
        self._loop = asyncio.get_running_loop()
        self.welcome = dialled.welcome
        self.limits = dialled.welcome.limits
        self._goodbye: GoodbyeFrame | None = None
        self._said = Said()
        self._wake = asyncio.Event()
        self._pings: dict[int, asyncio.Future[None]] = {}
        self._next_ping = 0
        self._leaving = False
        #: Resolved from outside the four tasks.
        self._broken: asyncio.Future[Ended] = self._loop.create_future()
        self._renewal = Renewal(core.options, core.dialler, self._show_token)
        self._silence_max_s = 2 * max(self.limits.heartbeat_ms / 1000, _HEARTBEAT_MIN_S)

    async def run(self, leave: "asyncio.Future[None]") -> Ended | None:
        """Lives through the session; `None` when ``leave`` was resolved."""
        reader = asyncio.create_task(self._read(), name="doorstep-reader")
        writer = asyncio.create_task(self._write(), name="doorstep-writer")
        watchdog = asyncio.create_task(self._watch_for_silence(), name="doorstep-watchdog")
        renewal = asyncio.create_task(self._renewal.run(self.welcome.expires_ms), name="doorstep-renewal")
        ends: tuple[asyncio.Future[Ended], ...] = (reader, watchdog, self._broken)
        try:
            watched: tuple[asyncio.Future[Any], ...] = (*ends, writer, leave)
            await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
            for end in ends:
                if end.done():
                    return end.result()
            if writer.done():
                # It ends only by a mistake of its own, which shall be seen.
                writer.result()
            await self._leave(reader, writer)
            return None
        finally:
            self._link.abort()
            self._broken.cancel()
            tasks = (reader, writer, watchdog, renewal)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for ping in self._pings.values():
                ping.cancel()

    def wake(self) -> None:
        """There may be something to write."""
        self._wake.set()

    def say(self, text: str) -> None:
        self._said.push(text)
        if self._said.is_too_much(self.limits.frame_bytes) and not self._broken.done():
            self._broken.set_result(Ended.trouble("the router does not read"))
        self.wake()

    def has_room_for_an_ephemeral(self) -> bool:
        return self._said.has_room_for_an_ephemeral()

    @property
    def pings_waiting(self) -> int:
        return len(self._pings)

    def ping(self) -> "asyncio.Future[None]":
        """Resolved by the answer, cancelled when there will be none."""
        self._next_ping += 1
        answer: asyncio.Future[None] = self._loop.create_future()
        number = self._next_ping
        self._pings[number] = answer
        answer.add_done_callback(lambda _: self._pings.pop(number, None))
        self.say(frame_text({"type": "ping", "n": number}))
        return answer

    # Writing.

    async def _write(self) -> None:
        try:
            while True:
                self._wake.clear()
                now = self._loop.time()
                text = self._next_text(now)
                if text is None:
                    await self._sleep_until(self._due_at(now))
                else:
                    await self._link.send(text)
        except ConnectionClosed:
            # What was sent before may still have an answer, so that the reader decides when this is the end.
            await self._loop.create_future()

    def _next_text(self, now: float) -> str | None:
        seq = self._core.intake.take_ack(now)
        if seq is not None:
            return _ack(seq)
        return self._said.pop() or self._next_send(now)

    def _next_send(self, now: float) -> str | None:
        sends = self._core.sends
        while sends.in_flight < self._flight_max():
            pending = sends.next_due(now)
            if pending is None:
                return None
            message = pending.message
            frame = SendFrame(message.to, message.body, message.id, message.ttl_ms, pending.retry)
            try:
                text = frame.text(self.limits)
            except UnfitError as error:
                sends.unfit(pending, error)
            else:
                sends.written(pending)
                return text
        return None

    def _flight_max(self) -> int:
        # Without the floor a router that says 0 would never hear of a message again.
        return max(self.limits.sends_in_flight, 1)

    def _due_at(self, now: float) -> float:
        """When there is something to write next, as far as that depends on time."""
        sends = self._core.sends
        send_at = sends.due_at() if sends.in_flight < self._flight_max() else math.inf
        return min(self._core.intake.ack_at(now), send_at)

    async def _sleep_until(self, due_at: float) -> None:
        try:
            async with asyncio.timeout_at(None if due_at == math.inf else due_at):
                await self._wake.wait()
        except TimeoutError:
            pass

    # Reading.

    async def _read(self) -> Ended:
        while True:
            try:
                text = await self._link.recv()
            except ConnectionClosed as error:
                return ended(error, self._goodbye)
            if not isinstance(text, str):
                _log.warning("a binary message was ignored")
                continue
            try:
                frame = server_frame(text)
            except UnreadableMessageError as error:
                return Ended.trouble(f"unreadable message: {error}")
            except FrameError as error:
                _log.warning("an unreadable frame was ignored: %s", error)
                continue
            trouble = None if frame is None else self._hear(frame)
            if trouble is not None:
                return trouble
            self.wake()

    def _hear(self, frame: ServerFrame) -> Ended | None:
        core = self._core
        match frame:
            case MessageFrame():
                return None if self._leaving else self._receive(frame)
            case Accepted():
                core.sends.accepted(frame)
            case RejectedFrame():
                self._rejected(frame)
            case CaughtUpFrame():
                core.inbox.push_caught_up(CaughtUp(frame.seq))
            case PresenceFrame():
                core.announcer.announce(PresenceChanged(core.watching.newer(frame.users)))
            case TokenOkFrame():
                self._renewal.answered(frame.expires_ms)
            case PongFrame():
                self._pong(frame)
            case ErrorFrame():
                self._error(frame)
            case GoodbyeFrame():
                self._goodbye = frame
            case Connected():
                pass
        return None

    def _receive(self, frame: MessageFrame) -> Ended | None:
        if frame.seq is None or frame.id is None:
            if isinstance(frame.body, UnreadableBodyError):
                _log.warning("an unreadable ephemeral message from %s was ignored", frame.sender)
            else:
                self._core.announcer.announce(Ephemeral(frame.sender, frame.body, frame.ts_ms))
            return None
        try:
            work = self._core.intake.admit(frame, frame.seq, frame.id)
        except BeyondWindowError:
            return Ended.trouble("more messages than the window allows")
        if work is not None:
            self._core.inbox.push(work)
        return None

    def _rejected(self, frame: RejectedFrame) -> None:
        put_off = self._core.sends.rejected(frame, self._loop.time())
        if put_off:
            self._core.announcer.announce(PutOff(frame.id or "", frame.to or "", frame.code, frame.reason))
        elif put_off is None and frame.id is None:
            # One that belongs to no durable send belongs to an ephemeral one.
            self._core.announcer.announce(Refused(frame.code, frame.reason, frame.to))

    def _pong(self, frame: PongFrame) -> None:
        answer = None if frame.n is None else self._pings.get(frame.n)
        if answer is not None and not answer.done():
            answer.set_result(None)

    def _error(self, frame: ErrorFrame) -> None:
        # What is wrong with a token may pass, as when it is not valid yet or came too soon.
        if frame.ref == "token":
            self._renewal.answered(None)
        self._core.announcer.announce(Refused(frame.code, frame.reason, frame.ref))

    def _show_token(self, token: str) -> bool:
        return self._core.say({"type": "token", "token": token})

    # Ending.

    async def _watch_for_silence(self) -> Ended:
        """The router pings an idle session every heartbeat, so that twice of it means that it is gone."""
        while True:
            dead_at = self._link.heard_at + self._silence_max_s
            await asyncio.sleep(max(dead_at - self._loop.time(), 0))
            # Were the event loop held up, what came in meanwhile is read first.
            await asyncio.sleep(0)
            if self._loop.time() >= self._link.heard_at + self._silence_max_s:
                return Ended.trouble("the router fell silent")

    async def _leave(self, reader: "asyncio.Task[Ended]", writer: "asyncio.Task[None]") -> None:
        """The last ack and the close frame, and the answers that are still under way."""
        self._leaving = True
        writer.cancel()
        await asyncio.gather(writer, return_exceptions=True)
        seq = self._core.intake.take_ack_now(self._loop.time())
        try:
            async with asyncio.timeout(LEAVE_MAX_S):
                if seq is not None:
                    await self._link.send(_ack(seq))
                while (text := self._said.pop()) is not None:
                    await self._link.send(text)
                await self._link.close(1000)
                await asyncio.wait({reader})
        except TimeoutError:
            _log.debug("the router did not answer the close frame")
        except ConnectionClosed:
            await asyncio.wait({reader}, timeout=LEAVE_MAX_S)


def _ack(seq: int) -> str:
    return f'{{"type":"ack","seq":{seq}}}'
