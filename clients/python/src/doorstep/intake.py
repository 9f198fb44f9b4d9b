"""What came in: each message once to the application, and acks for what it is done with.

Pure: time is handed in. It must never ack a message that the application may still be working on, nor one that this
connection did not bring (the router refuses such acks).
"""

import hashlib
import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from .frames import MessageFrame
from .storage import DONE_NAMES_MAX

#: Most messages that one ack waits for.
_ACK_BATCH_MAX = 32
#: Longest time that an ack waits for company, while the application works on what came behind it.
_ACK_DELAY_S = 0.01
#: The same when the application is done with all that came: only what is on its way could be company, and whoever
#: awaits each send waits for this ack.
_IDLE_ACK_DELAY_S = 0.001


class BeyondWindowError(Exception):
    """More messages are unacked than the router promised to send."""


@dataclass(slots=True, eq=False)
class Work:
    """A message that the application shall have, has, or is done with."""

    frame: MessageFrame
    seq: int
    name: bytes
    #: The application is done, and that is written down.
    done: bool = False


class Names:
    """Names of what was done last, the oldest forgotten first."""

    def __init__(self, names: Iterable[bytes] = ()) -> None:
        self._order: deque[bytes] = deque()
        self._known: set[bytes] = set()
        for name in names:
            self.add(name)

    def __contains__(self, name: bytes) -> bool:
        return name in self._known

    def __len__(self) -> int:
        return len(self._order)

    def add(self, name: bytes) -> None:
        if name in self._known:
            return
        self._known.add(name)
        self._order.append(name)
        if len(self._order) > DONE_NAMES_MAX:
            self._known.remove(self._order.popleft())


class Intake:
    """The receiving side's memory. It outlives connections."""

    def __init__(self, done_seq: int = 0, done_names: Iterable[bytes] = ()) -> None:
        self._done_seq = done_seq
        self._done_names = Names(done_names)
        #: What the application was or shall be given and is not done with.
        self._at_work: dict[bytes, Work] = {}
        #: What this connection brought and was not acked on it, in order; `None` was done before it came.
        self._unacked: deque[tuple[int, Work | None]] = deque()
        self._window = 1
        self._window_max = 1
        #: When the last ack went on this connection.
        self._acked_at = -math.inf

    def connected(self, window: int) -> None:
        """A new connection: everything unacked will come again, up to ``window`` at a time."""
        self._unacked.clear()
        self._window = max(window, 1)
        self._window_max = max(self._window_max, self._window)
        self._acked_at = -math.inf

    def admit(self, frame: MessageFrame, seq: int, message_id: str) -> Work | None:
        """Takes note of a message, and returns it as `Work` if the application shall have it."""
        if len(self._unacked) >= self._window:
            raise BeyondWindowError
        name = digest(frame.sender, message_id)
        work = self._at_work.get(name)
        if work is not None and (frame.redelivered or work.seq == seq):
            # The application has it already; it is acked when that is done.
            self._note(seq, work)
            return None
        if frame.redelivered and (seq <= self._done_seq or name in self._done_names):
            self._note(seq, None)
            return None
        if len(self._at_work) >= 2 * self._window_max:
            raise BeyondWindowError
        work = Work(frame, seq, name)
        # One whose sender used the id again is told apart by its seq; the older stays with its handler.
        self._at_work[name] = work
        self._note(seq, work)
        return work

    def finished(self, work: Work) -> None:
        """The application is done with it, and that is written down."""
        work.done = True
        if self._at_work.get(work.name) is work:
            del self._at_work[work.name]
        self._done_seq = max(self._done_seq, work.seq)
        self._done_names.add(work.name)

    def take_ack(self, now: float) -> int | None:
        """The ack that is due at ``now``."""
        return self.take_ack_now(now) if self.ack_at(now) <= now else None

    def take_ack_now(self, now: float) -> int | None:
        """The ack for everything done, due or not: the last word before leaving."""
        acked = None
        while self._unacked and _is_done(self._unacked[0]):
            acked, _ = self._unacked.popleft()
            self._acked_at = now
        return acked

    def ack_at(self, now: float) -> float:
        """When the next ack is due; infinite while there is nothing to ack."""
        # A batch above the window would never fill; half of it keeps the router pushing.
        batch = max(min(_ACK_BATCH_MAX, self._window // 2), 1)
        ready = 0
        for entry in self._unacked:
            if not _is_done(entry):
                break
            ready += 1
            if ready >= batch:
                return now
        if not ready:
            return math.inf
        return self._acked_at + (_IDLE_ACK_DELAY_S if ready == len(self._unacked) else _ACK_DELAY_S)

    def _note(self, seq: int, work: Work | None) -> None:
        if not self._unacked or self._unacked[-1][0] < seq:
            self._unacked.append((seq, work))


def digest(sender: str, message_id: str) -> bytes:
    """Sixteen bytes stand for a name of up to two hundred. ``/`` cannot occur in a user name, so the joined text is
    unambiguous.
    """
    name = f"{sender}/{message_id}".encode(errors="surrogatepass")
    return hashlib.blake2b(name, digest_size=16).digest()


def _is_done(entry: tuple[int, Work | None]) -> bool:
    _, work = entry
    return work is None or work.done
