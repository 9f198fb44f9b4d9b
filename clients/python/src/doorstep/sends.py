"""Messages on their way out, from the application's call to the router's answer.

Pure: time and randomness are handed in. A message is repeated with the same id until it is answered for good or its
time is over. It must never let a message overtake an earlier one to the same recipient that waits for its repeat, and
never call a message "not taken" that may have been.
"""

import heapq
import math
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from .errors import SendError
from .events import Accepted
from .fitting import UnfitError
from .frames import RejectedFrame
from .reconnect import Backoff
from .storage import Outgoing

#: Bytes that messages without a final answer may cost together; what is beyond waits for room.
PENDING_BYTES_MAX = 16 << 20
#: What a message costs beside its body.
_PENDING_BYTES = 4 << 10
#: Back-off between repeats when the router names no time.
_REPEAT_MIN_S = 0.1
_REPEAT_MAX_S = 5.0

_WORTH_A_REPEAT = frozenset(
    ("rate_limited", "queue_full", "overloaded", "storage_unavailable", "shutting_down", "unknown_outcome")
)

Outcome = Accepted | SendError


@dataclass(slots=True, eq=False)
class Pending:
    """A message without a final answer."""

    message: Outgoing
    #: On the clock of the caller; infinite for what has no end.
    deadline: float
    backoff: Backoff
    #: Some attempt went out, or was made by an earlier process, whose outcome is unknown. Sticky: a later refusal
    #: says nothing of it.
    maybe_taken: bool = False
    #: Whatever goes out from now on is a repeat.
    retry: bool = False
    #: It is in the storage, or there is none. Before that it must not go out.
    saved: bool = False
    in_flight: bool = False
    not_before: float = 0.0
    last_code: str | None = None
    #: In the order of the calls; negative until there is room for it.
    number: int = -1
    cost: int = field(init=False)

    def __post_init__(self) -> None:
        # The largest need all the room there is.
        self.cost = min(len(self.message.body.encode()) + _PENDING_BYTES, PENDING_BYTES_MAX)


