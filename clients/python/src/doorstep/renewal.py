"""Tokens that are shown anew before the session ends with the old one."""

import asyncio
import logging
import time
from collections.abc import Callable

from .dial import Dialler
from .options import Options
from .reconnect import Backoff

_log = logging.getLogger("doorstep")

#: How long before its end a token is renewed, at most.
_LEAD_S = 60.0
#: Between attempts at a new token, at least.
_PAUSE_S = 1.0
#: What attempts in vain add to the pause, at most: a provider that is down has many clients.
_BACKOFF_MAX_S = 15.0


def renewal_in_s(left_s: float) -> float:
    """How long to wait when the token ends in ``left_s``: until a minute before, or half of it if that is sooner."""
    return max(left_s - min(_LEAD_S, left_s / 2), _PAUSE_S)


class Renewal:
    """Renews the token of one session, for as long as it lasts."""

    def __init__(self, options: Options, dialler: Dialler, show: Callable[[str], bool]) -> None:
        self._options = options
        self._dialler = dialler
        self._show = show
        self._backoff = Backoff(_PAUSE_S, _BACKOFF_MAX_S, options.rng)
        self._answer: asyncio.Future[int | None] | None = None

    def answered(self, expires_ms: int | None) -> None:
        """The router took the token that was shown, until ``expires_ms``; or it did not."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(expires_ms)

    async def run(self, expires_ms: int | None) -> None:
        # Only a session whose token ends has something to renew.
        if expires_ms is None or self._options.token is None:
            return
        while True:
            await asyncio.sleep(self._pause_s(expires_ms))
            expires_ms = await self._renew()

    def _pause_s(self, expires_ms: int | None) -> float:
        left_s = 0.0 if expires_ms is None else expires_ms / 1000 - time.time()
        if left_s > 0:
            self._backoff.reset()
            return renewal_in_s(left_s)
        # It was not renewed, or the clocks differ and every token looks like this.
        return _PAUSE_S + self._backoff.next_s()

    async def _renew(self) -> int | None:
        """When the new token ends; `None` when there is no new one."""
        try:
            token = await self._options.provide_token()
        except Exception as error:
            _log.warning("no token to renew the session with: %s", error)
            return None
        # The provider may have no newer one yet.
        if token is None or token == self._dialler.token:
            return None
        self._answer = asyncio.get_running_loop().create_future()
        if not self._show(token):
            return None
        expires_ms = await self._answer
        if expires_ms is not None:
            self._dialler.token = token
        return expires_ms
