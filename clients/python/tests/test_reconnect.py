"""When a client comes back: the table of close codes, and the waits."""

import random

import pytest

from doorstep.reconnect import RETRY_AFTER_MAX_S, Advice, Backoff, advice, close_code_of_status, spread_s


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        ([1000], Advice.DONE),
        ([1002, 1003, 1007, 1009, 4400, 4403, 4409, 4410], Advice.STOP),
        ([4401], Advice.NEW_TOKEN),
        ([None, 1001, 1006, 1011, 1012, 4408, 4429, 4999], Advice.RETRY),
    ],
)
def test_the_table_says_what_the_protocol_says(codes: list[int | None], expected: Advice) -> None:
    assert [advice(code) for code in codes] == [expected] * len(codes)


def test_http_statuses_count_as_close_codes() -> None:
    statuses = (401, 403, 408, 429, 500, 502, 503, 400, 404, 302)
    codes = [4401, 4403, 4408, 4429, 1011, 1011, 1012, 4400, 4400, 4400]
    assert [close_code_of_status(status) for status in statuses] == codes


def test_waits_stay_under_a_doubling_bound_and_spread_over_it() -> None:
    rng = random.Random(7)
    lowest = 2.0
    for _ in range(200):
        backoff = Backoff(0.1, 2.0, rng)
        for attempt in range(40):
            wait = backoff.next_s()
            assert 0 <= wait <= min(0.1 * 2**attempt, 2.0)
            if attempt > 10:
                lowest = min(lowest, wait)
    assert lowest < 0.2, "full jitter reaches down to short waits"


def test_a_reset_sets_the_bound_back() -> None:
    backoff = Backoff(0.1, 100.0, random.Random(1))
    for _ in range(20):
        backoff.next_s()
    backoff.reset()
    assert backoff.next_s() <= 0.1


def test_the_routers_wish_is_taken_as_it_is_but_not_for_ever() -> None:
    backoff = Backoff(0.001, 0.002, random.Random(7))
    assert backoff.next_s(0.75) == 0.75
    assert backoff.next_s(1e12) == RETRY_AFTER_MAX_S


def test_those_who_are_told_the_same_second_come_back_apart() -> None:
    rng = random.Random(7)
    waits = {spread_s(10, rng) for _ in range(50)}
    assert len(waits) > 40
    assert all(10 <= wait <= 15 for wait in waits)
    assert max(spread_s(0, rng) for _ in range(50)) > 0.1, "nor do they come back at once"
