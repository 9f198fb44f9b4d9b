"""Frames whose body no Python value stands for are read all the same."""

import pytest

from doorstep import UnreadableBodyError
from doorstep.envelope import FrameError, read_object


@pytest.mark.parametrize(
    "body",
    [
        "9" * 5000,
        "1e999",
        r'"\ud800"',
        r'{"a":["\uDC00}", 1]}',
        "{broken}",
        "NaN",
        '[{"a":"]}"}, 1e999, ","]',
    ],
)
@pytest.mark.parametrize(
    "frame", ['{{"type":"message","seq":7,"body":{}}}', '{{"body" : {} ,\n"type":"message", "seq":7}}']
)
def test_what_surrounds_the_body_is_read(frame: str, body: str) -> None:
    read = read_object(frame.format(body))
    unreadable = read.pop("body")
    assert read == {"type": "message", "seq": 7}
    assert isinstance(unreadable, UnreadableBodyError)
    assert unreadable.raw.strip() == body


@pytest.mark.parametrize("body", ["null", "1.50", r'"\ud83d\ude00"', '{"a":1,"a":2}', "1e308", "0.1234567890123456789"])
def test_what_can_be_read_is_read(body: str) -> None:
    assert not isinstance(read_object(f'{{"body":{body}}}')["body"], UnreadableBodyError)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "7",
        "[]",
        "{",
        '{"type"',
        '{"type":}',
        '{"body":1e999',
        '{"seq":1e999}',
        '{"body":[1e999}',
        "{}x",
        "{7:1e999}",
    ],
)
def test_what_is_no_object_is_no_frame(text: str) -> None:
    with pytest.raises(FrameError):
        read_object(text)


def test_nesting_that_python_cannot_follow_is_the_bodys_affair() -> None:
    deep = "[" * 200_000 + "]" * 200_000
    assert isinstance(read_object(f'{{"seq":7,"body":{deep}}}')["body"], UnreadableBodyError)
