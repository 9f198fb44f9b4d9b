"""What the router says, and what does not count as said."""

import json
import re
from pathlib import Path

import pytest

from doorstep.envelope import FrameError
from doorstep.frames import MessageFrame, UnreadableMessageError, server_frame

PROTOCOL = Path(__file__).parents[3] / "proto-docs" / "protocol.md"


@pytest.mark.skipif(not PROTOCOL.exists(), reason="the package stands alone, without the protocol's page")
def test_every_example_of_the_protocol_is_read() -> None:
    blocks = re.findall(r"```json server\n(.*?)```", PROTOCOL.read_text(encoding="utf-8"), re.DOTALL)
    examples = [line for block in blocks for line in block.splitlines()]
    assert len(examples) >= 10
    for example in examples:
        assert server_frame(example) is not None, example


def test_unknown_types_and_fields_are_ignored() -> None:
    assert server_frame('{"type":"fanfare"}') is None
    frame = server_frame('{"type":"message","seq":1,"id":"a","from":"b","ts_ms":1,"body":2,"colour":"red"}')
    assert frame == MessageFrame(1, "a", "b", 1, redelivered=False, body=2)


@pytest.mark.parametrize(
    "change",
    [{"seq": "1"}, {"seq": 1.0}, {"seq": True}, {"seq": 2**53}, {"id": 7}, {"from": None}, {"redelivered": "true"}],
)
def test_a_message_with_a_wrong_field_is_not_taken_for_something_else(change: dict[str, object]) -> None:
    message = {"type": "message", "seq": 1, "id": "a", "from": "b", "ts_ms": 1, "body": 2} | change
    with pytest.raises(UnreadableMessageError):
        server_frame(json.dumps(message))


@pytest.mark.parametrize("missing", ["id", "from", "body"])
def test_a_message_that_lacks_something_is_not_skipped(missing: str) -> None:
    message: dict[str, object] = {"type": "message", "seq": 1, "id": "a", "from": "b", "ts_ms": 1, "body": 2}
    del message[missing]
    with pytest.raises(UnreadableMessageError):
        server_frame(json.dumps(message))


def test_what_is_no_message_may_be_skipped() -> None:
    with pytest.raises(FrameError) as raised:
        server_frame('{"type":"accepted","id":"a"}')
    assert not isinstance(raised.value, UnreadableMessageError)
    with pytest.raises(UnreadableMessageError):
        server_frame("no JSON, and perhaps a message")
