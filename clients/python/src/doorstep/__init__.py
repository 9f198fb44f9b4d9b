"""A client of the Doorstep message router that outlives connections, and with a storage also processes.

- `Client.send` returns only when the message is safe. Until then it is repeated under the same id; a failure says
  whether the message may have been taken.
- Each message, named by its sender and id, reaches the handler in the router's order, and once; it is acknowledged only
  after the handler has returned. What was not done when the process dies comes again.
- It reconnects by itself, with jitter and as the router wishes, and stays away when told so.
- Everything is bounded; a slow application slows the router down for its own device and for nobody else.
"""

from .client import Client
from .errors import (
    ClosedError,
    DoorstepError,
    NotConnectedError,
    SendError,
    StorageError,
    UnreadableBodyError,
)
from .events import (
    Accepted,
    CaughtUp,
    Closed,
    ClosedReason,
    Connected,
    Disconnected,
    Ephemeral,
    Event,
    Limits,
    Message,
    Presence,
    PresenceChanged,
    PutOff,
    Refused,
    Settled,
    State,
)
from .file_storage import FileStorage
from .names import new_id
from .options import EventHandler, MessageHandler, PoisonHandler, TokenProvider
from .storage import (
    Answered,
    Change,
    Done,
    Identity,
    Kept,
    MemoryStorage,
    Outgoing,
    Storage,
    Stored,
)

__all__ = [
    "Accepted",
    "Answered",
    "CaughtUp",
    "Change",
    "Client",
    "Closed",
    "ClosedError",
    "ClosedReason",
    "Connected",
    "Disconnected",
    "Done",
    "DoorstepError",
    "Ephemeral",
    "Event",
    "EventHandler",
    "FileStorage",
    "Identity",
    "Kept",
    "Limits",
    "MemoryStorage",
    "Message",
    "MessageHandler",
    "NotConnectedError",
    "Outgoing",
    "PoisonHandler",
    "Presence",
    "PresenceChanged",
    "PutOff",
    "Refused",
    "SendError",
    "Settled",
    "State",
    "Storage",
    "StorageError",
    "Stored",
    "TokenProvider",
    "UnreadableBodyError",
    "new_id",
]
