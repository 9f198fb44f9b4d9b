"""Waiting for what must come; every wait is bounded."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

#: Far more than anything here takes, also on a slow machine.
PATIENCE_S = 20.0
#: How long nothing must happen for a test to believe that nothing does.
QUIET_S = 0.15


async def soon(work: Awaitable[T]) -> T:
    return await asyncio.wait_for(work, PATIENCE_S)


async def until(condition: Callable[[], object]) -> None:
    """Waits until the condition holds."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.005)
