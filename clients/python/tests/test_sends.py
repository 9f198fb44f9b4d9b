"""Messages on their way out, from the call to the answer."""

import math
import random

import pytest

from doorstep import Accepted, SendError
from doorstep.fitting import UnfitError
from doorstep.frames import RejectedFrame
from doorstep.sends import PENDING_BYTES_MAX, Outcome, Pending, Sends
from doorstep.storage import Outgoing


class Sender:
    """Sends, with a storage that writes when it is told."""

    def __init__(self, *, writes: bool = True) -> None:
        self.unsaved: list[Pending] = []
        self.outcomes: dict[str, Outcome] = {}
        self._writes = writes
        self.sends = Sends(random.Random(7), self._admitted, self._settled)

    def _admitted(self, pending: Pending) -> None:
        if self._writes:
            self.sends.saved(pending)
        else:
            self.unsaved.append(pending)

    def _settled(self, pending: Pending, outcome: Outcome) -> None:
        self.outcomes[pending.message.id] = outcome

    def send(self, message_id: str, to: str = "bob", *, body: str = "0", deadline: float = math.inf) -> Pending:
        return self.sends.submit(Outgoing(message_id, to, body), 0.0, deadline)

    def goes_out(self, now: float = 0.0, most: int = 1000) -> list[str]:
        """What goes out now; a repeat is marked by ``!``."""
        out: list[str] = []
        while len(out) < most and (pending := self.sends.next_due(now)) is not None:
            out.append(pending.message.id + "!" * pending.retry)
            self.sends.written(pending)
        return out

    def accepted(self, message_id: str, to: str = "bob") -> None:
        self.sends.accepted(Accepted(message_id, to, 1, stored=True))

    def rejected(self, message_id: str, code: str, retry_after_s: float | None = None, to: str = "bob") -> bool | None:
        return self.sends.rejected(RejectedFrame(message_id, to, code, "so", retry_after_s), 0.0)

    def failure(self, message_id: str) -> tuple[str, bool]:
        outcome = self.outcomes[message_id]
        assert isinstance(outcome, SendError)
        return outcome.code, outcome.maybe_taken


def test_messages_go_out_once_in_the_order_of_the_calls() -> None:
    sender = Sender()
    for number in range(5):
        sender.send(f"m{number}")
    assert sender.goes_out() == ["m0", "m1", "m2", "m3", "m4"]
    assert sender.goes_out() == []
    assert sender.sends.in_flight == 5
    sender.accepted("m2")
    assert sender.outcomes == {"m2": Accepted("m2", "bob", 1, stored=True)}
    assert sender.sends.in_flight == 4
    sender.accepted("m2")
    assert sender.sends.in_flight == 4


def test_none_overtakes_one_that_waits_for_its_repeat() -> None:
    sender = Sender()
    sender.send("a1")
    sender.send("a2")
    assert sender.goes_out() == ["a1", "a2"]
    sender.send("a3")
    sender.send("c1", "carol")
    sender.rejected("a2", "rate_limited", 2.0)
    sender.rejected("a1", "rate_limited", 1.0)
    assert sender.goes_out() == ["c1"]
    assert sender.sends.due_at() == 1.0
    assert sender.goes_out(1.5) == ["a1!"], "a2 waits, and a3 behind it"
    assert sender.sends.due_at() == 2.0
    assert sender.goes_out(2.5) == ["a2!", "a3"]


def test_the_earlier_one_holds_back_a_later_one_whose_time_has_come() -> None:
    sender = Sender()
    sender.send("a1")
    sender.send("a2")
    sender.goes_out()
    sender.rejected("a1", "queue_full", 9.0)
    sender.rejected("a2", "queue_full", 1.0)
    assert sender.goes_out(5.0) == []
    assert sender.goes_out(9.0) == ["a1!", "a2!"]


def test_a_failure_lets_those_behind_it_go() -> None:
    sender = Sender()
    sender.send("a1", deadline=3.0)
    sender.goes_out()
    sender.rejected("a1", "overloaded", 100.0)
    sender.send("a2")
    assert sender.goes_out(1.0) == []
    assert sender.sends.expires_at() == 3.0
    sender.sends.expire(3.0)
    assert sender.failure("a1") == ("timeout", False), "it was certainly not taken"
    assert sender.goes_out(3.0) == ["a2"]


