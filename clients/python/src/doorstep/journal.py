"""The way into the storage: changes in their order, as many at once as came together.

It must never say that a change is written before it is, nor give up on one that failed: a full disk may have room
again, and until then nothing goes out and nothing is acknowledged.
"""

import asyncio
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

Then = Callable[[], None]


class Journal:
    def __init__(self, storage: Storage | None, rng: random.Random) -> None:
        self._storage = storage
        self._backoff = Backoff(_RETRY_MIN_S, _RETRY_MAX_S, rng)
        self._changes: list[tuple[Change, Then | None]] = []
        self._wanted = asyncio.Event()
        self._drained = asyncio.Event()
        self._drained.set()

    @property
    def keeps(self) -> bool:
        """Whether there is a storage at all."""
        return self._storage is not None

    def put(self, change: Change, then: Then | None = None) -> None:
        """Has ``change`` written, and calls ``then`` when it is. Without a storage there is nothing to wait for."""
        if self._storage is None:
            if then is not None:
                then()
            return
        self._changes.append((change, then))
        self._wanted.set()
        self._drained.clear()

    async def run(self) -> None:
        """Writes until it is cancelled."""
        storage = self._storage
        while storage is not None:
            await self._wanted.wait()
            batch = self._changes[:_BATCH_MAX]
            await self._write(storage, [change for change, _ in batch])
            del self._changes[: len(batch)]
            if not self._changes:
                self._wanted.clear()
            for _, then in batch:
                if then is not None:
                    then()
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
