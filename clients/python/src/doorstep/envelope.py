"""Frames of the router as JSON objects, with a way around a body that Python cannot read.

The router relays bodies byte for byte and never reads them, so a body may be what no Python value stands for: a number
of ten thousand digits, 1e999, half a surrogate pair. The rest of such a frame must be read all the same: a message that
cannot be named cannot be acknowledged, and would come again for ever.
"""

import json
import math
import re
from typing import Any, NoReturn

from .errors import UnreadableBodyError


class FrameError(Exception):
    """The frame is not as the protocol describes it."""


def read_object(text: str) -> dict[str, Any]:
    """The object that ``text`` holds. A body that cannot be read stands there as an `UnreadableBodyError`.

    Raises `FrameError` when the rest cannot be read either.
    """
    try:
        frame = _decode(text)
        if _SURROGATE.search(text):
            # What has no bytes could be neither printed nor stored by who gets it.
            json.dumps(frame, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        return _read_around_body(text, str(error))
    if not isinstance(frame, dict):
        raise FrameError("a frame is an object")
    return frame


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _number(text: str) -> float:
    """A number that Python would turn into infinity is not what its sender wrote."""
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"{text} is too large a number")
    return number


_decoder = json.JSONDecoder(parse_float=_number, parse_constant=_refuse)
_decode = _decoder.decode
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_SPACE = re.compile(r"[ \t\r\n]*")
#: What matters for finding the end of a value: strings as a whole, brackets, commas.
_LANDMARK = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{},]', re.DOTALL)


def _read_around_body(text: str, error: str) -> dict[str, Any]:
    frame: dict[str, Any] = {}
    try:
        at = _expect(text, 0, "{")
        while True:
            name, at = _decoder.raw_decode(text, _skip_space(text, at))
            at = _skip_space(text, _expect(text, at, ":"))
            if name == "body":
                end = _end_of_value(text, at)
                frame["body"] = UnreadableBodyError(error, text[at:end])
            else:
                frame[name], end = _decoder.raw_decode(text, at)
            at = _skip_space(text, end)
            if text[at] == "}":
                return frame
            at = _expect(text, at, ",")
    except (ValueError, IndexError, TypeError, RecursionError) as second:
        raise FrameError(f"not JSON: {second}") from None


def _skip_space(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at


def _expect(text: str, at: int, mark: str) -> int:
    at = _skip_space(text, at)
    if text[at] != mark:
        raise ValueError(f"{mark} expected at {at}")
    return at + 1


def _end_of_value(text: str, at: int) -> int:
    """Where the value that begins at ``at`` ends, judged by its brackets alone."""
    depth = 0
    for landmark in _LANDMARK.finditer(text, at):
        mark = landmark.group()
        if depth == 0 and mark in ",}":
            return landmark.start()
        if mark in "[{":
            depth += 1
        elif mark in "]}":
            depth -= 1
    raise ValueError("the body does not end")
