"""Calls into the application."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import ParamSpec

_P = ParamSpec("_P")


async def call(callback: Callable[_P, Awaitable[object] | None], *args: _P.args, **kwargs: _P.kwargs) -> None:
    """Calls back, and waits for the end if there is something to wait for.

    A callback that ends with `asyncio.CancelledError` although nobody cancelled the task failed like any other: what
    it waited for was cancelled. Letting it pass would end the task that is to call the next.
    """
    try:
        result = callback(*args, **kwargs)
        if inspect.isawaitable(result):
            await result
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise RuntimeError("the callback was cancelled from within") from error
