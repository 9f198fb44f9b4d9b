import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest

from doorstep import Client, Event, Message
from fake_router import FakeRouter
from waiting import until


@pytest.fixture
async def tidy() -> AsyncIterator[None]:
    """No test leaves a task of a client behind, nor an exception that nobody saw."""
    unseen: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unseen.append(context))
    yield
    await until(lambda: not [task for task in asyncio.all_tasks() if task.get_name().startswith("doorstep")])
    gc.collect()
    await asyncio.sleep(0)
    assert unseen == []


@pytest.fixture
async def router(tidy: None) -> AsyncIterator[FakeRouter]:
    async with FakeRouter() as router:
        yield router


class Heard:
    """What a client told."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.messages: list[Message] = []

    def on_event(self, event: Event) -> None:
        self.events.append(event)

    def on_message(self, message: Message) -> None:
        self.messages.append(message)

    def of(self, kind: type[Event]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    def seqs(self) -> list[int]:
        return [message.seq for message in self.messages]


@pytest.fixture
def heard() -> Heard:
    return Heard()


Clients = Callable[..., AbstractAsyncContextManager[Client]]


@pytest.fixture
def client(router: FakeRouter, heard: Heard) -> Clients:
    """Makes clients of the fake router, which tell `heard`."""

    @asynccontextmanager
    async def make(**options: Any) -> AsyncIterator[Client]:
        usual: dict[str, Any] = {
            "user": "bot",
            "device": "main",
            "on_event": heard.on_event,
            "on_message": heard.on_message,
            "backoff_min_s": 0.01,
            "backoff_max_s": 0.02,
            "close_timeout_s": 1.0,
        }
        made = Client(router.url, **(usual | options))
        await made.start()
        try:
            yield made
        finally:
            await made.abort()

    return make
