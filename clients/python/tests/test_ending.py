"""How a client ends, and what becomes of what it had."""

import asyncio
import gc
from collections.abc import Sequence

import pytest

from conftest import Clients, Heard
from doorstep import (
    Change,
    Client,
    Closed,
    ClosedError,
    Connected,
    Disconnected,
    MemoryStorage,
    Message,
    NotConnectedError,
    SendError,
    Settled,
    Stored,
)
from fake_router import FakeRouter
from waiting import QUIET_S, soon, until


async def test_close_acknowledges_what_is_done_and_says_1000(router: FakeRouter, client: Clients, heard: Heard) -> None:
    async with client() as bot:
        peer = await router.session()
        for seq in (1, 2, 3):
            await peer.message(seq)
        await until(lambda: heard.seqs() == [1, 2, 3])
        closing = asyncio.create_task(bot.close())
        seq = 0
        while seq < 3:
            seq = (await peer.expect("ack"))["seq"]
        assert await peer.close_code() == 1000
        await soon(closing)
        assert heard.events[-1] == Closed("done", "closed")
        await soon(bot.close())


async def test_close_waits_until_what_is_done_is_written(router: FakeRouter, client: Clients, heard: Heard) -> None:
    class Slow(MemoryStorage):
        async def write(self, changes: Sequence[Change]) -> None:
            await asyncio.sleep(QUIET_S)
            await super().write(changes)

    async with client(storage=Slow()) as bot:
        peer = await router.session()
        await peer.message(1)
        await until(lambda: heard.seqs() == [1])
        closing = asyncio.create_task(bot.close())
        await peer.expect("ack", seq=1)
        assert await peer.close_code() == 1000
        await soon(closing)


async def test_close_lets_a_running_handler_end(router: FakeRouter, client: Clients) -> None:
    may_end = asyncio.Event()
    began: list[int] = []

    async def on_message(message: Message) -> None:
        began.append(message.seq)
        await may_end.wait()

    async with client(on_message=on_message, close_timeout_s=20) as bot:
        peer = await router.session()
        await peer.message(1)
        await peer.message(2)
        await until(lambda: began)
        closing = asyncio.create_task(bot.close())
        await peer.is_quiet()
        may_end.set()
        await peer.expect("ack", seq=1)
        assert await peer.close_code() == 1000
        await soon(closing)
        assert began == [1]


async def test_close_does_not_wait_for_ever_nor_acknowledge_what_is_not_done(
    router: FakeRouter, client: Clients
) -> None:
    began = asyncio.Event()

    async def on_message(message: Message) -> None:
        began.set()
        await asyncio.Event().wait()

    storage = MemoryStorage()
    async with client(on_message=on_message, close_timeout_s=0.05, storage=storage) as bot:
        peer = await router.session()
        await peer.message(1)
        await soon(began.wait())
        closing = asyncio.create_task(bot.close())
        assert await peer.close_code() == 1000
        await soon(closing)
        assert storage._done_seq == 0


async def test_close_from_within_a_handler_counts_the_message_as_done(router: FakeRouter) -> None:
    """Otherwise the message that tells a bot to end would end it again at every start."""
    bot: Client

    async def on_message(message: Message) -> None:
        await bot.close()

    async with Client(router.url, user="bot", on_message=on_message) as bot:
        peer = await router.session()
        await peer.message(1)
        await peer.expect("ack", seq=1)
        assert await peer.close_code() == 1000
        assert (await soon(bot.wait_closed())).reason == "done"


async def test_close_from_within_an_event(router: FakeRouter) -> None:
    bot: Client

    async def on_event(event: object) -> None:
        if isinstance(event, Connected):
            await bot.close()

    async with Client(router.url, user="bot", on_event=on_event) as bot:
        peer = await router.session()
        assert await peer.close_code() == 1000
        await soon(bot.wait_closed())


@pytest.mark.parametrize("fails", [True, False])
async def test_leaving_the_block_is_done_with_the_last_message_unless_it_failed(
    router: FakeRouter, *, fails: bool
) -> None:
    async def use() -> None:
        async with Client(router.url, user="bot") as bot:
            async for _ in bot.messages():
                if fails:
                    raise RuntimeError("so")
                break

    using = asyncio.create_task(use())
    peer = await router.session()
    await peer.message(1)
    if not fails:
        await peer.expect("ack", seq=1)
    assert await peer.close_code() == 1000
    (outcome,) = await asyncio.gather(using, return_exceptions=True)
    assert isinstance(outcome, RuntimeError if fails else type(None))


