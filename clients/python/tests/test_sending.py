"""Sends over connections that come and go."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from conftest import Clients, Heard
from doorstep import Accepted, Change, FileStorage, MemoryStorage, PutOff, Refused, SendError, Settled
from doorstep.sends import PENDING_BYTES_MAX
from fake_router import FakeRouter
from waiting import QUIET_S, soon, until


async def test_a_send_returns_when_the_message_is_safe(router: FakeRouter, client: Clients, heard: Heard) -> None:
    async with client() as bot:
        peer = await router.session()
        sending = asyncio.create_task(bot.send("alice", {"text": "hi"}, id="x", ttl_ms=5))
        frame = await peer.expect("send", id="x", to="alice", body={"text": "hi"}, ttl_ms=5)
        assert "retry" not in frame
        await asyncio.sleep(QUIET_S)
        assert not sending.done()
        await peer.accept(frame, 9, stored=True)
        accepted = Accepted("x", "alice", 9, stored=True)
        assert await soon(sending) == accepted
        await until(lambda: heard.of(Settled) == [Settled("x", "alice", accepted)])


async def test_what_is_sent_without_a_connection_waits_for_one(router: FakeRouter, client: Clients) -> None:
    async with client() as bot:
        sending = asyncio.create_task(bot.send("alice", 1))
        peer = await router.session()
        frame = await peer.expect("send", body=1)
        assert "retry" not in frame, "it never left"
        await peer.accept(frame)
        await soon(sending)


async def test_the_end_of_a_connection_repeats_in_order_with_the_same_words(
    router: FakeRouter, client: Clients
) -> None:
    async with client() as bot:
        sends = [asyncio.create_task(bot.send("alice", {"n": n, "f": 1.0})) for n in range(5)]
        peer = await router.session()
        first = [await peer.expect("send") for _ in range(5)]
        await peer.accept(first[1])
        await soon(sends[1])
        peer.drop()
        peer = await router.session()
        for frame in first[:1] + first[2:]:
            again = await peer.frame()
            assert again == frame | {"retry": True}
            await peer.accept(again)
        await soon(asyncio.gather(*sends))


async def test_none_overtakes_one_that_waits_for_its_repeat(router: FakeRouter, client: Clients, heard: Heard) -> None:
    async with client() as bot:
        peer = await router.session()
        sends = [asyncio.create_task(bot.send("alice", 0))]
        first = await peer.expect("send", body=0)
        await peer.reject(first, "rate_limited", retry_after_ms=200)
        await until(lambda: heard.of(PutOff))
        sends += [asyncio.create_task(bot.send("alice", 1)), asyncio.create_task(bot.send("carol", 2))]
        for body, marked in ((2, None), (0, True), (1, None)):
            frame = await peer.expect("send", body=body, retry=marked)
            await peer.accept(frame)
        await soon(asyncio.gather(*sends))


async def test_no_more_are_in_flight_than_the_router_allows(router: FakeRouter, client: Clients) -> None:
    async with client() as bot:
        sends = [asyncio.create_task(bot.send("alice", n)) for n in range(4)]
        peer = await router.session(limits={"sends_in_flight": 2})
        frames = [await peer.expect("send", body=0), await peer.expect("send", body=1)]
        await peer.is_quiet()
        await peer.accept(frames[1])
        frames.append(await peer.expect("send", body=2))
        await peer.is_quiet()
        await peer.accept(frames[0])
        await peer.accept(frames[2])
        await peer.accept(await peer.expect("send", body=3))
        await soon(asyncio.gather(*sends))


@pytest.mark.parametrize("code", ["forbidden", "id_reused", "expired", "bad_request", "too_large"])
async def test_a_rejection_that_stays_fails_the_send(router: FakeRouter, client: Clients, code: str) -> None:
    async with client() as bot:
        peer = await router.session()
        sending = asyncio.create_task(bot.send("alice", 1))
        await peer.reject(await peer.expect("send"), code)
        with pytest.raises(SendError) as raised:
            await soon(sending)
        assert (raised.value.code, raised.value.maybe_taken) == (code, False)
        assert code in str(raised.value)


@pytest.mark.parametrize("goes_out", [True, False])
async def test_a_send_that_takes_too_long_says_whether_it_may_have_been_taken(
    router: FakeRouter, client: Clients, *, goes_out: bool
) -> None:
    async with client() as bot:
        peer = await router.session() if goes_out else await router.peer()
        with pytest.raises(SendError) as raised:
            await soon(bot.send("alice", 1, timeout_s=0.2))
        assert (raised.value.code, raised.value.maybe_taken) == ("timeout", goes_out)
        if goes_out:
            await peer.expect("send")


async def test_what_is_too_large_stays_here(router: FakeRouter, client: Clients, heard: Heard) -> None:
    async with client() as bot:
        peer = await router.session()
        with pytest.raises(SendError) as raised:
            await soon(bot.send("alice", "x" * 2000))
        assert (raised.value.code, raised.value.maybe_taken) == ("too_large", False)
        bot.ephemeral("alice", "x" * 2000)
        await until(lambda: heard.of(Refused))
        assert heard.of(Refused)[0].code == "too_large"
        await peer.is_quiet()


async def test_mistakes_of_the_caller_are_told_at_once(router: FakeRouter, client: Clients) -> None:
    async with client() as bot:
        for wrong in (bot.send("a/b", 1), bot.send("alice", float("nan")), bot.send("alice", 1, id="ü")):
            with pytest.raises(ValueError, match=r"is|compliant"):
                await wrong
        with pytest.raises(TypeError):
            await bot.send("alice", object())
        with pytest.raises(ValueError, match="repeat"):
            await bot.send("alice", 1, repeat=True)
        deep: list[object] = []
        for _ in range(200):
            deep = [deep]
        with pytest.raises(SendError, match="bad_request"):
            await bot.send("alice", deep)


async def test_a_repeat_of_an_earlier_process_is_marked(router: FakeRouter, client: Clients) -> None:
    async with client() as bot:
        peer = await router.session()
        sending = asyncio.create_task(bot.send("alice", 1, id="x", repeat=True))
        frame = await peer.expect("send", id="x", retry=True)
        await peer.reject(frame, "forbidden")
        with pytest.raises(SendError) as raised:
            await soon(sending)
        assert raised.value.maybe_taken


async def test_cancelling_does_not_recall_the_message(router: FakeRouter, client: Clients, heard: Heard) -> None:
    async with client() as bot:
        peer = await router.session()
        sending = asyncio.create_task(bot.send("alice", 1, id="x"))
        await peer.expect("send")
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        assert sending.cancelled()
        peer.drop()
        peer = await router.session()
        await peer.accept(await peer.expect("send", id="x", retry=True), 9)
        await until(lambda: heard.of(Settled) == [Settled("x", "alice", Accepted("x", "alice", 9, stored=False))])


async def test_a_cancelled_send_that_waited_for_room_is_dropped(router: FakeRouter, client: Clients) -> None:
    async with client() as bot:
        peer = await router.session(limits={"body_bytes": PENDING_BYTES_MAX, "frame_bytes": 2 * PENDING_BYTES_MAX})
        first = asyncio.create_task(bot.send("alice", "x" * (PENDING_BYTES_MAX - 2)))
        await asyncio.sleep(0)
        second = asyncio.create_task(bot.send("alice", 2))
        third = asyncio.create_task(bot.send("alice", 3))
        await asyncio.sleep(0)
        second.cancel()
        first_frame = await peer.expect("send")
        await peer.accept(first_frame)
        await peer.accept(await peer.expect("send", body=3))
        await soon(asyncio.gather(first, third))


async def test_the_end_of_a_connection_in_the_middle_of_a_large_frame(router: FakeRouter, client: Clients) -> None:
    """The router ends it while the client has much left to write, and reads the rest only then."""
    limits = {"body_bytes": 16 << 20, "frame_bytes": 16 << 20}
    async with client() as bot:
        peer = await router.session(limits=limits)
        transport = peer._connection.transport
        transport.pause_reading()
        sending = asyncio.create_task(bot.send("alice", "x" * (8 << 20)))
        await asyncio.sleep(QUIET_S)
        transport.write_eof()
        await asyncio.sleep(QUIET_S)
        transport.resume_reading()
        peer = await router.session(limits=limits)
        await peer.accept(await peer.expect("send", retry=True))
        await soon(sending)


async def test_ephemeral_messages_go_out_and_are_forgotten(router: FakeRouter, client: Clients, heard: Heard) -> None:
    async with client() as bot:
        bot.ephemeral("alice", "too early")
        peer = await router.session()
        await until(lambda: bot.is_connected)
        bot.ephemeral("alice", "typing")
        assert await peer.frame() == {"type": "send", "to": "alice", "ephemeral": True, "body": "typing"}
        await peer.say("rejected", to="alice", code="forbidden", reason="so")
        await until(lambda: heard.of(Refused) == [Refused("forbidden", "so", "alice")])
        peer.drop()
        await (await router.session()).is_quiet()


async def test_with_a_storage_what_is_not_answered_outlives_the_process(
    router: FakeRouter, client: Clients, heard: Heard
) -> None:
    storage = MemoryStorage()
    async with client(storage=storage) as bot:
        peer = await router.session()
        sends = [asyncio.create_task(bot.send("alice", n, id=str(n))) for n in range(3)]
        frames = [await peer.expect("send") for _ in range(3)]
        await peer.accept(frames[0])
        await soon(sends[0])
        await until(lambda: len(storage._outbox) == 2)
        await bot.abort()
        await asyncio.gather(*sends, return_exceptions=True)
    heard.events.clear()
    async with client(storage=storage) as bot:
        new = asyncio.create_task(bot.send("alice", 3, id="3"))
        peer = await router.session()
        for n in (1, 2):
            await peer.accept(await peer.expect("send", id=str(n), body=n, retry=True), n)
        await peer.accept(await peer.expect("send", id="3", retry=None))
        await soon(new)
        await until(lambda: [event.id for event in heard.of(Settled)] == ["1", "2", "3"])
        await until(lambda: not storage._outbox)


async def test_nothing_goes_out_before_it_is_written(router: FakeRouter, client: Clients) -> None:
    class Stuck(MemoryStorage):
        may_write = asyncio.Event()

        async def write(self, changes: object) -> None:
            await self.may_write.wait()
            await super().write(changes)  # type: ignore[arg-type]

    storage = Stuck()
    storage.may_write.set()
    async with client(storage=storage) as bot:
        peer = await router.session()
        storage.may_write.clear()
        sending = asyncio.create_task(bot.send("alice", 1))
        await peer.is_quiet()
        with pytest.raises(SendError) as raised:
            await soon(bot.send("alice", 2, timeout_s=0.05))
        assert (raised.value.code, raised.value.maybe_taken) == ("timeout", False)
        storage.may_write.set()
        await peer.accept(await peer.expect("send", body=1))
        await soon(sending)
        await peer.is_quiet()


async def test_an_answer_is_told_when_it_is_written(router: FakeRouter, client: Clients, heard: Heard) -> None:
    """What the application was told to have failed must not be sent by the next process."""

    class Gated(MemoryStorage):
        may_write = asyncio.Event()

        async def write(self, changes: Sequence[Change]) -> None:
            await self.may_write.wait()
            await super().write(changes)

    storage = Gated()
    storage.may_write.set()
    async with client(storage=storage, on_event=heard.on_event) as bot:
        peer = await router.session()
        sends = [asyncio.create_task(bot.send("alice", n)) for n in (1, 2)]
        first, second = [await peer.expect("send", body=n) for n in (1, 2)]
        storage.may_write.clear()
        await peer.accept(first)
        await peer.reject(second, "forbidden")
        await peer.is_quiet()
        assert not any(send.done() for send in sends)
        assert heard.of(Settled) == []
        storage.may_write.set()
        assert (await soon(sends[0])).seq == 1
        with pytest.raises(SendError, match="forbidden"):
            await soon(sends[1])
        assert not storage._outbox
        await until(lambda: len(heard.of(Settled)) == 2)


async def test_sends_that_time_out_while_nothing_can_be_written_do_not_pile_up(
    router: FakeRouter, client: Clients
) -> None:
    class Stuck(MemoryStorage):
        is_stuck = False

        async def write(self, changes: object) -> None:
            if self.is_stuck:
                await asyncio.Event().wait()

    storage = Stuck()
    async with client(storage=storage) as bot:
        await router.session()
        storage.is_stuck = True
        for _ in range(20):
            with pytest.raises(SendError, match="timeout"):
                await soon(bot.send("alice", 1, timeout_s=0.01))
        assert bot._started is not None
        assert len(bot._started._journal._changes) <= 4


@pytest.mark.parametrize(("ttl_ms", "said"), [(-5, 1), (0, 1), (7, 7), (2**70, 2**53 - 1)])
async def test_a_time_to_live_that_cannot_be_said_becomes_the_nearest(
    router: FakeRouter, client: Clients, tmp_path: Path, ttl_ms: int, said: int
) -> None:
    async with client(storage=FileStorage(tmp_path / "bot.db")) as bot:
        peer = await router.session()
        sending = asyncio.create_task(bot.send("alice", 1, ttl_ms=ttl_ms))
        await peer.accept(await peer.expect("send", ttl_ms=said))
        await soon(sending)


async def test_a_send_that_timed_out_is_not_sent_by_a_later_process(router: FakeRouter, client: Clients) -> None:
    storage = MemoryStorage()
    async with client(storage=storage) as bot:
        await router.session()
        with pytest.raises(SendError, match="timeout"):
            await soon(bot.send("alice", 1, timeout_s=0.05))
        await until(lambda: not storage._outbox)
