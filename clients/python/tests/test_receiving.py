"""Each message once, in order, and acknowledged when it is done."""

import asyncio
from collections.abc import Sequence

import pytest

from conftest import Clients, Heard
from doorstep import CaughtUp, Change, ClosedError, Disconnected, Ephemeral, MemoryStorage, Message, UnreadableBodyError
from fake_router import FakeRouter
from waiting import soon, until


class Handler:
    """A handler that waits to be released, and fails as often as it is told."""

    def __init__(self) -> None:
        self.began: list[int] = []
        self.ended: list[int] = []
        self.released = asyncio.Semaphore(0)
        self.failures = 0
        self.at_once = 0

    async def __call__(self, message: Message) -> None:
        self.began.append(message.seq)
        self.at_once += 1
        assert self.at_once == 1, "one after another"
        try:
            await self.released.acquire()
            if self.failures:
                self.failures -= 1
                raise RuntimeError("told to fail")
        finally:
            self.at_once -= 1
        self.ended.append(message.seq)

    def release(self, times: int = 1) -> None:
        for _ in range(times):
            self.released.release()


async def test_messages_are_handled_one_after_another_and_then_acknowledged(
    router: FakeRouter, client: Clients
) -> None:
    handler = Handler()
    async with client(on_message=handler):
        peer = await router.session()
        for seq in (1, 2, 3):
            await peer.message(seq)
        await until(lambda: handler.began == [1])
        await peer.is_quiet()
        handler.release()
        await peer.expect("ack", seq=1)
        await until(lambda: handler.began == [1, 2])
        await peer.is_quiet()
        handler.release(2)
        seq = 0
        while seq < 3:
            seq = (await peer.expect("ack"))["seq"]


async def test_a_new_connection_does_not_repeat_what_is_being_handled(router: FakeRouter, client: Clients) -> None:
    handler = Handler()
    async with client(on_message=handler):
        peer = await router.session()
        await peer.message(1)
        await peer.message(2)
        await until(lambda: handler.began == [1])
        peer.drop()
        peer = await router.session()
        handler.release()
        await until(lambda: handler.began == [1, 2])
        await peer.is_quiet()
        for seq in (1, 2, 3):
            await peer.message(seq, redelivered=True)
        await peer.expect("ack", seq=1)
        handler.release(2)
        while (await peer.expect("ack"))["seq"] < 3:
            pass
        assert handler.ended == [1, 2, 3]


async def test_what_was_done_in_an_earlier_process_is_acknowledged_and_not_done_again(
    router: FakeRouter, client: Clients, heard: Heard
) -> None:
    storage = MemoryStorage()
    async with client(storage=storage):
        peer = await router.session()
        await peer.message(5)
        await peer.expect("ack", seq=5)
    async with client(storage=storage):
        peer = await router.session()
        await peer.message(5, redelivered=True)
        await peer.expect("ack", seq=5)
        await peer.message(6, id="m5", redelivered=True)
        await peer.expect("ack", seq=6)
        await peer.message(7, redelivered=True)
        await peer.expect("ack", seq=7)
        assert heard.seqs() == [5, 7]


async def test_nothing_is_acknowledged_before_it_is_written(router: FakeRouter, client: Clients, heard: Heard) -> None:
    class Stuck(MemoryStorage):
        may_write = asyncio.Event()

        async def write(self, changes: object) -> None:
            await self.may_write.wait()
            await super().write(changes)  # type: ignore[arg-type]

    storage = Stuck()
    storage.may_write.set()
    async with client(storage=storage):
        peer = await router.session()
        await until(lambda: storage._identity.device)
        storage.may_write.clear()
        await peer.message(1)
        await until(lambda: heard.seqs() == [1])
        await peer.is_quiet()
        storage.may_write.set()
        await peer.expect("ack", seq=1)
        assert storage._done_seq == 1


async def test_no_more_are_done_and_not_written_than_may_come_again(
    router: FakeRouter, client: Clients, heard: Heard
) -> None:
    """Were the process to die now, they would all be handled a second time."""
    storage = MemoryStorage()
    may_write = asyncio.Event()
    write = storage.write

    async def stuck(changes: Sequence[Change]) -> None:
        await may_write.wait()
        await write(changes)

    async with client(storage=storage):
        peer = await router.session()
        storage.write = stuck  # type: ignore[method-assign]
        for seq in range(1, 101):
            await peer.message(seq)
        await until(lambda: len(heard.seqs()) == 32)
        await peer.is_quiet()
        assert len(heard.seqs()) == 32
        may_write.set()
        while (await peer.expect("ack"))["seq"] < 100:
            pass


async def test_a_handler_that_fails_is_tried_again_while_the_others_wait(
    router: FakeRouter, client: Clients, caplog: pytest.LogCaptureFixture
) -> None:
    handler = Handler()
    handler.failures = 2
    handler.release(9)
    async with client(on_message=handler):
        peer = await router.session()
        await peer.message(1)
        await peer.message(2)
        while (await peer.expect("ack"))["seq"] < 2:
            pass
        assert handler.began == [1, 1, 1, 2]
        assert caplog.text.count("on_message failed for m1") == 2


