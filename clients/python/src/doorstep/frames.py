"""The router's frames: JSON objects in, typed frames out.

Fields that are not described are ignored, and so are frames of an unknown type: that is how later versions of the
protocol can add to this one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from .envelope import FrameError, read_object
from .events import Accepted, Connected, Limits, Presence, State

#: The greatest integer of the protocol.
INTEGER_MAX = 2**53 - 1
_STATES = ("online", "away", "busy", "invisible", "offline")


@dataclass(frozen=True, slots=True)
class MessageFrame:
    """``seq`` is missing in ephemeral messages. ``body`` may be an `UnreadableBodyError`."""

    seq: int | None
    id: str | None
    sender: str
    ts_ms: int
    redelivered: bool
    body: Any


@dataclass(frozen=True, slots=True)
class CaughtUpFrame:
    seq: int


@dataclass(frozen=True, slots=True)
class RejectedFrame:
    id: str | None
    to: str | None
    code: str
    reason: str
    retry_after_s: float | None


@dataclass(frozen=True, slots=True)
class PresenceFrame:
    users: tuple[Presence, ...]


@dataclass(frozen=True, slots=True)
class TokenOkFrame:
    expires_ms: int


@dataclass(frozen=True, slots=True)
class PongFrame:
    n: int | None


@dataclass(frozen=True, slots=True)
class ErrorFrame:
    code: str
    reason: str
    ref: str | None


@dataclass(frozen=True, slots=True)
class GoodbyeFrame:
    code: int
    reason: str
    retry_after_s: float | None


ServerFrame = (
    Connected
    | MessageFrame
    | CaughtUpFrame
    | Accepted
    | RejectedFrame
    | PresenceFrame
    | TokenOkFrame
    | PongFrame
    | ErrorFrame
    | GoodbyeFrame
)


class UnreadableMessageError(FrameError):
    """Skipping this frame could skip a message, which a later ack would then cover."""


def server_frame(text: str) -> ServerFrame | None:
    """Reads a frame; `None` is one of an unknown type.

    Raises `UnreadableMessageError` when it is or may be a message, and `FrameError` for anything else that cannot
    be read.
    """
    try:
        fields = Fields(read_object(text))
        kind = fields.string("type")
    except FrameError as error:
        raise UnreadableMessageError(str(error)) from None
    read = _READERS.get(kind)
    if read is None:
        return None
    try:
        return read(fields)
    except FrameError as error:
        wrong = UnreadableMessageError if kind == "message" else FrameError
        raise wrong(f"{kind}: {error}") from None


class Fields:
    """The fields of an object, each with the type that is described or not taken at all."""

    def __init__(self, values: dict[str, Any]) -> None:
        self._values = values

    def any(self, name: str) -> Any:
        if name not in self._values:
            raise FrameError(f"{name} is missing")
        return self._values[name]

    def integer(self, name: str) -> int:
        value = self.any(name)
        if type(value) is not int or not 0 <= value <= INTEGER_MAX:
            raise FrameError(f"{name} must be an integer")
        return value

    def string(self, name: str) -> str:
        value = self.any(name)
        if not isinstance(value, str):
            raise FrameError(f"{name} must be a string")
        return value

    def flag(self, name: str) -> bool:
        value = self._values.get(name, False)
        if not isinstance(value, bool):
            raise FrameError(f"{name} must be true or false")
        return value

    def optional_integer(self, name: str) -> int | None:
        return self.integer(name) if name in self._values else None

    def optional_string(self, name: str) -> str | None:
        return self.string(name) if name in self._values else None

    def seconds(self, name: str) -> float | None:
        """A length of time in milliseconds that may be missing."""
        length_ms = self.optional_integer(name)
        return None if length_ms is None else length_ms / 1000

    def object(self, name: str) -> "Fields":
        return _object(self.any(name), name)

    def objects(self, name: str) -> "list[Fields]":
        values = self.any(name)
        if not isinstance(values, list):
            raise FrameError(f"{name} must be a list")
        return [_object(value, name) for value in values]


def _object(value: Any, name: str) -> Fields:
    if not isinstance(value, dict):
        raise FrameError(f"{name} must be an object")
    return Fields(value)


def _welcome(fields: Fields) -> Connected:
    limits = fields.object("limits")
    return Connected(
        user=fields.string("user"),
        device=fields.string("device"),
        session=fields.string("session"),
        server=fields.optional_string("server") or "",
        registered=fields.flag("registered"),
        gap=fields.flag("gap"),
        pending=fields.optional_integer("pending") or 0,
        cursor=fields.optional_integer("cursor") or 0,
        expires_ms=fields.optional_integer("expires_ms"),
        limits=Limits(
            frame_bytes=limits.integer("frame_bytes"),
            body_bytes=limits.integer("body_bytes"),
            window=limits.integer("window"),
            sends_in_flight=limits.integer("sends_in_flight"),
            heartbeat_ms=limits.integer("heartbeat_ms"),
        ),
    )


def _message(fields: Fields) -> MessageFrame:
    frame = MessageFrame(
        seq=fields.optional_integer("seq"),
        id=fields.optional_string("id"),
        sender=fields.string("from"),
        ts_ms=fields.optional_integer("ts_ms") or 0,
        redelivered=fields.flag("redelivered"),
        body=fields.any("body"),
    )
    if frame.seq is not None and frame.id is None:
        raise FrameError("id is missing")
    return frame


def _caught_up(fields: Fields) -> CaughtUpFrame:
    return CaughtUpFrame(fields.integer("seq"))


def _accepted(fields: Fields) -> Accepted:
    return Accepted(fields.string("id"), fields.string("to"), fields.integer("seq"), fields.flag("stored"))


def _rejected(fields: Fields) -> RejectedFrame:
    return RejectedFrame(
        id=fields.optional_string("id"),
        to=fields.optional_string("to"),
        code=fields.string("code"),
        reason=fields.optional_string("reason") or "",
        retry_after_s=fields.seconds("retry_after_ms"),
    )


def _presence(fields: Fields) -> PresenceFrame:
    return PresenceFrame(tuple(_presence_entry(entry) for entry in fields.objects("users")))


def _presence_entry(fields: Fields) -> Presence:
    state = fields.string("state")
    if state not in _STATES:
        raise FrameError(f"there is no state {state!r}")
    return Presence(
        user=fields.string("user"),
        state=cast(State, state),
        version=fields.integer("version"),
        text=fields.optional_string("text"),
        last_seen_ms=fields.optional_integer("last_seen_ms"),
    )


def _token_ok(fields: Fields) -> TokenOkFrame:
    return TokenOkFrame(fields.integer("expires_ms"))


def _pong(fields: Fields) -> PongFrame:
    return PongFrame(fields.optional_integer("n"))


def _error(fields: Fields) -> ErrorFrame:
    return ErrorFrame(fields.string("code"), fields.optional_string("reason") or "", fields.optional_string("ref"))


def _goodbye(fields: Fields) -> GoodbyeFrame:
    return GoodbyeFrame(
        code=fields.integer("code"),
        reason=fields.optional_string("reason") or "",
        retry_after_s=fields.seconds("retry_after_ms"),
    )


_READERS: dict[str, Callable[[Fields], ServerFrame]] = {
    "welcome": _welcome,
    "message": _message,
    "caught_up": _caught_up,
    "accepted": _accepted,
    "rejected": _rejected,
    "presence": _presence,
    "token_ok": _token_ok,
    "pong": _pong,
    "error": _error,
    "goodbye": _goodbye,
}
