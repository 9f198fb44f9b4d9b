"""The client's frames as text, held against what a router takes on this connection.

Pure. A frame that would end the session, or that counts towards its end, must never pass: the client would come to
its end, and with it everything that waits, for one mistake of the application.
"""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from .events import Limits

FRAME_DEPTH_MAX = 127
WATCH_USERS_MAX = 256
#: ``{"type":"unwatch","users":[]}``
_WATCH_FRAME_BYTES = 29

_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_BRACKET = re.compile(r"[\[\]{}]")


class UnfitError(Exception):
    """Why something stays here."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason


def body_text(body: object) -> str:
    """One JSON value. Raises `TypeError` or `ValueError` when ``body`` is none, and `UnfitError` when no router
    would take it.
    """
    text = _json(body)
    if _nests_deeper_than(text, FRAME_DEPTH_MAX - 1):
        raise UnfitError("bad_request", "the body nests too deeply")
    return text


def frame_text(frame: dict[str, Any], limits: Limits | None = None) -> str:
    """A frame that is no send. Raises `UnfitError` when it is longer than ``limits`` allow."""
    return _fit(_json(frame), limits)


@dataclass(frozen=True, slots=True)
class SendFrame:
    """A ``send``; ``body`` is JSON already and goes out as it is, on every repeat."""

    to: str
    body: str
    id: str | None = None
    ttl_ms: int | None = None
    retry: bool = False

    def text(self, limits: Limits) -> str:
        if len(self.body.encode()) > limits.body_bytes:
            raise UnfitError("too_large", "larger than a body may be for this router")
        head: dict[str, Any] = {"type": "send"}
        if self.id is not None:
            head["id"] = self.id
        head["to"] = self.to
        if self.ttl_ms is not None:
            head["ttl_ms"] = self.ttl_ms
        if self.retry:
            head["retry"] = True
        if self.id is None:
            head["ephemeral"] = True
        return _fit(f'{_json(head)[:-1]},"body":{self.body}}}', limits)


def portions(users: Iterable[str], frame_bytes: int) -> Iterator[list[str]]:
    """``users`` in as few parts as ``watch`` or ``unwatch`` frames of this router need."""
    portion: list[str] = []
    left = 0
    for user in users:
        needed = len(_json(user).encode()) + 1
        if portion and (needed > left or len(portion) == WATCH_USERS_MAX):
            yield portion
            portion = []
        if not portion:
            left = frame_bytes - _WATCH_FRAME_BYTES
        portion.append(user)
        left -= needed
    if portion:
        yield portion


def _fit(text: str, limits: Limits | None) -> str:
    if limits is not None and len(text.encode()) > limits.frame_bytes:
        raise UnfitError("too_large", "larger than a frame of this router may be")
    return text


def _json(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    try:
        text.encode()
    except UnicodeEncodeError:
        # Half a surrogate pair has no bytes, but it can be escaped.
        return json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text


def _nests_deeper_than(text: str, levels: int) -> bool:
    if text.count("[") + text.count("{") <= levels:
        return False
    depth = 0
    for bracket in _BRACKET.findall(_STRING.sub("", text)):
        depth += 1 if bracket in "[{" else -1
        if depth > levels:
            return True
    return False
