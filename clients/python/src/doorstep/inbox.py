"""Messages on their way to the application, one after another.

It must never count a message as done while the application may still be working on it, nor let one that fails for
ever hold up the others for ever.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable

from .announcer import Announcer
from .callbacks import call
from .errors import UnreadableBodyError
from .events import CaughtUp, Message
from .intake import Work
from .options import Options
from .reconnect import Backoff

_log = logging.getLogger("doorstep")

#: Back-off between the attempts of a handler.
_RETRY_MIN_S = 0.1
_RETRY_MAX_S = 5.0
#: Messages that are done and not yet written down as such. If the process dies now, so many come again.
_UNWRITTEN_MAX = 32


class Inbox:
    """Feeds either the handler, by `run`, or whoever calls `take`."""

    def __init__(
        self, options: Options, announcer: Announcer, done: Callable[[Work, Callable[[], None]], None]
    ) -> None:
        self._options = options
        self._announcer = announcer
        #: Notes that the application is done with a message, and calls back when that is written.
        self._note_done = done
        self._unwritten = 0
        self._written = asyncio.Event()
        self._waiting: deque[Work | CaughtUp] = deque()
        self._arrived = asyncio.Event()
        self._stopping = False
        #: A handler is running, which is given time to end.
        self._busy = False
        self._task: asyncio.Task[None] | None = None
        #: The application has it since the last `take`.
        self._taken: Work | None = None
        self._taking = False

    def push(self, work: Work) -> None:
        if not self._stopping:
            self._waiting.append(work)
            self._arrived.set()

    def push_caught_up(self, caught_up: CaughtUp) -> None:
        """Told when everything before it has been handed over, and only once if nothing came in between."""
        if not self._waiting:
            self._announcer.announce(caught_up)
        elif isinstance(self._waiting[-1], CaughtUp):
            self._waiting[-1] = caught_up
        else:
            self._waiting.append(caught_up)

    def start(self) -> None:
        """Begins to call the handler, if there is one."""
        if self._options.on_message is not None:
            self._task = asyncio.create_task(self._run(), name="doorstep-inbox")

    def is_called_by_handler(self) -> bool:
        return self._task is not None and asyncio.current_task() is self._task

    async def take(self) -> Message | None:
        """The next message; the one before is done. `None`: there will be none any more."""
        if self._task is not None:
            raise RuntimeError("on_message gets the messages of this client")
        if self._taking:
            raise RuntimeError("somebody waits for the next message already")
        self.finish_taken()
        self._taking = True
        try:
            work = await self._next()
        finally:
            self._taking = False
        self._taken = work
        return None if work is None else _message(work)

    def finish_taken(self) -> None:
        """The application is done with the message that it took last."""
        work, self._taken = self._taken, None
        if work is not None:
            self._done(work)

    async def stop(self, patience_s: float) -> None:
        """Hands nothing over any more, and gives a handler that is running the time to end."""
        self._stopping = True
        self._waiting.clear()
        self._arrived.set()
        self._written.set()
        task = self._task
        if task is None or task.done():
            return
        if self._busy:
            await asyncio.wait({task}, timeout=patience_s)
        if not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=max(patience_s, 1.0))
        if not task.done():
            _log.error("a handler does not end although it was cancelled; it is left behind")

    def cancel(self) -> None:
        self._stopping = True
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        while (work := await self._next()) is not None:
            if not await self._handle(_message(work)):
                return
            self._done(work)

    async def _next(self) -> Work | None:
        """It is taken from the queue only when nothing can come between: a caller may be cancelled."""
        # Handlers that wait for nothing would keep everything else from its turn, acks above all.
        await asyncio.sleep(0)
        while not self._stopping:
            if self._unwritten >= _UNWRITTEN_MAX:
                self._written.clear()
                await self._written.wait()
                continue
            if not self._waiting:
                self._arrived.clear()
                await self._arrived.wait()
                continue
            item = self._waiting[0]
            if isinstance(item, CaughtUp):
                self._waiting.popleft()
                self._announcer.announce(item)
            elif isinstance(item.frame.body, UnreadableBodyError):
                await self._poison(_message(item), item.frame.body)
                if self._waiting and self._waiting[0] is item:
                    self._waiting.popleft()
                self._done(item)
            else:
                self._waiting.popleft()
                return item
        return None

    def _done(self, work: Work) -> None:
        self._unwritten += 1
        self._note_done(work, self._done_is_written)

    def _done_is_written(self) -> None:
        self._unwritten -= 1
        self._written.set()

    async def _handle(self, message: Message) -> bool:
        """Whether the message is done."""
        backoff = Backoff(_RETRY_MIN_S, _RETRY_MAX_S, self._options.rng)
        for attempts_left in reversed(range(self._options.handler_attempts)):
            error = await self._attempt(message)
            if error is None:
                return True
            if self._stopping:
                return False
            _log.warning("on_message failed for %s", message.id, exc_info=error)
            if attempts_left == 0:
                await self._poison(message, error)
            else:
                await asyncio.sleep(backoff.next_s())
        return True

    async def _attempt(self, message: Message) -> Exception | None:
        handler = self._options.on_message
        if handler is None:
            return None
        self._busy = True
        try:
            await call(handler, message)
        except Exception as error:
            return error
        finally:
            self._busy = False
        return None

    async def _poison(self, message: Message, error: Exception) -> None:
        _log.error("message %s is given up and acknowledged: %s", message.id, error)
        if self._options.on_poison is None:
            return
        self._busy = True
        try:
            await call(self._options.on_poison, message, error)
        except Exception:
            _log.exception("on_poison failed for %s", message.id)
        finally:
            self._busy = False


def _message(work: Work) -> Message:
    frame = work.frame
    body = None if isinstance(frame.body, UnreadableBodyError) else frame.body
    return Message(work.seq, frame.id or "", frame.sender, body, frame.ts_ms, frame.redelivered)