async def test_close_fails_what_has_no_answer(router: FakeRouter, client: Clients) -> None:
    async with client() as bot:
        peer = await router.session(limits={"sends_in_flight": 1})
        sends = [asyncio.create_task(bot.send("alice", n)) for n in range(2)]
        await peer.expect("send")
        await soon(bot.close())
        failures = await asyncio.gather(*sends, return_exceptions=True)
        assert [isinstance(failure, SendError) for failure in failures] == [True, True]
        told = [(failure.code, failure.maybe_taken, failure.kept) for failure in failures]  # type: ignore[union-attr]
        assert told == [("closed", True, False), ("closed", False, False)]
        with pytest.raises(SendError, match="closed"):
            await bot.send("alice", 3)


async def test_answers_that_are_under_way_at_the_end_count(router: FakeRouter, client: Clients) -> None:
    async with client() as bot:
        peer = await router.session()
        sending = asyncio.create_task(bot.send("alice", 1))
        frame = await peer.expect("send")
        closing = asyncio.create_task(bot.close())
        await peer.accept(frame)
        await soon(closing)
        assert (await soon(sending)).id == frame["id"]


async def test_close_keeps_what_is_stored(router: FakeRouter, client: Clients) -> None:
    storage = MemoryStorage()
    async with client(storage=storage) as bot:
        peer = await router.session()
        sending = asyncio.create_task(bot.send("alice", 1))
        await peer.expect("send")
        await soon(bot.close())
        with pytest.raises(SendError) as raised:
            await sending
        assert raised.value.kept
        assert len((await storage.open()).outbox) == 1


async def test_close_does_not_wait_for_a_connection(heard: Heard) -> None:
    async with Client("ws://127.0.0.1:1", user="bot", on_event=heard.on_event, backoff_min_s=100, backoff_max_s=100):
        await until(lambda: heard.of(Disconnected))


