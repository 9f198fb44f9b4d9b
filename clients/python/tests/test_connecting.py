"""Coming, going, and coming back."""

import asyncio
import random
from typing import Any

import pytest

from conftest import Clients, Heard
from doorstep import Client, Closed, Connected, Disconnected, MemoryStorage, StorageError
from fake_router import FakeRouter
from waiting import soon, until


async def test_hello_comes_first_and_names_the_device_on_every_connection(router: FakeRouter, client: Clients) -> None:
    async with client(device=None, window=7, status="away") as bot:
        peer = await router.session()
        assert peer.hello == {
            "type": "hello",
            "user": "bot",
            "device": bot.device,
            "status": "away",
            "window": 7,
        }
        peer.drop()
        again = await router.session()
        assert again.hello == peer.hello


async def test_a_device_name_outlives_the_process(router: FakeRouter, client: Clients) -> None:
    storage = MemoryStorage()
    async with client(device=None, storage=storage) as bot:
        first = bot.device
    async with client(device=None, storage=storage) as bot:
        assert bot.device == first


async def test_a_storage_is_not_taken_for_that_of_another(router: FakeRouter) -> None:
    storage = MemoryStorage()
    async with Client(router.url, user="bot", device="main", storage=storage):
        await router.session()
    for user, device in (("bob", "main"), ("bot", "other")):
        with pytest.raises(StorageError, match="belongs to"):
            await Client(router.url, user=user, device=device, storage=storage).start()


async def test_another_user_than_the_storage_knows_is_the_end(
    router: FakeRouter, client: Clients, heard: Heard
) -> None:
    """What was kept must not be sent in another name."""
    storage = MemoryStorage()
    async with client(user=None, token="one", storage=storage) as bot:
        await router.session(user="bot")
        await until(lambda: heard.of(Connected))
        await soon(bot.close())
    async with client(user=None, token="two", storage=storage) as bot:
        peer = await router.session(user="bob")
        assert await peer.close_code() == 1000
        assert (await soon(bot.wait_closed())).reason == "impossible"


@pytest.mark.parametrize("code", [1002, 1003, 1007, 1009, 4400, 4403, 4409, 4410])
async def test_codes_that_say_stay_away(router: FakeRouter, client: Clients, heard: Heard, code: int) -> None:
    async with client() as bot:
        peer = await router.session()
        await peer.close(code, "because")
        assert await soon(bot.wait_closed()) == Closed("refused", "because", code)
        await router.is_left_alone()
        assert heard.events[-1] == Closed("refused", "because", code)


async def test_a_normal_end_that_it_did_not_ask_for_is_the_end(router: FakeRouter, client: Clients) -> None:
    async with client() as bot:
        peer = await router.session()
        await peer.close(1000)
        closed = await soon(bot.wait_closed())
        assert (closed.reason, closed.close_code) == ("done", 1000)
        await router.is_left_alone()


@pytest.mark.parametrize("code", [1001, 1011, 1012, 4408, 4429, 4999])
async def test_codes_that_pass(router: FakeRouter, client: Clients, heard: Heard, code: int) -> None:
    async with client():
        peer = await router.session()
        await peer.close(code)
        await router.session()
        assert [event.close_code for event in heard.of(Disconnected)] == [code]


async def test_a_goodbye_says_when_to_come_back_and_nothing_is_added(
    router: FakeRouter, client: Clients, heard: Heard
) -> None:
    async with client(backoff_min_s=500, backoff_max_s=500, rng=random.Random(7)):
        peer = await router.session()
        await peer.say("goodbye", code=1012, reason="restart", retry_after_ms=60)
        await peer.close(1012)
        await router.session()
        assert heard.of(Disconnected) == [Disconnected(1012, "restart", 0.06)]


async def test_a_goodbye_before_a_broken_end_counts(router: FakeRouter, client: Clients) -> None:
    async with client() as bot:
        peer = await router.session()
        await peer.say("goodbye", code=4409, reason="replaced")
        peer.drop()
        assert await soon(bot.wait_closed()) == Closed("refused", "replaced", 4409)


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503])
async def test_http_statuses_that_pass(router: FakeRouter, client: Clients, heard: Heard, status: int) -> None:
    router.statuses = [status, status]
    async with client():
        await router.session()
        assert len(heard.of(Disconnected)) == 2


