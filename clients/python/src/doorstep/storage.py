"""What outlives a process: which device this is, what was not answered, what was done.

`Storage` is what a client asks of it; `MemoryStorage` outlives clients and not processes, `doorstep.FileStorage` both.
A storage belongs to one user on one device of one router, and to one running client at a time.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

#: Names of messages remembered, to recognise one that comes again under a new seq.
DONE_NAMES_MAX = 8192


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message to send. ``body`` is its JSON text: every repeat says the very same."""

    id: str
    to: str
    body: str
    ttl_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Identity:
    """Change: whom the storage belongs to. What is `None` stays as it was."""

    device: str | None = None
    user: str | None = None


@dataclass(frozen=True, slots=True)
class Kept:
    """Change: a message that is about to go out."""

    message: Outgoing


@dataclass(frozen=True, slots=True)
class Answered:
    """Change: a message that need not go out any more."""

    id: str
    to: str


@dataclass(frozen=True, slots=True)
class Done:
    """Change: the application is done with a message. ``name`` stands for its ``(sender, id)``."""

    seq: int
    name: bytes


Change = Identity | Kept | Answered | Done


@dataclass(frozen=True, slots=True)
class Stored:
    """What is in a storage."""

    device: str | None = None
    user: str | None = None
    #: In the order in which they were kept.
    outbox: tuple[Outgoing, ...] = ()
    #: The highest one.
    done_seq: int = 0
    #: The last `DONE_NAMES_MAX`, the oldest first.
    done_names: tuple[bytes, ...] = ()


class Storage(Protocol):
    """Where a client keeps what must outlive it. No two of these calls overlap."""

    async def open(self) -> Stored:
        """Takes possession, and returns what is there."""
        ...

    async def write(self, changes: Sequence[Change]) -> None:
        """Carries out the changes in their order, all of them or, if it raises, none. They must be durable when it
        returns. After an exception the client calls again with the same changes.
        """
        ...

    async def clear(self) -> None:
        """Removes everything: the device was forgotten."""
        ...

    async def close(self) -> None:
        """The client has ended. It may be opened again."""
        ...


class MemoryStorage:
    """Keeps everything for another client in the same process."""

    def __init__(self) -> None:
        self._identity = Identity()
        self._outbox: dict[tuple[str, str], Outgoing] = {}
        self._done_seq = 0
        self._done_names: deque[bytes] = deque(maxlen=DONE_NAMES_MAX)

    async def open(self) -> Stored:
        return Stored(
            device=self._identity.device,
            user=self._identity.user,
            outbox=tuple(self._outbox.values()),
            done_seq=self._done_seq,
            done_names=tuple(self._done_names),
        )

    async def write(self, changes: Sequence[Change]) -> None:
        for change in changes:
            match change:
                case Identity(device, user):
                    known = self._identity
                    self._identity = replace(known, device=device or known.device, user=user or known.user)
                case Kept(message):
                    self._outbox[message.id, message.to] = message
                case Answered(message_id, to):
                    self._outbox.pop((message_id, to), None)
                case Done(seq, name):
                    self._done_seq = max(self._done_seq, seq)
                    self._done_names.append(name)

    async def clear(self) -> None:
        self._identity = Identity()
        self._outbox.clear()
        self._done_seq = 0
        self._done_names.clear()

    async def close(self) -> None:
        pass
