"""Each message once to the application, and acks for what it is done with."""

from typing import Any

import pytest

from doorstep.frames import MessageFrame
from doorstep.intake import BeyondWindowError, Intake, Names, Work, digest
from doorstep.storage import DONE_NAMES_MAX


class Receiver:
    """An intake, and what the application has of it."""

    def __init__(self, window: int, **done: Any) -> None:
        self.intake = Intake(**done)
        self.intake.connected(window)
        self.work: dict[int, Work] = {}

    def brings(self, seq: int, message_id: str | None = None, *, redelivered: bool = False) -> bool:
        """Whether the application gets it."""
        message_id = message_id or f"m{seq}"
        frame = MessageFrame(seq, message_id, "alice", 0, redelivered, None)
        work = self.intake.admit(frame, seq, message_id)
        if work is not None:
            self.work[seq] = work
        return work is not None

    def done(self, *seqs: int) -> None:
        for seq in seqs:
            self.intake.finished(self.work.pop(seq))


def test_nothing_is_acked_before_the_application_is_done() -> None:
    receiver = Receiver(64)
    assert all(receiver.brings(seq) for seq in range(1, 6))
    assert receiver.intake.take_ack_now(0) is None
    receiver.done(1, 2, 3)
    assert receiver.intake.take_ack(0) == 3
    assert receiver.intake.take_ack_now(0) is None


def test_the_first_ack_after_idle_goes_at_once_and_later_ones_in_batches() -> None:
    receiver = Receiver(128)
    for seq in range(1, 101):
        receiver.brings(seq)
    receiver.done(1)
    assert receiver.intake.take_ack(5.0) == 1
    receiver.done(*range(2, 21))
    assert receiver.intake.take_ack(5.0) is None, "19 messages within 10 ms wait"
    receiver.done(*range(21, 34))
    assert receiver.intake.take_ack(5.0) == 33, "32 messages do not wait"
    receiver.done(*range(34, 41))
    assert receiver.intake.take_ack(5.0) is None
    assert receiver.intake.ack_at(5.0) == pytest.approx(5.01)
    assert receiver.intake.take_ack(5.02) == 40, "10 ms are long enough"


def test_an_ack_hardly_waits_when_nothing_else_is_worked_on() -> None:
    receiver = Receiver(128)
    for seq in (1, 2):
        receiver.brings(seq)
        receiver.done(seq)
    assert receiver.intake.take_ack(5.0) == 2
    receiver.brings(3)
    receiver.done(3)
    assert receiver.intake.take_ack(5.0) is None, "what came with it may be read in this moment"
    assert receiver.intake.ack_at(5.0) == pytest.approx(5.001)
    assert receiver.intake.take_ack(5.002) == 3


def test_a_small_window_is_not_slowed_by_batching() -> None:
    receiver = Receiver(2)
    for seq in range(1, 7):
        assert receiver.brings(seq)
        receiver.done(seq)
        assert receiver.intake.take_ack(0) == seq


def test_what_comes_again_is_acked_when_it_is_done_and_not_handed_over_again() -> None:
    receiver = Receiver(64)
    for seq in range(1, 5):
        receiver.brings(seq)
    receiver.done(1, 2)
    receiver.intake.connected(64)
    assert receiver.intake.take_ack_now(0) is None, "this connection brought nothing yet"
    assert not any(receiver.brings(seq, redelivered=True) for seq in range(1, 5))
    assert receiver.intake.take_ack_now(0) == 2, "3 and 4 are still being worked on"
    receiver.done(3, 4)
    assert receiver.intake.take_ack_now(0) == 4


def test_a_repeat_under_a_new_seq_is_known_by_name_and_acked_in_its_turn() -> None:
    receiver = Receiver(64)
    receiver.brings(1, "a")
    receiver.brings(2, "b")
    receiver.done(1)
    assert not receiver.brings(3, "a", redelivered=True)
    assert receiver.intake.take_ack_now(0) == 1, "acking 3 would ack the unfinished 2"
    receiver.done(2)
    assert receiver.intake.take_ack_now(0) == 3
    assert receiver.brings(4, "a"), "unmarked is new: ids are the senders' affair"


def test_a_repeat_of_what_is_being_worked_on_waits_for_it() -> None:
    receiver = Receiver(64)
    receiver.brings(1, "a")
    assert not receiver.brings(2, "a", redelivered=True)
    assert receiver.intake.take_ack_now(0) is None
    receiver.done(1)
    assert receiver.intake.take_ack_now(0) == 2


def test_the_same_seq_is_the_same_message_while_it_is_worked_on_whatever_its_mark() -> None:
    receiver = Receiver(64)
    receiver.brings(1)
    receiver.intake.connected(64)
    assert not receiver.brings(1)
    assert receiver.intake.take_ack_now(0) is None
    receiver.done(1)
    assert receiver.intake.take_ack_now(0) == 1


def test_what_an_earlier_process_did_is_known_by_seq_and_by_name() -> None:
    receiver = Receiver(64, done_seq=10, done_names=[digest("alice", "x")])
    assert not receiver.brings(9, redelivered=True)
    assert not receiver.brings(10, redelivered=True)
    assert not receiver.brings(11, "x", redelivered=True)
    assert receiver.intake.take_ack_now(0) == 11
    assert receiver.brings(12, redelivered=True), "not done before the process ended"


def test_a_low_seq_without_the_mark_is_new_and_not_acked_before_it_is_done() -> None:
    receiver = Receiver(64, done_seq=10)
    assert receiver.brings(5)
    assert receiver.intake.take_ack_now(0) is None
    receiver.done(5)
    assert receiver.intake.take_ack_now(0) == 5


def test_more_than_a_window_is_refused() -> None:
    receiver = Receiver(3)
    for seq in (1, 2, 3):
        receiver.brings(seq)
    with pytest.raises(BeyondWindowError):
        receiver.brings(4)


def test_what_waits_for_the_application_is_bounded_over_connections() -> None:
    receiver = Receiver(3)
    for seq in range(1, 7):
        if seq in (1, 4):
            receiver.intake.connected(3)
        assert receiver.brings(seq)
    receiver.intake.connected(3)
    with pytest.raises(BeyondWindowError):
        receiver.brings(7)


def test_names_are_forgotten_oldest_first() -> None:
    names = Names(str(number).encode() for number in range(DONE_NAMES_MAX + 10))
    assert len(names) == DONE_NAMES_MAX
    assert b"9" not in names
    assert b"10" in names
