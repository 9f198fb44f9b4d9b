"""What a storage keeps, and that it keeps it whatever happens to the process."""

import asyncio
import os
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from doorstep import (
    Answered,
    Done,
    FileStorage,
    Identity,
    Kept,
    MemoryStorage,
    Outgoing,
    Storage,
    StorageError,
    Stored,
)
from doorstep.storage import DONE_NAMES_MAX
from waiting import soon

#: Makes the storage of a test again, as the next process does.
Again = Callable[[], Storage]


@pytest.fixture(params=["memory", "file"])
async def again(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Again]:
    memory = MemoryStorage()
    opened: list[Storage] = []

    def make() -> Storage:
        opened.append(memory if request.param == "memory" else FileStorage(tmp_path / "bot.db"))
        return opened[-1]

    yield make
    for storage in opened:
        await storage.close()


async def test_a_new_one_is_empty(again: Again) -> None:
    assert await again().open() == Stored()


async def test_everything_is_there_again_in_its_order(again: Again) -> None:
    storage = again()
    await storage.open()
    first, second = Outgoing("2", "bob", '"ü\\ud800"', 5), Outgoing("1", "bob", "1")
    await storage.write([Identity(device="main"), Kept(first), Kept(second)])
    await storage.write([Identity(user="bot"), Kept(Outgoing("3", "bob", "3")), Answered("3", "bob")])
    await storage.write([Done(9, b"b"), Done(7, b"a")])
    await storage.close()
    assert await again().open() == Stored("main", "bot", (first, second), 9, (b"b", b"a"))


async def test_a_change_that_comes_twice_counts_once(again: Again) -> None:
    """A commit may have been done although it seemed to fail."""
    storage = again()
    await storage.open()
    kept = [Kept(Outgoing("1", "bob", "1")), Kept(Outgoing("2", "bob", "2"))]
    await storage.write(kept)
    await storage.write(kept[:1])
    await storage.close()
    stored = await again().open()
    assert [message.id for message in stored.outbox] == ["1", "2"]


async def test_names_are_a_ring(again: Again) -> None:
    storage = again()
    await storage.open()
    await storage.write([Done(n, str(n).encode()) for n in range(DONE_NAMES_MAX + 5)])
    await storage.close()
    stored = await again().open()
    assert (len(stored.done_names), stored.done_names[0]) == (DONE_NAMES_MAX, b"5")
    assert stored.done_seq == DONE_NAMES_MAX + 4


async def test_clear_leaves_nothing(again: Again) -> None:
    storage = again()
    await storage.open()
    await storage.write([Identity("main", "bot"), Kept(Outgoing("1", "bob", "1")), Done(1, b"a")])
    await storage.clear()
    await storage.close()
    assert await again().open() == Stored()


async def test_a_file_has_one_user_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("doorstep.file_storage._LOCK_WAIT_S", 0.1)
    first, second = FileStorage(tmp_path / "bot.db"), FileStorage(tmp_path / "bot.db")
    await first.open()
    with pytest.raises(StorageError, match="locked"):
        await second.open()
    with pytest.raises(StorageError, match="in use"):
        await first.open()
    await first.close()
    await second.open()
    await second.close()


async def test_a_file_that_is_none_is_said_to_be(tmp_path: Path) -> None:
    path = tmp_path / "bot.db"
    path.write_text("something else altogether " * 100)
    with pytest.raises(StorageError, match=r"bot\.db"):
        await FileStorage(path).open()
    with pytest.raises(StorageError, match="missing"):
        await FileStorage(tmp_path / "missing" / "bot.db").open()


async def test_a_file_of_another_version_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "bot.db"
    database = sqlite3.connect(path)
    database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(StorageError, match="another version"):
        await FileStorage(path).open()


async def test_a_batch_is_written_altogether_or_not_at_all(tmp_path: Path) -> None:
    storage = FileStorage(tmp_path / "bot.db")
    await storage.open()
    with pytest.raises(sqlite3.Error):
        await storage.write([Kept(Outgoing("1", "bob", "1")), Kept(Outgoing("2", "bob", None))])  # type: ignore[arg-type]
    await storage.write([Kept(Outgoing("3", "bob", "3"))])
    await storage.close()
    stored = await storage.open()
    assert [message.id for message in stored.outbox] == ["3"]
    await storage.close()


WRITER = """
import asyncio, sys
from doorstep import FileStorage, Kept, Outgoing

async def main():
    storage = FileStorage(sys.argv[1])
    await storage.open()
    for number in range(100_000):
        await storage.write([Kept(Outgoing(str(number), "bob", "0"))])
        print(number, flush=True)

asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs kill -9")
async def test_what_was_written_survives_kill_9(tmp_path: Path) -> None:
    path = tmp_path / "bot.db"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", WRITER, str(path), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    for _ in range(50):
        await soon(process.stdout.readline())
    os.kill(process.pid, signal.SIGKILL)
    rest = await soon(process.stdout.read())
    await soon(process.wait())
    last = int(rest.split()[-1]) if rest.split() else 49
    storage = FileStorage(path)
    stored = await storage.open()
    await storage.close()
    ids = [int(message.id) for message in stored.outbox]
    assert ids == list(range(len(ids)))
    assert len(ids) > last


async def test_it_syncs_every_commit(tmp_path: Path) -> None:
    storage = FileStorage(tmp_path / "bot.db")
    await storage.open()

    def pragma(name: str) -> object:
        assert storage._database is not None
        return storage._database.execute(f"PRAGMA {name}").fetchone()[0]

    assert await storage._do(lambda: (pragma("synchronous"), pragma("journal_mode"))) == (2, "wal")
    await storage.close()