@pytest.mark.parametrize("code", ["rate_limited", "queue_full", "overloaded", "storage_unavailable", "unknown_outcome"])
def test_what_passes_is_repeated_and_told_once(code: str) -> None:
    sender = Sender()
    sender.send("a")
    sender.goes_out()
    assert sender.rejected("a", code) is True
    assert sender.goes_out(10.0) == ["a!"]
    assert sender.rejected("a", code) is False, "nothing new"
    sender.goes_out(20.0)
    sender.accepted("a")
    assert isinstance(sender.outcomes["a"], Accepted)


@pytest.mark.parametrize(
    "code", ["bad_request", "too_large", "forbidden", "id_reused", "expired", "of_a_later_version"]
)
def test_every_other_code_fails_the_send(code: str) -> None:
    sender = Sender()
    sender.send("a")
    sender.goes_out()
    sender.rejected("a", code)
    assert sender.failure("a") == (code, False)


def test_shutting_down_waits_for_the_next_connection() -> None:
    sender = Sender()
    sender.send("a1")
    sender.goes_out()
    sender.rejected("a1", "shutting_down", 0.0)
    sender.send("a2")
    assert sender.goes_out(1e9) == []
    sender.sends.disconnected(2e9)
    assert sender.goes_out(2e9) == ["a1!", "a2"]


def test_growing_delays_stay_under_their_bound() -> None:
    sender = Sender()
    sender.send("a")
    sender.goes_out()
    for _ in range(30):
        sender.rejected("a", "overloaded")
        assert 0 <= sender.sends.due_at() <= 5.0
        assert sender.goes_out(5.0) == ["a!"]


def test_an_unknown_outcome_is_not_undone_by_a_later_refusal() -> None:
    sender = Sender()
    sender.send("a")
    sender.goes_out()
    sender.rejected("a", "unknown_outcome")
    sender.goes_out(10.0)
    sender.rejected("a", "forbidden")
    assert sender.failure("a") == ("forbidden", True)


def test_the_end_of_a_connection_leaves_open_what_was_in_flight() -> None:
    sender = Sender()
    for name in ("a1", "a2", "a3"):
        sender.send(name, deadline=5.0)
    sender.goes_out(most=2)
    sender.sends.disconnected(1.0)
    assert sender.sends.in_flight == 0
    assert sender.goes_out(1.0) == ["a1!", "a2!", "a3"]
    sender.sends.disconnected(2.0)
    sender.rejected("a3", "rate_limited", 99.0)
    sender.sends.expire(5.0)
    assert [sender.failure(name)[1] for name in ("a1", "a2", "a3")] == [True, True, True]


def test_what_waited_for_a_time_goes_out_at_once_on_the_next_connection() -> None:
    sender = Sender()
    sender.send("a")
    sender.goes_out()
    sender.rejected("a", "rate_limited", 1000.0)
    sender.sends.disconnected(1.0)
    assert sender.goes_out(1.0) == ["a!"]


def test_nothing_goes_out_before_it_is_in_the_storage() -> None:
    sender = Sender(writes=False)
    sender.send("a1")
    sender.send("a2")
    sender.send("c1", "carol")
    assert sender.goes_out() == []
    sender.sends.saved(sender.unsaved[1])
    assert sender.goes_out() == [], "nor does one overtake an earlier one that is not"
    sender.sends.saved(sender.unsaved[2])
    assert sender.goes_out() == ["c1"]
    sender.sends.saved(sender.unsaved[0])
    assert sender.goes_out() == ["a1", "a2"]


def test_a_message_that_was_answered_before_it_was_written_stays_here() -> None:
    sender = Sender(writes=False)
    sender.send("a", deadline=1.0)
    sender.sends.expire(1.0)
    sender.sends.saved(sender.unsaved[0])
    assert sender.failure("a") == ("timeout", False)
    assert sender.goes_out(2.0) == []


def test_what_an_earlier_process_left_goes_first_and_as_a_repeat() -> None:
    sender = Sender()
    sender.sends.restore(Outgoing("old1", "bob", "0"), 0.0)
    sender.sends.restore(Outgoing("old2", "bob", "0"), 0.0)
    sender.send("new")
    assert sender.goes_out() == ["old1!", "old2!", "new"]
    sender.rejected("old1", "forbidden")
    assert sender.failure("old1") == ("forbidden", True)