async def test_a_router_that_does_not_answer_the_close_is_left(
    router: FakeRouter, client: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("doorstep.session.LEAVE_MAX_S", 0.1)
    async with client() as bot:
        peer = await router.session()
        peer._connection.transport.pause_reading()
        await soon(bot.close())


async def test_forget_waits_for_a_connection_and_removes_what_is_stored(router: FakeRouter, client: Clients) -> None:
    storage = MemoryStorage()
    async with client(storage=storage) as bot:
        sending = asyncio.create_task(bot.send("alice", 1))
        forgetting = asyncio.create_task(bot.forget())
        peer = await router.session()
        await peer.expect("forget")
        await peer.say("goodbye", code=1000, reason="forgotten")
        await peer.close(1000)
        await soon(forgetting)
        with pytest.raises(SendError) as raised:
            await sending
        assert not raised.value.kept
        assert await storage.open() == Stored()


async def test_forget_is_said_again_when_the_connection_was_lost(router: FakeRouter, client: Clients) -> None:
    async with client() as bot:
        peer = await router.session()
        forgetting = asyncio.create_task(bot.forget())
        await peer.expect("forget")
        peer.drop()
        peer = await router.session()
        await peer.expect("forget")
        await peer.close(4410)
        with pytest.raises(ClosedError):
            await soon(forgetting)


async def test_a_client_that_is_replaced_keeps_what_it_did(router: FakeRouter, client: Clients, heard: Heard) -> None:
    storage = MemoryStorage()
    async with client(storage=storage) as bot:
        peer = await router.session()
        await peer.message(1)
        await until(lambda: heard.seqs() == [1])
        await peer.close(4409)
        await soon(bot.wait_closed())
        assert (await storage.open()).done_seq == 1
        with pytest.raises(ClosedError):
            bot.watch(["alice"])


async def test_calls_before_the_start_are_refused() -> None:
    bot = Client("ws://127.0.0.1:1", user="bot")
    with pytest.raises(NotConnectedError, match="not started"):
        await bot.send("alice", 1)
    await bot.close()
    await bot.abort()


async def test_ping_measures_or_says_that_it_cannot(router: FakeRouter, client: Clients) -> None:
    async with client() as bot:
        with pytest.raises(NotConnectedError):
            await bot.ping()
        peer = await router.session()
        await until(lambda: bot.is_connected)
        pinging = asyncio.create_task(bot.ping())
        frame = await peer.expect("ping")
        await peer.say("pong", n=frame["n"])
        assert 0 <= await soon(pinging) < 20
        pinging = asyncio.create_task(bot.ping())
        await peer.expect("ping")
        peer.drop()
        with pytest.raises(NotConnectedError):
            await soon(pinging)


async def test_exceptions_in_callbacks_do_not_break_the_client(
    router: FakeRouter, client: Clients, caplog: pytest.LogCaptureFixture
) -> None:
    def on_event(event: object) -> None:
        raise RuntimeError("so")

    async with client(on_event=on_event) as bot:
        peer = await router.session()
        sending = asyncio.create_task(bot.send("alice", 1))
        await peer.accept(await peer.expect("send"))
        await soon(sending)
        await until(lambda: "on_event failed for Settled" in caplog.text)


async def test_a_slow_listener_slows_nothing_else_and_is_bounded(router: FakeRouter, client: Clients) -> None:
    async def on_event(event: object) -> None:
        await asyncio.Event().wait()

    seen: list[int] = []
    async with client(on_event=on_event, on_message=lambda m: seen.append(m.seq), close_timeout_s=0.05) as bot:
        peer = await router.session()
        for seq in range(1, 300):
            await peer.say("message", **{"from": "alice"}, ts_ms=1, ephemeral=True, body="x")
            await peer.say("presence", users=[{"user": "bot", "state": "online", "version": seq}])
        await peer.message(1)
        await until(lambda: seen == [1])
        assert bot._started is not None
        assert len(bot._started.announcer._waiting) < 100
        await soon(bot.close())


def test_the_end_of_the_event_loop_leaves_nothing_behind(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """A program that ends without closing its client, in the middle of everything."""

    async def main() -> None:
        async with asyncio.timeout(20), asyncio.TaskGroup():
            router = FakeRouter()
            await router.__aenter__()
            bot = Client(router.url, user="bot", storage=MemoryStorage(), on_message=lambda _: asyncio.Event().wait())
            await bot.start()
            peer = await router.session()
            await peer.message(1)
            sending = asyncio.create_task(bot.send("alice", 1))
            await peer.expect("send")
            await asyncio.sleep(QUIET_S)
            await router.__aexit__(None, None, None)
            sending.cancel()

    asyncio.run(main())
    gc.collect()
    assert [record for record in caplog.records if record.name == "asyncio"] == []
    assert capsys.readouterr().err == ""


async def test_a_disk_that_hangs_does_not_keep_the_application_from_ending(
    router: FakeRouter, client: Clients, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("doorstep.core.LEAVE_MAX_S", 0.05)
    monkeypatch.setattr("doorstep.core._STORAGE_CLOSE_MAX_S", 0.05)

    class Hanging(MemoryStorage):
        async def close(self) -> None:
            await asyncio.Event().wait()

    async with client(storage=Hanging()) as bot:
        await router.session()
        await soon(bot.close())
        assert "the storage could not be closed" in caplog.text


async def test_an_abort_at_any_moment_of_connecting_leaves_nothing_behind(router: FakeRouter, client: Clients) -> None:
    """Turn by turn of the event loop, from before the connection to after the welcome or the refusal."""
    for turns in range(60):
        router.statuses = [401] if turns % 2 else []
        async with client(token="one") as bot:
            welcoming = asyncio.create_task(router.session()) if turns % 2 == 0 else None
            for _ in range(turns):
                await asyncio.sleep(0)
            await soon(bot.abort())
            if welcoming is not None:
                welcoming.cancel()
                await asyncio.gather(welcoming, return_exceptions=True)


async def test_abort_writes_and_says_nothing_more(router: FakeRouter, client: Clients, heard: Heard) -> None:
    storage = MemoryStorage()
    async with client(storage=storage) as bot:
        peer = await router.session()
        sending = asyncio.create_task(bot.send("alice", 1))
        await peer.expect("send")
        await bot.abort()
        assert await peer.close_code() is None
        with pytest.raises(SendError):
            await sending
        assert len((await storage.open()).outbox) == 1
        assert heard.of(Settled) == []
