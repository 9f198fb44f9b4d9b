"""A storage in one file, by the standard library's SQLite.

What `write` returned for is on the disk: the database syncs before a commit returns. All of it happens in a thread of
its own, so that a slow disk never holds up the event loop.
"""

import asyncio
import os
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TypeVar

from .errors import StorageError
from .storage import DONE_NAMES_MAX, Answered, Change, Done, Identity, Kept, Outgoing, Stored

_T = TypeVar("_T")

_VERSION = 1
#: A process that is just ending holds the file for a moment.
_LOCK_WAIT_S = 5.0
_SCHEMA = """
    CREATE TABLE identity (
        one INTEGER PRIMARY KEY CHECK (one = 1), device TEXT, user TEXT, done_seq INTEGER NOT NULL
    );
    INSERT INTO identity VALUES (1, NULL, NULL, 0);
    CREATE TABLE outbox (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL, recipient TEXT NOT NULL, body TEXT NOT NULL, ttl_ms INTEGER,
        UNIQUE (id, recipient)
    );
    CREATE TABLE done (number INTEGER PRIMARY KEY AUTOINCREMENT, name BLOB NOT NULL);
"""


class FileStorage:
    """Keeps everything in the file ``path``, which is made when it is missing.

    The file is locked by the client that uses it: another one, also of another process, gets a `StorageError`.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = os.fspath(path)
        self._thread: ThreadPoolExecutor | None = None
        self._database: sqlite3.Connection | None = None

    async def open(self) -> Stored:
        if self._thread is not None:
            raise StorageError(f"{self._path} is in use by another client")
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="doorstep-storage")
        try:
            return await self._do(self._open)
        except BaseException as error:
            await self.close()
            if isinstance(error, sqlite3.Error | OSError):
                raise StorageError(f"{self._path}: {error}") from error
            raise

    async def write(self, changes: Sequence[Change]) -> None:
        await self._do(lambda: self._write(changes))

    async def clear(self) -> None:
        await self._do(self._clear)

    async def close(self) -> None:
        thread, self._thread = self._thread, None
        if thread is None:
            return
        closed = thread.submit(self._close)
        # The thread ends by itself after that, whether or not anybody waits for it.
        thread.shutdown(wait=False)
        await asyncio.wrap_future(closed)

    async def _do(self, work: Callable[[], _T]) -> _T:
        if self._thread is None:
            raise StorageError(f"{self._path} is not open")
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    # What follows runs in the thread.

    def _open(self) -> Stored:
        database = sqlite3.connect(self._path, timeout=_LOCK_WAIT_S, isolation_level=None)
        self._database = database
        database.execute("PRAGMA locking_mode = EXCLUSIVE")
        # The lock comes with the first write and stays. Nothing else keeps two processes from being one device.
        database.execute("BEGIN EXCLUSIVE")
        database.execute("COMMIT")
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        self._make_tables(database)
        return self._load(database)

    def _make_tables(self, database: sqlite3.Connection) -> None:
        (version,) = database.execute("PRAGMA user_version").fetchone()
        if version == 0:
            # One transaction: a process that ends in the middle leaves no half of it.
            database.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {_VERSION}; COMMIT;")
        elif version != _VERSION:
            raise StorageError(f"{self._path} was written by another version of this library ({version})")

    def _load(self, database: sqlite3.Connection) -> Stored:
        identity = database.execute("SELECT device, user, done_seq FROM identity")
        device, user, done_seq = identity.fetchone()
        outbox = database.execute("SELECT id, recipient, body, ttl_ms FROM outbox ORDER BY number")
        names = database.execute("SELECT name FROM done ORDER BY number")
        return Stored(
            device=device,
            user=user,
            outbox=tuple(Outgoing(*row) for row in outbox),
            done_seq=done_seq,
            done_names=tuple(bytes(name) for (name,) in names),
        )

    def _write(self, changes: Sequence[Change]) -> None:
        def apply(cursor: sqlite3.Cursor) -> None:
            for change in changes:
                _apply(cursor, change)

        self._transaction(apply)

    def _clear(self) -> None:
        self._transaction(_empty)

    def _transaction(self, work: Callable[[sqlite3.Cursor], object]) -> None:
        if self._database is None:
            raise StorageError(f"{self._path} is not open")
        with closing(self._database.cursor()) as cursor:
            cursor.execute("BEGIN IMMEDIATE")
            try:
                work(cursor)
                cursor.execute("COMMIT")
            except BaseException:
                # A failed COMMIT may have ended the transaction by itself.
                if self._database.in_transaction:
                    cursor.execute("ROLLBACK")
                raise

    def _close(self) -> None:
        database, self._database = self._database, None
        if database is not None:
            database.close()


def _apply(cursor: sqlite3.Cursor, change: Change) -> None:
    match change:
        case Identity(device, user):
            cursor.execute("UPDATE identity SET device = coalesce(?, device), user = coalesce(?, user)", (device, user))
        case Kept(message):
            row = (message.id, message.to, message.body, message.ttl_ms)
            # It is there already when a commit was done although it seemed to fail; it keeps its place.
            cursor.execute(
                "INSERT INTO outbox (id, recipient, body, ttl_ms) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
                row,
            )
        case Answered(message_id, to):
            cursor.execute("DELETE FROM outbox WHERE id = ? AND recipient = ?", (message_id, to))
        case Done(seq, name):
            cursor.execute("UPDATE identity SET done_seq = max(done_seq, ?)", (seq,))
            cursor.execute("INSERT INTO done (name) VALUES (?)", (name,))
            newest = cursor.lastrowid or 0
            cursor.execute("DELETE FROM done WHERE number <= ?", (newest - DONE_NAMES_MAX,))


def _empty(cursor: sqlite3.Cursor) -> None:
    cursor.execute("DELETE FROM outbox")
    cursor.execute("DELETE FROM done")
    cursor.execute("UPDATE identity SET device = NULL, user = NULL, done_seq = 0")
