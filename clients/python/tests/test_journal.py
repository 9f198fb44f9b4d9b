"""The way into the storage."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence

import pytest

from doorstep import Change, Done, MemoryStorage
from doorstep.journal import Journal
from waiting import soon, until


class SlowStorage(MemoryStorage):
    def __init__(self) -> None:
        super().__init__()
        self.batches: list[int] = []
        self.may_write = asyncio.Event()
        self.failures = 0

    async def write(self, changes: Sequence[Change]) -> None:
        await self.may_write.wait()
        if self.failures:
            self.failures -= 1
            raise OSError("the disk is full")
        self.batches.append(len(changes))
        await super().write(changes)


@pytest.fixture
async def storage() -> SlowStorage:
    return SlowStorage()


@pytest.fixture
async def journal(storage: SlowStorage) -> AsyncIterator[Journal]:
    journal = Journal(storage, random.Random(7))
    running = asyncio.create_task(journal.run())
    yield journal
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_nothing_is_said_to_be_written_before_it_is(journal: Journal, storage: SlowStorage) -> None:
    written: list[int] = []
    for n in range(100):
        journal.put(Done(n, b"x"), lambda n=n: written.append(n))  # type: ignore[misc]
    await asyncio.sleep(0.05)
    assert written == []
    assert not await journal.drain(0.05)
    storage.may_write.set()
    assert await journal.drain(20)
    assert written == list(range(100))
    assert len(storage.batches) <= 2, "what came together is written together"


async def test_a_disk_that_is_full_is_tried_again(
    journal: Journal, storage: SlowStorage, caplog: pytest.LogCaptureFixture
) -> None:
    storage.failures = 2
    storage.may_write.set()
    written = asyncio.Event()
    journal.put(Done(1, b"x"), written.set)
    await soon(written.wait())
    assert caplog.text.count("the storage does not write") == 2
    assert (await storage.open()).done_seq == 1


async def test_what_is_revoked_before_it_is_written_does_not_pile_up(journal: Journal, storage: SlowStorage) -> None:
    first = journal.put(Done(1, b"x"))
    await asyncio.sleep(0.01)
    assert not journal.withdraw(first), "it may be written"
    written: list[int] = []
    for n in range(1000):
        ticket = journal.put(Done(n, b"y"), lambda: written.append(1))
        assert journal.withdraw(ticket)
        assert not journal.withdraw(ticket)
    assert len(journal._changes) == 1
    storage.may_write.set()
    assert await journal.drain(20)
    assert (storage.batches, written) == ([1], [])
    last = journal.put(Done(2, b"z"))
    assert journal.withdraw(last)
    assert await journal.drain(20), "nothing is left to wait for"


async def test_without_a_storage_there_is_nothing_to_wait_for() -> None:
    written: list[int] = []
    journal = Journal(None, random.Random(7))
    journal.put(Done(1, b"x"), lambda: written.append(1))
    assert written == [1]
    assert await journal.drain(0)
    await soon(journal.run())


async def test_what_is_put_while_a_batch_is_written_is_written_too(journal: Journal, storage: SlowStorage) -> None:
    written: list[int] = []
    storage.may_write.set()
    journal.put(Done(1, b"x"), lambda: journal.put(Done(2, b"y"), lambda: written.append(2)))
    await until(lambda: written == [2])
    assert (await storage.open()).done_names == (b"x", b"y")
