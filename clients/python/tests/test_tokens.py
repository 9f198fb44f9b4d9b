"""Tokens: asked for, refused, renewed."""

import time

import pytest

from conftest import Clients, Heard
from doorstep import Disconnected
from doorstep.renewal import renewal_in_s
from fake_router import FakeRouter
from waiting import soon, until


class Tokens:
    def __init__(self, *tokens: str | Exception | None) -> None:
        self.left = list(tokens)
        self.asked = 0

    async def __call__(self) -> str | None:
        self.asked += 1
        token = self.left.pop(0) if len(self.left) > 1 else self.left[0]
        if isinstance(token, Exception):
            raise token
        return token


def in_ms(seconds: float) -> int:
    return round((time.time() + seconds) * 1000)


async def test_a_refused_token_is_followed_by_a_new_one(router: FakeRouter, client: Clients) -> None:
    async with client(user=None, token=Tokens("one", "two")):
        peer = await router.peer()
        await peer.expect("hello", token="one")
        await peer.close(4401)
        assert (await router.session()).hello["token"] == "two"


@pytest.mark.parametrize("second", ["one", None])
async def test_the_same_token_again_or_none_is_the_end(router: FakeRouter, client: Clients, second: str | None) -> None:
    async with client(user=None, token=Tokens("one", second)) as bot:
        peer = await router.peer()
        await peer.expect("hello", token="one")
        await peer.close(4401)
        closed = await soon(bot.wait_closed())
        assert (closed.reason, closed.close_code) == ("not_authenticated", 4401)
        await router.is_left_alone()


async def test_a_token_that_ended_in_the_session_is_followed_by_a_new_one(router: FakeRouter, client: Clients) -> None:
    tokens = Tokens("one", "two", "three")
    async with client(user=None, token=tokens):
        for token in ("one", "two", "three"):
            peer = await router.session(user="bot")
            assert peer.hello["token"] == token
            await peer.close(4401)
        await until(lambda: tokens.asked == 4)


async def test_a_fixed_token_that_is_refused_is_the_end(router: FakeRouter, client: Clients) -> None:
    async with client(user=None, token="one") as bot:
        await (await router.peer()).close(4401)
        assert (await soon(bot.wait_closed())).reason == "not_authenticated"


async def test_a_provider_that_fails_is_asked_again(router: FakeRouter, client: Clients, heard: Heard) -> None:
    async with client(user=None, token=Tokens(OSError("down"), OSError("down"), "one")):
        assert (await router.session()).hello["token"] == "one"
        assert [event.reason for event in heard.of(Disconnected)] == ["no token: down"] * 2


async def test_a_token_is_renewed_before_it_ends(router: FakeRouter, client: Clients) -> None:
    async with client(user=None, token=Tokens("one", "two", "three")):
        peer = await router.session(expires_ms=in_ms(2))
        await peer.expect("token", token="two")
        await peer.say("token_ok", expires_ms=in_ms(2))
        await peer.expect("token", token="three")


async def test_a_renewed_token_is_the_one_that_counts(router: FakeRouter, client: Clients) -> None:
    """It was renewed, refused later, and the provider has no other: one more connection would be for nothing."""
    async with client(user=None, token=Tokens("one", "two")) as bot:
        peer = await router.session(expires_ms=in_ms(2))
        await peer.expect("token", token="two")
        await peer.say("token_ok", expires_ms=in_ms(3600))
        await peer.close(4401)
        assert (await soon(bot.wait_closed())).reason == "not_authenticated"
        await router.is_left_alone()


async def test_a_renewal_that_is_refused_is_tried_again(router: FakeRouter, client: Clients) -> None:
    async with client(user=None, token=Tokens("one", "two", "three")):
        peer = await router.session(expires_ms=in_ms(1))
        await peer.expect("token", token="two")
        await peer.say("error", code="rate_limited", reason="so", ref="token")
        await peer.expect("token", token="three")


@pytest.mark.parametrize(("left_s", "expected_s"), [(3600, 3540), (120, 60), (100, 50), (10, 5), (1.5, 1), (0.1, 1)])
def test_a_minute_before_the_end_or_at_half_of_what_is_left(left_s: float, expected_s: float) -> None:
    assert renewal_in_s(left_s) == expected_s