def test_a_second_send_of_a_name_that_is_under_way_is_refused() -> None:
    sender = Sender()
    sender.send("a")
    with pytest.raises(SendError) as raised:
        sender.send("a")
    assert (raised.value.code, raised.value.maybe_taken) == ("already_pending", True)
    sender.send("a", "carol")
    sender.accepted("a")
    sender.send("a")


def test_what_does_not_fit_is_answered_and_blocks_nobody() -> None:
    sender = Sender()
    large = sender.send("a1")
    sender.send("a2")
    sender.sends.unfit(large, UnfitError("too_large", "so"))
    assert sender.failure("a1") == ("too_large", False)
    assert sender.goes_out() == ["a2"]


def test_memory_is_bounded_and_those_who_wait_for_room_keep_their_order() -> None:
    sender = Sender()
    body = "x" * (PENDING_BYTES_MAX // 4)
    for number in range(6):
        sender.send(f"m{number}", body=body, deadline=50.0)
    sender.send("small")
    assert sender.goes_out() == ["m0", "m1", "m2"]
    sender.accepted("m1")
    assert sender.goes_out() == ["m3"]
    sender.sends.expire(50.0)
    assert sender.failure("m3") == ("timeout", True)
    assert sender.failure("m5") == ("timeout", False)
    assert sender.goes_out() == ["small"]


def test_a_caller_that_was_cancelled_recalls_only_what_never_began() -> None:
    sender = Sender()
    under_way = sender.send("a", body="x" * PENDING_BYTES_MAX)
    waits = sender.send("b")
    sender.sends.give_up(under_way)
    sender.sends.give_up(waits)
    assert sender.failure("b") == ("closed", False)
    assert sender.goes_out() == ["a"]
    sender.accepted("a")
    assert sender.goes_out() == []


def test_the_end_answers_everybody_and_says_what_is_kept() -> None:
    sender = Sender(writes=False)
    for name in ("a", "b", "c"):
        sender.send(name, name)
    for pending in sender.unsaved[:2]:
        sender.sends.saved(pending)
    sender.goes_out(most=1)
    sender.sends.close(kept=True)
    failures = [outcome for outcome in sender.outcomes.values() if isinstance(outcome, SendError)]
    assert [(failure.maybe_taken, failure.kept) for failure in failures] == [
        (True, True),
        (False, True),
        (False, False),
    ]
    assert len(sender.sends) == 0


def test_thousands_to_one_recipient_take_no_time_that_grows_with_their_number() -> None:
    """Deadlines of what was answered are swept out, and heads of lanes do not pile up."""
    sender = Sender()
    for number in range(20_000):
        sender.send(f"m{number}", deadline=1e6)
        assert sender.goes_out() == [f"m{number}"]
        sender.accepted(f"m{number}")
    assert len(sender.sends._deadlines) < 200
    assert len(sender.sends._heads) < 10


def test_any_schedule_keeps_the_order_and_loses_nothing() -> None:
    """Random answers, ends of connections and times: each message is answered once, and what goes out to a recipient on
    a connection never goes back behind one that waits.
    """
    for seed in range(60):
        rng = random.Random(seed)
        sender = Sender()
        now, sent, flying = 0.0, 0, []
        while len(sender.outcomes) < 40:
            now += rng.random()
            if sent < 40 and rng.random() < 0.5:
                sender.send(f"m{sent:02}", rng.choice(["bob", "carol"]))
                sent += 1
            if (pending := sender.sends.next_due(now)) is not None:
                waiting = [each for each in sender.sends._pending.values() if not each.in_flight]
                ahead = [each for each in waiting if each.message.to == pending.message.to]
                assert pending.number == min(each.number for each in ahead), f"seed {seed}"
                sender.sends.written(pending)
                flying.append(pending)
            if flying and rng.random() < 0.6:
                answered = flying.pop(rng.randrange(len(flying))).message
                if rng.random() < 0.5:
                    sender.accepted(answered.id, answered.to)
                else:
                    code = rng.choice(["rate_limited", "unknown_outcome", "shutting_down"])
                    sender.sends.rejected(RejectedFrame(answered.id, answered.to, code, "", rng.random()), now)
            if rng.random() < 0.05:
                sender.sends.disconnected(now)
                flying.clear()
            assert sender.sends.in_flight == len(flying), f"seed {seed}"
        assert len(sender.outcomes) == 40