@pytest.mark.parametrize("poison_fails", [True, False])
async def test_a_message_that_always_fails_does_not_block_the_others(
    router: FakeRouter, client: Clients, *, poison_fails: bool
) -> None:
    handler = Handler()
    handler.failures = 2
    handler.release(9)
    poison: list[tuple[int, str]] = []

    async def on_poison(message: Message, error: Exception) -> None:
        poison.append((message.seq, str(error)))
        if poison_fails:
            raise RuntimeError("this too")

    async with client(on_message=handler, on_poison=on_poison, handler_attempts=2):
        peer = await router.session()
        await peer.message(1)
        await peer.expect("ack", seq=1)
        await peer.message(2)
        await peer.expect("ack", seq=2)
        assert poison == [(1, "told to fail")]
        assert handler.began == [1, 1, 2]


async def test_a_handler_that_is_cancelled_from_within_has_failed(router: FakeRouter, client: Clients) -> None:
    """It is not the client that is cancelled: the next message must be handled."""
    seen: list[int] = []

    async def on_message(message: Message) -> None:
        seen.append(message.seq)
        if len(seen) == 1:
            raise asyncio.CancelledError

    async with client(on_message=on_message):
        peer = await router.session()
        await peer.message(1)
        await peer.expect("ack", seq=1)
        assert seen == [1, 1]


async def test_a_body_that_cannot_be_read_is_poison(router: FakeRouter, client: Clients, heard: Heard) -> None:
    poison: list[tuple[Message, Exception]] = []
    async with client(on_poison=lambda message, error: poison.append((message, error))):
        peer = await router.session()
        await peer.say_text('{"type":"message","seq":1,"id":"m1","from":"alice","ts_ms":1,"body":{"n":1e999}}')
        await peer.expect("ack", seq=1)
        await peer.message(2)
        await peer.expect("ack", seq=2)
    (message, error) = poison[0]
    assert (message.id, message.body) == ("m1", None)
    assert isinstance(error, UnreadableBodyError)
    assert error.raw == '{"n":1e999}'
    assert heard.seqs() == [2]


@pytest.mark.parametrize(
    "text", ['{"type":"message","seq":1,"from":"alice","ts_ms":1,"body":1}', "{broken", '{"type":"message","seq":"1"}']
)
async def test_what_may_be_a_message_is_never_skipped(
    router: FakeRouter, client: Clients, heard: Heard, text: str
) -> None:
    """A later ack would cover it. The session ends instead, and it comes again."""
    async with client():
        peer = await router.session()
        await peer.say_text(text)
        await router.session()
        assert heard.of(Disconnected)[0].reason.startswith("unreadable message")


async def test_more_than_a_window_ends_the_session(router: FakeRouter, client: Clients, heard: Heard) -> None:
    handler = Handler()
    async with client(on_message=handler):
        peer = await router.session(limits={"window": 2})
        for seq in (1, 2, 3):
            await peer.message(seq)
        await router.session()
        assert heard.of(Disconnected)[0].reason == "more messages than the window allows"


async def test_ephemeral_messages_are_handed_over_without_any_of_that(
    router: FakeRouter, client: Clients, heard: Heard
) -> None:
    async with client():
        peer = await router.session()
        await peer.say("message", **{"from": "alice"}, ts_ms=7, ephemeral=True, body="typing")
        await peer.say_text('{"type":"message","from":"alice","ts_ms":1,"ephemeral":true,"body":1e999}')
        await until(lambda: heard.of(Ephemeral) == [Ephemeral("alice", "typing", 7)])
        await peer.is_quiet()


async def test_caught_up_is_told_after_what_waited(router: FakeRouter, client: Clients, heard: Heard) -> None:
    handler = Handler()
    async with client(on_message=handler):
        peer = await router.session()
        await peer.message(1)
        await peer.message(2)
        await peer.say("caught_up", seq=2)
        await until(lambda: handler.began == [1])
        assert heard.of(CaughtUp) == []
        handler.release(2)
        await until(lambda: heard.of(CaughtUp) == [CaughtUp(2)])
        assert handler.ended == [1, 2]


async def test_acks_come_in_batches_and_once_at_once(router: FakeRouter, client: Clients) -> None:
    async with client():
        peer = await router.session()
        for seq in range(1, 201):
            await peer.message(seq)
        acks = [0]
        while acks[-1] < 200:
            acks.append((await peer.expect("ack"))["seq"])
        assert acks == sorted(set(acks))
        assert len(acks) < 100


async def test_a_loop_acknowledges_when_it_comes_back_for_the_next(router: FakeRouter, client: Clients) -> None:
    async with client(on_message=None) as bot:
        peer = await router.session()
        messages = bot.messages()
        await peer.message(1)
        await peer.message(2)
        assert (await soon(anext(messages))).seq == 1
        await peer.is_quiet()
        assert (await soon(anext(messages))).seq == 2
        await peer.expect("ack", seq=1)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(messages), 0.05)
        await peer.expect("ack", seq=2)
        await peer.message(3)
        assert (await soon(anext(bot.messages()))).seq == 3, "a wait that was given up lost nothing"
        waiting = asyncio.ensure_future(anext(messages))
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="waits for the next"):
            await anext(bot.messages())
        await peer.close(4409)
        with pytest.raises(ClosedError):
            await soon(waiting)


async def test_a_loop_ends_with_a_client_that_is_closed(router: FakeRouter, client: Clients) -> None:
    async with client(on_message=None) as bot:
        await router.session()

        async def loop() -> list[Message]:
            return [message async for message in bot.messages()]

        looping = asyncio.create_task(loop())
        await asyncio.sleep(0)
        await soon(bot.close())
        assert await soon(looping) == []


async def test_a_loop_has_no_handler_beside_it(router: FakeRouter, client: Clients) -> None:
    async with client() as bot:
        with pytest.raises(RuntimeError, match="on_message"):
            await anext(bot.messages())
