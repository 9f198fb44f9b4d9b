"""What may go out on a connection."""

import json

import pytest

from doorstep.events import Limits
from doorstep.fitting import SendFrame, UnfitError, body_text, frame_text, portions

LIMITS = Limits(frame_bytes=1200, body_bytes=400, window=1, sends_in_flight=1, heartbeat_ms=1000)


def test_a_send_says_what_the_protocol_describes() -> None:
    durable = SendFrame("alice", '{"a":1.0}', "x", ttl_ms=1, retry=True).text(LIMITS)
    assert durable == '{"type":"send","id":"x","to":"alice","ttl_ms":1,"retry":true,"body":{"a":1.0}}'
    assert SendFrame("alice", "1", "x").text(LIMITS) == '{"type":"send","id":"x","to":"alice","body":1}'
    ephemeral = SendFrame("alice", "1").text(LIMITS)
    assert json.loads(ephemeral) == {"type": "send", "to": "alice", "ephemeral": True, "body": 1}


def test_a_body_that_is_too_large_or_too_deep_stays_here() -> None:
    SendFrame("alice", body_text("x" * 398), "x").text(LIMITS)
    with pytest.raises(UnfitError, match="too_large"):
        SendFrame("alice", body_text("ü" * 200), "x").text(LIMITS)
    body_text(json.loads("[" * 126 + "]" * 126))
    body_text("[" * 1000)
    with pytest.raises(UnfitError, match="bad_request"):
        body_text(json.loads("[" * 127 + "]" * 127))


def test_a_frame_that_is_too_large_stays_here() -> None:
    with pytest.raises(UnfitError, match="too_large"):
        frame_text({"type": "token", "token": "x" * 1200}, LIMITS)


@pytest.mark.parametrize("body", [float("nan"), float("inf"), {1, 2}, object()])
def test_what_is_not_json_is_refused(body: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        body_text(body)


def test_text_is_as_short_as_it_can_be_and_always_has_bytes() -> None:
    assert body_text({"ü": [1, None]}) == '{"ü":[1,null]}'
    assert body_text("\ud800") == r'"\ud800"'


def test_names_are_parted_by_number_and_by_what_a_frame_holds() -> None:
    short = [str(number) for number in range(600)]
    assert [len(portion) for portion in portions(short, 1 << 20)] == [256, 256, 88]
    long = [f"{number}".ljust(128, '"') for number in range(50)]
    parts = list(portions(long, LIMITS.frame_bytes))
    assert [user for part in parts for user in part] == long
    assert len(parts) <= 13, "four of them fit"
    for part in parts:
        frame_text({"type": "unwatch", "users": part}, LIMITS)
