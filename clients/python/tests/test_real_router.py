"""Against the real daemon: what was accepted arrives, once and in order, whoever dies in between."""

import asyncio
import itertools
import sys
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from conftest import Heard
from daemon import Daemon
from doorstep import (
    CaughtUp,
    Client,
    Connected,
    Disconnected,
    FileStorage,
    MemoryStorage,
    PresenceChanged,
    SendError,
    Settled,
)
from waiting import soon, until


@pytest.fixture
async def daemon(tidy: None, tmp_path: Path) -> AsyncIterator[Daemon]:
    directory = tmp_path / "router"
    directory.mkdir()
    daemon = Daemon(directory)
    await daemon.start()
    yield daemon
    await daemon.stop()


def hasty(daemon: Daemon, user: str, **options: Any) -> Client:
    return Client(daemon.url, user=user, backoff_min_s=0.02, backoff_max_s=0.2, **options)


async def test_a_message_waits_for_a_user_who_is_away(daemon: Daemon, heard: Heard) -> None:
    async with hasty(daemon, "alice") as alice:
        accepted = [await soon(alice.send("bob", n)) for n in range(20)]
    assert all(each.stored for each in accepted)
    async with hasty(daemon, "bob", on_message=heard.on_message, on_event=heard.on_event):
        await until(lambda: heard.of(CaughtUp))
        assert [message.body for message in heard.messages] == list(range(20))
        assert heard.seqs() == [each.seq for each in accepted]


async def test_messages_between_users_who_are_here(daemon: Daemon, heard: Heard) -> None:
    async with hasty(daemon, "bob", on_message=heard.on_message, on_event=heard.on_event), hasty(daemon, "a") as a:
        await until(lambda: heard.of(Connected))
        await soon(asyncio.gather(*(a.send("bob", n) for n in range(1000))))
        await until(lambda: len(heard.messages) == 1000)
        assert [message.body for message in heard.messages] == list(range(1000))


async def test_what_was_done_does_not_come_again(daemon: Daemon, heard: Heard) -> None:
    storage = MemoryStorage()
    for round_ in range(3):
        async with hasty(daemon, "bob", storage=storage, on_message=heard.on_message), hasty(daemon, "a") as a:
            await soon(a.send("bob", round_))
            await until(lambda: len(heard.messages) == round_ + 1)  # noqa: B023 - awaited in this round
    assert [message.body for message in heard.messages] == [0, 1, 2]


async def test_the_newer_client_of_a_device_replaces_the_older_for_good(daemon: Daemon, heard: Heard) -> None:
    async with hasty(daemon, "bob", device="main") as older:
        await until(lambda: older.is_connected)
        async with hasty(daemon, "bob", device="main", on_event=heard.on_event) as newer:
            closed = await soon(older.wait_closed())
            assert (closed.reason, closed.close_code) == ("refused", 4409)
            await until(lambda: newer.is_connected)
            await soon(newer.ping())
            assert heard.of(Disconnected) == []


async def test_a_repeat_is_not_a_second_message(daemon: Daemon, heard: Heard) -> None:
    async with hasty(daemon, "bob", on_message=heard.on_message), hasty(daemon, "alice") as alice:
        first = await soon(alice.send("bob", 1, id="x"))
        again = await soon(alice.send("bob", 1, id="x", repeat=True))
        assert again.seq == first.seq
        with pytest.raises(SendError, match="id_reused"):
            await soon(alice.send("bob", 2, id="x"))
        await soon(alice.send("bob", 3))
        await until(lambda: len(heard.messages) == 2)
        assert [message.body for message in heard.messages] == [1, 3]


async def test_presence_and_ephemeral_messages(daemon: Daemon, heard: Heard) -> None:
    async with hasty(daemon, "bob", on_event=heard.on_event) as bob:
        bob.watch(["alice"])
        async with hasty(daemon, "alice", status="away") as alice:
            await until(lambda: (seen := bob.presence("alice")) and seen.state == "away")
            alice.set_status("busy", "deep work")
            await until(lambda: (seen := bob.presence("alice")) and seen.text == "deep work")
            alice.ephemeral("bob", {"typing": True})
            await until(lambda: any(getattr(event, "body", None) == {"typing": True} for event in heard.events))
        await until(lambda: (seen := bob.presence("alice")) and seen.state == "offline")
        versions = [entry.version for event in heard.of(PresenceChanged) for entry in event.users]
        assert len(versions) == len(set(versions))


async def test_forget_leaves_nothing_behind(daemon: Daemon, heard: Heard, tmp_path: Path) -> None:
    storage = FileStorage(tmp_path / "bot.db")
    async with hasty(daemon, "bob", storage=storage) as bob:
        device = bob.device
        await soon(bob.forget())
    async with hasty(daemon, "bob", storage=storage, on_event=heard.on_event) as bob:
        await until(lambda: heard.of(Connected))
        assert heard.of(Connected)[0].registered
        assert bob.device != device


