"""What an application hears from its client. Types only."""

from dataclasses import dataclass
from typing import Any, Literal

from .errors import SendError

#: How available a user is. Others see ``invisible`` as ``offline``.
State = Literal["online", "away", "busy", "invisible", "offline"]
#: Why a client ended; see `Closed`.
ClosedReason = Literal["done", "refused", "not_authenticated", "impossible"]


@dataclass(frozen=True, slots=True)
class Message:
    """A durable message. ``(sender, id)`` is its name, for ever."""

    seq: int
    id: str
    sender: str
    #: The JSON value; `None` for a poisoned message whose body could not be read.
    body: Any
    #: When the router took it, milliseconds since the Unix epoch.
    ts_ms: int
    #: This device may have seen it before, in an earlier process.
    redelivered: bool


@dataclass(frozen=True, slots=True)
class Accepted:
    """The message is safe: on the router's disk, or acknowledged by every device of its recipient."""

    id: str
    to: str
    #: Its place in the recipient's inbox.
    seq: int
    #: It waits on the router's disk for some device of the recipient; otherwise it was handed over.
    stored: bool


@dataclass(frozen=True, slots=True)
class Presence:
    """What is known of one user. ``version`` only rises."""

    user: str
    state: State
    version: int
    text: str | None = None
    last_seen_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """What the router allows on this connection."""

    frame_bytes: int
    body_bytes: int
    window: int
    sends_in_flight: int
    heartbeat_ms: int


@dataclass(frozen=True, slots=True)
class Connected:
    """A session began."""

    user: str
    device: str
    session: str
    server: str
    #: The device is new to the router.
    registered: bool
    #: The device had fallen so far behind that messages for it were removed.
    gap: bool
    #: How many messages wait for the device; may be an upper bound.
    pending: int
    cursor: int
    expires_ms: int | None
    limits: Limits


@dataclass(frozen=True, slots=True)
class CaughtUp:
    """Everything that waited when the session began has been handed over."""

    seq: int


@dataclass(frozen=True, slots=True)
class Ephemeral:
    """A message that is neither stored nor acknowledged, as "is typing"."""

    sender: str
    body: Any
    ts_ms: int


@dataclass(frozen=True, slots=True)
class PresenceChanged:
    """News of users who are watched, and of oneself."""

    users: tuple[Presence, ...]


@dataclass(frozen=True, slots=True)
class PutOff:
    """A send was not taken now; the client repeats it. Told once for every new ``code``."""

    id: str
    to: str
    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class Settled:
    """A send came to its end; also one of an earlier process, or one whose caller was cancelled."""

    id: str
    to: str
    outcome: Accepted | SendError


@dataclass(frozen=True, slots=True)
class Refused:
    """Something that was not a durable send was refused, by the router or for its limits."""

    code: str
    reason: str
    #: The ``type`` of the frame, or the recipient of the ephemeral message.
    about: str | None


@dataclass(frozen=True, slots=True)
class Disconnected:
    """A session ended, or an attempt to connect failed; the next attempt is ``retry_in_s`` away."""

    close_code: int | None
    reason: str
    retry_in_s: float


@dataclass(frozen=True, slots=True)
class Closed:
    """The client is at its end and will not come back. Always the last event.

    - ``done``: it was closed, or the router said 1000;
    - ``refused``: the close code says that coming back would be wrong, as 4409: replaced by a newer
      session of this device;
    - ``not_authenticated``: the router does not accept the token, and there is no other;
    - ``impossible``: nothing can be at this address, or the router took the client for someone else.
    """

    reason: ClosedReason
    message: str
    close_code: int | None = None


Event = Connected | CaughtUp | Ephemeral | PresenceChanged | PutOff | Settled | Refused | Disconnected | Closed
