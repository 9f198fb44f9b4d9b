"""When to come back after a connection ended: the table of close codes, and the back-off.

Pure: randomness is handed in, time never enters. It must never advise to come back after a code that says stay
away: two clients of one device would throw each other out for ever.
"""

import enum
import random
from dataclasses import dataclass

#: The longest wait that a router may ask for; a longer one is cut to this.
RETRY_AFTER_MAX_S = 3600.0


class Advice(enum.Enum):
    """What to do after a connection ended."""

    #: The client's own wish was fulfilled.
    DONE = enum.auto()
    #: Coming back would end the same way.
    STOP = enum.auto()
    #: Come back when the router said, or after a back-off.
    RETRY = enum.auto()
    #: Come back, but not with the same token.
    NEW_TOKEN = enum.auto()
    #: There is no other token.
    NO_TOKEN = enum.auto()


_ADVICE = {
    1000: Advice.DONE,
    4401: Advice.NEW_TOKEN,
    **dict.fromkeys((1002, 1003, 1007, 1009, 4400, 4403, 4409, 4410), Advice.STOP),
}
_CLOSE_CODE_OF_STATUS = {401: 4401, 403: 4403, 408: 4408, 429: 4429, 503: 1012}


def advice(close_code: int | None) -> Advice:
    """The table; `None` is a connection that broke without a code.

    Codes that this version does not know are taken for passing trouble: the back-off keeps a wrong guess cheap, while
    giving up would need a person.
    """
    return Advice.RETRY if close_code is None else _ADVICE.get(close_code, Advice.RETRY)


def close_code_of_status(status: int) -> int:
    """What an HTTP answer that refused the upgrade amounts to."""
    return _CLOSE_CODE_OF_STATUS.get(status, 1011 if status >= 500 else 4400)


@dataclass(frozen=True, slots=True)
class Ended:
    """How a connection, or the attempt at one, came to its end."""

    advice: Advice
    close_code: int | None
    reason: str
    retry_after_s: float | None = None

    @classmethod
    def trouble(cls, reason: str) -> "Ended":
        return cls(Advice.RETRY, None, reason)

    @classmethod
    def impossible(cls, reason: str) -> "Ended":
        return cls(Advice.STOP, None, reason)

    @classmethod
    def closed(cls, close_code: int | None, reason: str, retry_after_s: float | None = None) -> "Ended":
        return cls(advice(close_code), close_code, reason, retry_after_s)


class Backoff:
    """Exponential back-off with full jitter: a wait is drawn from zero up to a bound that doubles."""

    def __init__(self, min_s: float, max_s: float, rng: random.Random) -> None:
        self._min_s = min_s
        self._max_s = max(min_s, max_s)
        self._rng = rng
        self._failures = 0

    def next_s(self, retry_after_s: float | None = None) -> float:
        """The wait before the next attempt; one that the router asked for wins, and nothing is added to it."""
        bound = min(self._min_s * 2 ** min(self._failures, 20), self._max_s)
        self._failures += 1
        if retry_after_s is not None:
            return min(retry_after_s, RETRY_AFTER_MAX_S)
        return self._rng.uniform(0, bound)

    def reset(self) -> None:
        self._failures = 0


def spread_s(retry_after_s: int, rng: random.Random) -> float:
    """A wait from the HTTP header ``retry-after``: whole seconds, and the same to everybody. Taken literally, all
    would come back at once. (That of a ``goodbye`` is spread by the router.)
    """
    wait = min(float(retry_after_s), RETRY_AFTER_MAX_S)
    return wait + rng.uniform(0, max(wait / 2, 1.0))
