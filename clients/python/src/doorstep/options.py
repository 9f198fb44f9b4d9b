"""What a client needs to know before it connects."""

import math
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from ssl import SSLContext
from typing import Literal
from urllib.parse import urlsplit, urlunsplit

from .events import Event, Message, State
from .names import check_device, check_user
from .storage import Storage

CONNECT_PATH = "/v1/connect"
STATUS_TEXT_CHARS_MAX = 140
_WINDOW_MAX = 2**32 - 1

#: Called for each message; the message is acknowledged when it has returned.
MessageHandler = Callable[[Message], Awaitable[object] | None]
#: Called with a message that no handler could deal with, and why.
PoisonHandler = Callable[[Message, Exception], Awaitable[object] | None]
#: Called for everything else.
EventHandler = Callable[[Event], Awaitable[object] | None]
#: Asked before each connection, and again shortly before the token in use ends. `None`: there is no token.
TokenProvider = Callable[[], Awaitable[str | None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The arguments of `doorstep.Client`, which says what they mean."""

    url: str
    user: str | None = None
    device: str | None = None
    token: TokenProvider | str | None = None
    storage: Storage | None = None
    on_message: MessageHandler | None = None
    on_poison: PoisonHandler | None = None
    on_event: EventHandler | None = None
    handler_attempts: int = 5
    status: State = "online"
    window: int | None = None
    send_timeout_s: float | None = 30.0
    connect_timeout_s: float = 10.0
    close_timeout_s: float = 5.0
    backoff_min_s: float = 0.25
    backoff_max_s: float = 30.0
    ssl: SSLContext | None = None
    proxy: str | Literal[True] | None = None
    rng: random.Random = field(default_factory=random.Random, repr=False)

    def __post_init__(self) -> None:
        if self.user is not None:
            check_user(self.user)
        if self.device is not None:
            check_device(self.device)
        check_status(self.status, None)
        if self.window is not None and not 1 <= self.window <= _WINDOW_MAX:
            raise ValueError(f"window must be from 1 to {_WINDOW_MAX}")
        if self.handler_attempts < 1:
            raise ValueError("handler_attempts must be at least 1")
        for name in ("connect_timeout_s", "close_timeout_s", "backoff_min_s", "backoff_max_s"):
            length = getattr(self, name)
            if not (length >= 0 and math.isfinite(length)):
                raise ValueError(f"{name} must be a length of time")

    async def provide_token(self) -> str | None:
        if self.token is None or isinstance(self.token, str):
            return self.token
        return await self.token()

    def address(self) -> str:
        """The URL, with the path that the protocol knows when it has none."""
        parts = urlsplit(self.url)
        return urlunsplit(parts._replace(path=CONNECT_PATH)) if parts.path in ("", "/") else self.url


def check_status(state: State, text: str | None) -> None:
    if state not in ("online", "away", "busy", "invisible"):
        raise ValueError(f"a session can be online, away, busy or invisible, not {state!r}")
    if text is not None and len(text) > STATUS_TEXT_CHARS_MAX:
        raise ValueError(f"a status text has at most {STATUS_TEXT_CHARS_MAX} characters")
