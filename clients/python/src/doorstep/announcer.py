"""Events on their way to the application, apart from messages.

The connection is read on however slow the application is. Hence every kind of event is bounded here by its own means:
presence by folding, what is worthless later by dropping it, all others by dropping the oldest.
"""

import asyncio
import logging
from collections import deque

from .callbacks import call
from .events import Closed, Ephemeral, Event, Presence, PresenceChanged, PutOff
from .options import EventHandler

_log = logging.getLogger("doorstep")

#: Events that may wait before typing of a moment ago is dropped.
_WORTHLESS_LATER_MAX = 64
_WAITING_MAX = 4096


class Announcer:
    def __init__(self, on_event: EventHandler | None) -> None:
        self._on_event = on_event
        #: `None` stands for everything in `_presence`.
        self._waiting: deque[Event | None] = deque()
        self._presence: dict[str, Presence] = {}
        self._arrived = asyncio.Event()
        self._ended = False

    def announce(self, event: Event) -> None:
        if self._on_event is None or self._ended:
            return
        if isinstance(event, PresenceChanged):
            self._fold(event.users)
        elif isinstance(event, Ephemeral | PutOff) and len(self._waiting) >= _WORTHLESS_LATER_MAX:
            return
        else:
            self._waiting.append(event)
        if len(self._waiting) > _WAITING_MAX:
            self._drop_oldest()
        self._arrived.set()

    def forget_presence(self, users: list[str]) -> None:
        """Drops what waits of users that nobody watches any more."""
        for user in users:
            self._presence.pop(user, None)

    def close(self, closed: Closed) -> None:
        """The last event."""
        self.announce(closed)
        self._ended = True
        self._arrived.set()

    async def run(self) -> None:
        """Calls back for one event after another, until the last."""
        while self._waiting or not self._ended:
            if not self._waiting:
                self._arrived.clear()
                await self._arrived.wait()
                continue
            event = self._waiting.popleft()
            if event is None:
                users = tuple(self._presence.values())
                self._presence.clear()
                event = PresenceChanged(users) if users else None
            if event is not None:
                await self._tell(event)
                # A callback that waits for nothing must not keep everything else from its turn.
                await asyncio.sleep(0)

    async def _tell(self, event: Event) -> None:
        if self._on_event is None:
            return
        try:
            await call(self._on_event, event)
        except Exception:
            _log.exception("on_event failed for %s", type(event).__name__)

    def _fold(self, users: tuple[Presence, ...]) -> None:
        """A user who waits already is replaced: only the newest counts."""
        if users and not self._presence and None not in self._waiting:
            self._waiting.append(None)
        self._presence.update((entry.user, entry) for entry in users)

    def _drop_oldest(self) -> None:
        if self._waiting.popleft() is None:
            self._presence.clear()
        _log.warning("on_event is too slow, the oldest event was dropped")
