"""The way into the storage: changes in their order, as many at once as came together.

It must never say that a change is written before it is, nor give up on one that failed: a full disk may have room
again, and until then nothing goes out and nothing is acknowledged.
"""

import asyncio
import itertools
import logging
import random
from collections.abc import Callable

from .reconnect import Backoff
from .storage import Change, Storage

_log = logging.getLogger("doorstep")

#: Changes that are written at once.
_BATCH_MAX = 512
_RETRY_MIN_S = 0.1
_RETRY_MAX_S = 5.0

Then = Callable[[], object]


class Journal:
    def __init__(self, storage: Storage | None, rng: random.Random) -> None:
        self._storage = storage
        self._backoff = Backoff(_RETRY_MIN_S, _RETRY_MAX_S, rng)
        #: By their tickets, in order.
        self._changes: dict[int, tuple[Change, Then | None]] = {}
        self._next_ticket = 0
        #: Changes before this ticket are being written.
        self._writing_before = 0
        self._wanted = asyncio.Event()
        self._drained = asyncio.Event()
        self._drained.set()

    @property
    def keeps(self) -> bool:
        """Whether there is a storage at all."""
        return self._storage is not None

    def put(self, change: Change, then: Then | None = None) -> int:
        """Has ``change`` written, and calls ``then`` when it is. Without a storage there is nothing to wait for.

        Returns a ticket for `withdraw`.
        """
        ticket = self._next_ticket
        self._next_ticket += 1
        if self._storage is not None:
            self._changes[ticket] = (change, then)
            self._wanted.set()
            self._drained.clear()
        elif then is not None:
            then()
        return ticket

    def withdraw(self, ticket: int) -> bool:
        """Takes a change back. False when it is, or may be, written. Without this, what is put and soon revoked would
        pile up while the storage does not write.
        """
        return ticket >= self._writing_before and self._changes.pop(ticket, None) is not None

    async def run(self) -> None:
        """Writes until it is cancelled."""
        storage = self._storage
        while storage is not None:
            await self._wanted.wait()
            batch = dict(itertools.islice(self._changes.items(), _BATCH_MAX))
            self._writing_before = max(batch, default=-1) + 1
            if batch:
                await self._write(storage, [change for change, _ in batch.values()])
            for ticket, (_, then) in batch.items():
                del self._changes[ticket]
                if then is not None:
                    then()
            if not self._changes:
                self._wanted.clear()
            if not self._changes:
                self._drained.set()

    async def drain(self, patience_s: float) -> bool:
        """Waits until everything is written; says whether it was in time."""
        try:
            async with asyncio.timeout(patience_s):
                await self._drained.wait()
        except TimeoutError:
            return False
        return True

    async def _write(self, storage: Storage, changes: list[Change]) -> None:
        while True:
            try:
                await storage.write(changes)
            except Exception:
                _log.exception("the storage does not write; nothing is sent or acknowledged until it does")
                await asyncio.sleep(self._backoff.next_s())
            else:
                self._backoff.reset()
                return