class Sends:
    """All messages that have no final answer yet, in the order of the calls."""

    def __init__(
        self,
        rng: random.Random,
        admitted: Callable[[Pending], None],
        settled: Callable[[Pending, Outcome], None],
    ) -> None:
        self._rng = rng
        #: Told when there is room for a message, in the order of the calls; it then has to become `saved`.
        self._admitted = admitted
        self._settled = settled
        self._pending: dict[int, Pending] = {}
        self._by_name: dict[tuple[str, str], Pending] = {}
        self._backlog: deque[Pending] = deque()
        #: For each recipient the numbers of what is not in flight, the first call first.
        self._lanes: dict[str, list[int]] = {}
        #: The heads of lanes by the time from which on they may go out. Entries may be out of date.
        self._heads: list[tuple[float, int]] = []
        self._deadlines: list[tuple[float, int]] = []
        self._next_number = 0
        self._bytes = 0
        self._in_flight = 0

    @property
    def in_flight(self) -> int:
        return self._in_flight

    def __len__(self) -> int:
        return len(self._by_name)

    def submit(self, message: Outgoing, now: float, deadline: float = math.inf, *, repeat: bool = False) -> Pending:
        """Takes a message. Raises `SendError` when one of its name is here already."""
        name = (message.id, message.to)
        if name in self._by_name:
            reason = "it is being sent already"
            raise SendError(*name, "already_pending", reason, maybe_taken=True)
        backoff = Backoff(_REPEAT_MIN_S, _REPEAT_MAX_S, self._rng)
        pending = Pending(message, deadline, backoff, maybe_taken=repeat, retry=repeat, not_before=now)
        self._by_name[name] = pending
        if self._backlog or not self._has_room(pending):
            self._backlog.append(pending)
        else:
            self._admit(pending)
        return pending

    def restore(self, message: Outgoing, now: float) -> None:
        """Takes a message of an earlier process, which may have sent it."""
        backoff = Backoff(_REPEAT_MIN_S, _REPEAT_MAX_S, self._rng)
        pending = Pending(message, math.inf, backoff, maybe_taken=True, retry=True, not_before=now)
        self._by_name[message.id, message.to] = pending
        self._number(pending)
        self.saved(pending)

    def give_up(self, pending: Pending) -> None:
        """The caller was cancelled. A message that is under way is not recalled; one that waits for room never
        began.
        """
        if pending.number < 0 and self._by_name.get((pending.message.id, pending.message.to)) is pending:
            self._finish(pending, self._failure(pending, "closed", "the caller was cancelled"))

    def saved(self, pending: Pending) -> None:
        """It is in the storage, from where on it may go out."""
        pending.saved = True
        self._offer(pending.message.to)

    def next_due(self, now: float) -> Pending | None:
        """The message that may go out first, if one may."""
        head = self._first_head()
        return head if head is not None and head.not_before <= now else None

    def due_at(self) -> float:
        """When `next_due` has something, as far as that depends on time."""
        head = self._first_head()
        return math.inf if head is None else head.not_before

    def written(self, pending: Pending) -> None:
        """It goes out now."""
        heapq.heappop(self._lanes[pending.message.to])
        pending.in_flight = True
        pending.retry = True
        self._in_flight += 1
        self._offer(pending.message.to)

    def unfit(self, pending: Pending, error: UnfitError) -> None:
        """It cannot be said to this router."""
        self._finish(pending, self._failure(pending, error.code, error.reason))

    def accepted(self, frame: Accepted) -> None:
        pending = self._by_name.get((frame.id, frame.to))
        if pending is not None and pending.number >= 0:
            self._finish(pending, frame)

    def rejected(self, frame: RejectedFrame, now: float) -> bool | None:
        """What a rejection means: `None`, nothing for these messages; `True`, one is put off for a reason that is
        new to it.
        """
        pending = self._by_name.get((frame.id or "", frame.to or ""))
        if pending is None or pending.number < 0:
            return None
        if frame.code not in _WORTH_A_REPEAT:
            # It is an answer to what is in flight, so that only earlier attempts count.
            self._land(pending)
            self._finish(pending, self._failure(pending, frame.code, frame.reason))
            return False
        news = pending.last_code != frame.code
        pending.last_code = frame.code
        pending.maybe_taken |= frame.code == "unknown_outcome"
        if frame.code == "shutting_down":
            pending.not_before = math.inf
        else:
            pending.not_before = now + pending.backoff.next_s(frame.retry_after_s)
        if pending.in_flight:
            self._land(pending)
            heapq.heappush(self._lanes.setdefault(pending.message.to, []), pending.number)
        self._offer(pending.message.to)
        return news

    def disconnected(self, now: float) -> None:
        """What was in flight may have been taken. Everything goes out again on the next connection, because what it
        was told to wait for may be gone with the old one.
        """
        self._heads.clear()
        self._lanes.clear()
        for number, pending in self._pending.items():
            pending.maybe_taken |= pending.in_flight
            self._land(pending)
            pending.not_before = now
            # In order of their numbers, so that the list is a heap already.
            self._lanes.setdefault(pending.message.to, []).append(number)
        for recipient in self._lanes:
            self._offer(recipient)

    def expire(self, now: float) -> None:
        """Answers everything whose time is over."""
        while self._deadlines and self._deadlines[0][0] <= now:
            pending = self._pending.get(heapq.heappop(self._deadlines)[1])
            if pending is not None:
                self._finish(pending, self._timeout(pending))
        for pending in [pending for pending in self._backlog if pending.deadline <= now]:
            self._finish(pending, self._timeout(pending))

    def expires_at(self) -> float:
        """When `expire` has something to do."""
        while self._deadlines and self._deadlines[0][1] not in self._pending:
            heapq.heappop(self._deadlines)
        first = self._deadlines[0][0] if self._deadlines else math.inf
        return min([first, *(pending.deadline for pending in self._backlog)])

    def close(self, *, kept: bool) -> None:
        """The client ends: every call gets its answer. ``kept``: what is in the storage stays there."""
        for pending in list(self._by_name.values()):
            stays = kept and pending.saved
            self._finish(pending, self._failure(pending, "closed", "the client is closed", kept=stays))

    def _has_room(self, pending: Pending) -> bool:
        return self._bytes + pending.cost <= PENDING_BYTES_MAX

    def _admit(self, pending: Pending) -> None:
        self._number(pending)
        if pending.deadline < math.inf:
            self._drop_old_deadlines()
            heapq.heappush(self._deadlines, (pending.deadline, pending.number))
        self._admitted(pending)

    def _number(self, pending: Pending) -> None:
        pending.number = self._next_number
        self._next_number += 1
        self._bytes += pending.cost
        self._pending[pending.number] = pending
        heapq.heappush(self._lanes.setdefault(pending.message.to, []), pending.number)

    def _head(self, recipient: str) -> Pending | None:
        lane = self._lanes.get(recipient)
        while lane:
            head = self._pending.get(lane[0])
            if head is not None and not head.in_flight:
                return head
            heapq.heappop(lane)
        self._lanes.pop(recipient, None)
        return None

    def _offer(self, recipient: str) -> None:
        head = self._head(recipient)
        if head is not None and head.saved and head.not_before < math.inf:
            heapq.heappush(self._heads, (head.not_before, head.number))

    def _first_head(self) -> Pending | None:
        while self._heads:
            not_before, number = self._heads[0]
            pending = self._pending.get(number)
            if (
                pending is not None
                and not pending.in_flight
                and pending.not_before == not_before
                and self._head(pending.message.to) is pending
            ):
                return pending
            heapq.heappop(self._heads)
        return None

    def _land(self, pending: Pending) -> None:
        if pending.in_flight:
            pending.in_flight = False
            self._in_flight -= 1

    def _finish(self, pending: Pending, outcome: Outcome) -> None:
        del self._by_name[pending.message.id, pending.message.to]
        if pending.number < 0:
            self._backlog.remove(pending)
        else:
            del self._pending[pending.number]
            self._bytes -= pending.cost
            self._land(pending)
            # It may have held back others to the same recipient.
            self._offer(pending.message.to)
        self._settled(pending, outcome)
        while self._backlog and self._has_room(self._backlog[0]):
            self._admit(self._backlog.popleft())

    def _failure(self, pending: Pending, code: str, reason: str, *, kept: bool = False) -> SendError:
        message = pending.message
        maybe_taken = pending.maybe_taken or pending.in_flight
        return SendError(
            message.id,
            message.to,
            code,
            reason,
            maybe_taken=maybe_taken,
            kept=kept,
            last_code=pending.last_code,
        )

    def _timeout(self, pending: Pending) -> SendError:
        return self._failure(pending, "timeout", "no acceptance in time")

    def _drop_old_deadlines(self) -> None:
        """What was answered leaves its deadline behind. Most of them being such, they are swept out."""
        if len(self._deadlines) > 64 + 2 * len(self._pending):
            self._deadlines = [entry for entry in self._deadlines if entry[1] in self._pending]
            heapq.heapify(self._deadlines)