@pytest.mark.parametrize(
    ("status", "reason", "code"),
    [(401, "not_authenticated", 4401), (403, "refused", 4403), (404, "refused", 4400), (302, "refused", 4400)],
)
async def test_http_statuses_that_end_it(
    router: FakeRouter, client: Clients, status: int, reason: str, code: int
) -> None:
    router.statuses = [status]
    async with client() as bot:
        closed = await soon(bot.wait_closed())
        assert (closed.reason, closed.close_code) == (reason, code)
        await router.is_left_alone()


async def test_retry_after_of_http_is_heeded(router: FakeRouter, client: Clients, heard: Heard) -> None:
    router.statuses, router.retry_after = [503], "100"
    async with client():
        await until(lambda: heard.of(Disconnected))
        assert 100 <= heard.of(Disconnected)[0].retry_in_s <= 150


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/v1/connect", "ws://", "nonsense"])
async def test_where_nothing_can_be(url: str) -> None:
    async with Client(url, user="bot") as bot:
        assert (await soon(bot.wait_closed())).reason == "impossible"


async def test_nobody_there_is_no_reason_to_give_up(heard: Heard) -> None:
    async with Client(
        "ws://127.0.0.1:1", user="bot", on_event=heard.on_event, backoff_min_s=0.001, backoff_max_s=0.001
    ):
        await until(lambda: len(heard.of(Disconnected)) >= 3)


async def test_a_router_that_does_not_answer_is_given_up(router: FakeRouter, client: Clients, heard: Heard) -> None:
    async with client(connect_timeout_s=0.2):
        peer = await router.peer()
        await peer.expect("hello")
        assert await peer.close_code() is None
        await router.session()
        assert heard.of(Disconnected)[0].reason == "connecting took too long"


async def test_a_router_that_leaves_the_connection_open_after_its_close_is_left(
    router: FakeRouter, client: Clients
) -> None:
    """The close frame is answered, but the end of the connection never comes."""
    async with client():
        peer = await router.session()
        connection = peer._connection
        connection.protocol.send_close(4429, "so")
        for data in connection.protocol.data_to_send():
            connection.transport.write(data)
        connection.transport.pause_reading()
        await router.session()


async def test_silence_is_the_end_of_a_session(router: FakeRouter, client: Clients, heard: Heard) -> None:
    async with client():
        await router.session(limits={"heartbeat_ms": 500})
        await router.session()
        assert heard.of(Disconnected)[0].reason == "the router fell silent"


async def test_a_ping_of_the_websocket_is_a_sign_of_life(router: FakeRouter, client: Clients, heard: Heard) -> None:
    async with client():
        peer = await router.session(limits={"heartbeat_ms": 500})
        for _ in range(15):
            await asyncio.sleep(0.1)
            peer.ping()
        assert heard.of(Disconnected) == []


async def test_the_welcome_is_told(router: FakeRouter, client: Clients, heard: Heard) -> None:
    async with client() as bot:
        assert not bot.is_connected
        await router.session(gap=True, pending=3, cursor=9, registered=True, colour="red")
        await until(lambda: heard.of(Connected))
        (welcome,) = heard.of(Connected)
        assert (welcome.user, welcome.device, welcome.gap, welcome.pending) == ("bot", "main", True, 3)
        assert bot.is_connected


async def test_frames_that_are_unknown_or_broken_are_ignored(
    router: FakeRouter, client: Clients, heard: Heard, caplog: pytest.LogCaptureFixture
) -> None:
    async with client() as bot:
        peer = await router.session()
        await peer.say("fanfare", loud=True)
        await peer.say_text('{"type":"accepted"}')
        await peer.say_text('{"type":"presence","users":[7]}')
        await peer.message(1)
        await until(lambda: heard.seqs() == [1])
        assert heard.of(Disconnected) == []
        assert bot.is_connected


@pytest.mark.parametrize(
    "options",
    [
        {"user": "a/b"},
        {"device": ""},
        {"window": 0},
        {"handler_attempts": 0},
        {"status": "offline"},
        {"backoff_min_s": -1},
        {"connect_timeout_s": float("inf")},
    ],
)
def test_options_that_make_no_sense_are_refused_at_once(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must|is|can"):
        Client("ws://127.0.0.1:1", **options)


def test_a_url_without_a_path_gets_that_of_the_protocol() -> None:
    for url in ("ws://router", "ws://router/"):
        assert Client(url)._options.address() == "ws://router/v1/connect"
    assert Client("ws://router/behind/a/proxy")._options.address() == "ws://router/behind/a/proxy"
