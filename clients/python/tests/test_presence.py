"""Whom the client watches, and what it says of itself."""

import pytest

from conftest import Clients, Heard
from doorstep import Presence, PresenceChanged
from fake_router import FakeRouter
from waiting import until


async def test_what_is_watched_and_said_is_said_again_on_every_connection(router: FakeRouter, client: Clients) -> None:
    async with client() as bot:
        bot.watch(["alice", "carol"])
        bot.set_status("busy", "deep work")
        peer = await router.session()
        assert peer.hello["status"] == "busy"
        await peer.expect("watch", users=["alice", "carol"])
        await peer.expect("status", state="busy", text="deep work")
        bot.watch(["dave", "alice"])
        await peer.expect("watch", users=["dave", "alice"])
        bot.unwatch(["carol", "nobody"])
        await peer.expect("unwatch", users=["carol"])
        bot.set_status("away")
        assert "text" not in await peer.expect("status", state="away")
        peer.drop()
        peer = await router.session()
        assert peer.hello["status"] == "away"
        await peer.expect("watch", users=["alice", "dave"])
        await peer.is_quiet()


async def test_an_older_version_never_replaces_a_newer_one(router: FakeRouter, client: Clients, heard: Heard) -> None:
    async with client() as bot:
        bot.watch(["alice"])
        peer = await router.session()

        def told() -> list[tuple[str, int]]:
            return [(entry.user, entry.version) for event in heard.of(PresenceChanged) for entry in event.users]

        async def say(*entries: tuple[str, int]) -> None:
            users = [{"user": user, "state": "online", "version": version} for user, version in entries]
            await peer.say("presence", users=users)

        await say(("alice", 5), ("stranger", 1))
        await say(("alice", 4), ("alice", 5))
        await say(("bot", 1))
        await until(lambda: told() == [("alice", 5), ("bot", 1)])
        peer.drop()
        peer = await router.session()
        await say(("alice", 5))
        await say(("alice", 6))
        await until(lambda: told() == [("alice", 5), ("bot", 1), ("alice", 6)])
        assert bot.presence("alice") == Presence("alice", "online", 6)
        assert bot.presence("stranger") is None


async def test_many_are_watched_in_parts(router: FakeRouter, client: Clients) -> None:
    users = [f"user{number}" for number in range(600)]
    async with client() as bot:
        bot.watch(users)
        peer = await router.session(limits={"frame_bytes": 1 << 20})
        parts = [(await peer.expect("watch"))["users"] for _ in range(3)]
        assert [user for part in parts for user in part] == users


async def test_mistakes_are_told_at_once(router: FakeRouter, client: Clients) -> None:
    async with client() as bot:
        with pytest.raises(ValueError, match="140"):
            bot.set_status("busy", "x" * 141)
        with pytest.raises(ValueError, match="offline"):
            bot.set_status("offline")
        with pytest.raises(TypeError, match="list"):
            bot.watch("alice")
        with pytest.raises(ValueError, match="a user is"):
            bot.watch(["a/b"])