async def test_what_was_not_answered_is_sent_by_the_next_process(daemon: Daemon, heard: Heard, tmp_path: Path) -> None:
    """The client dies between its storage and the router, which is not there at the time."""
    await daemon.stop()
    path = tmp_path / "alice.db"
    async with hasty(daemon, "alice", storage=FileStorage(path)) as alice:
        sends = [asyncio.create_task(alice.send("bob", n)) for n in range(10)]
        await asyncio.sleep(0)
        await soon(alice.close())
        failures = await asyncio.gather(*sends, return_exceptions=True)
        assert all(isinstance(failure, SendError) and failure.kept for failure in failures)
    await daemon.start()
    settled = Heard()
    async with (
        hasty(daemon, "alice", storage=FileStorage(path), on_event=settled.on_event),
        hasty(daemon, "bob", on_message=heard.on_message),
    ):
        await until(lambda: len(settled.of(Settled)) == 10 and len(heard.messages) == 10)
        assert [message.body for message in heard.messages] == list(range(10))


async def test_every_message_comes_once_and_in_order_whatever_happens_to_the_router(
    daemon: Daemon, tmp_path: Path
) -> None:
    """Three senders, one recipient with a storage, and a router that is killed in mid-traffic again and again."""
    came: list[tuple[str, int]] = []
    senders = ("alice", "carol", "dave")
    sent = dict.fromkeys(senders, 0)
    going_on = True

    async def talk(client: Client, name: str) -> None:
        for n in itertools.count():
            if not going_on:
                return
            await client.send("bob", [name, n], timeout_s=None)
            sent[name] = n + 1

    bob = hasty(
        daemon,
        "bob",
        storage=FileStorage(tmp_path / "bob.db"),
        on_message=lambda message: came.append((message.body[0], message.body[1])),
    )
    clients = {name: hasty(daemon, name, storage=FileStorage(tmp_path / f"{name}.db")) for name in senders}
    async with bob, clients["alice"], clients["carol"], clients["dave"]:
        talking = [asyncio.create_task(talk(client, name)) for name, client in clients.items()]
        for _ in range(4):
            before = len(came)
            await until(lambda: len(came) >= before + 100)  # noqa: B023 - awaited in this round
            await daemon.kill()
            await daemon.start()
        going_on = False
        await asyncio.wait_for(asyncio.gather(*talking), 60)
        await until(lambda: len(came) >= sum(sent.values()))
    assert max(Counter(came).values()) == 1
    for name in senders:
        assert [n for sender, n in came if sender == name] == list(range(sent[name]))


async def test_every_message_comes_once_and_in_order_whatever_happens_to_the_recipient(
    daemon: Daemon, tmp_path: Path
) -> None:
    """The recipient is killed again and again; what its handler had finished and noted is not handled again, and
    nothing is left out.
    """
    program = Path(__file__).with_name("recipient.py")
    notes = tmp_path / "notes"
    total = 300

    async def recipient() -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable, str(program), daemon.url, str(tmp_path / "bob.db"), str(notes)
        )

    def noted() -> list[int]:
        return [int(line) for line in notes.read_text().splitlines()] if notes.exists() else []

    async with hasty(daemon, "alice") as alice:
        sending = asyncio.gather(*(alice.send("bob", n, timeout_s=None) for n in range(total)))
        kills = 0
        while (before := len(set(noted()))) < total:
            process = await recipient()
            enough = min(before + 60, total)
            await until(lambda: len(set(noted())) >= enough)  # noqa: B023 - awaited in this round
            process.kill()
            await soon(process.wait())
            kills += 1
        await soon(sending)
    seen = noted()
    assert sorted(set(seen)) == list(range(total)), "nothing is lost"
    repeats = len(seen) - total
    assert repeats <= kills * 33, "only what was not yet written as done, and what was being handled"
    firsts = list(dict.fromkeys(seen))
    assert firsts == list(range(total)), "and in order"


async def test_the_example_answers(daemon: Daemon, heard: Heard, tmp_path: Path) -> None:
    example = Path(__file__).parents[1] / "examples" / "echo_bot.py"
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(example), daemon.url, str(tmp_path / "echo.db"), stderr=asyncio.subprocess.PIPE
    )
    try:
        async with hasty(daemon, "alice", on_message=heard.on_message) as alice:
            await soon(alice.send("echo", {"text": "are you there?"}))
            await until(lambda: heard.messages)
            assert heard.messages[0].sender == "echo"
            assert heard.messages[0].body == {"text": "are you there?"}
    finally:
        process.terminate()
        _, errors = await soon(process.communicate())
    assert process.returncode == 0
    assert b"Traceback" not in errors
