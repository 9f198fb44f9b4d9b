"""Events are bounded, each kind by its own means."""

import asyncio

from doorstep import CaughtUp, Closed, Ephemeral, Event, Presence, PresenceChanged
from doorstep.announcer import _WAITING_MAX, _WORTHLESS_LATER_MAX, Announcer


def presence(user: str, version: int) -> PresenceChanged:
    return PresenceChanged((Presence(user, "away", version),))


async def told(announcer: Announcer, heard: list[Event]) -> list[Event]:
    announcer.close(Closed("done", "closed"))
    await asyncio.wait_for(announcer.run(), 20)
    assert heard.pop() == Closed("done", "closed")
    return heard


async def test_a_flood_is_folded_dropped_or_kept_in_order() -> None:
    heard: list[Event] = []
    announcer = Announcer(heard.append)
    for round_ in range(300):
        announcer.announce(presence("bob", round_))
        announcer.announce(Ephemeral("alice", round_, 0))
        announcer.announce(CaughtUp(round_))
    events = await told(announcer, heard)
    assert [event.seq for event in events if isinstance(event, CaughtUp)] == list(range(300))
    assert sum(isinstance(event, Ephemeral) for event in events) < _WORTHLESS_LATER_MAX
    assert [event for event in events if isinstance(event, PresenceChanged)] == [presence("bob", 299)]


async def test_the_oldest_is_dropped_in_the_end() -> None:
    heard: list[Event] = []
    announcer = Announcer(heard.append)
    announcer.announce(presence("bob", 1))
    for seq in range(_WAITING_MAX + 5):
        announcer.announce(CaughtUp(seq))
    events = await told(announcer, heard)
    assert events[0] == CaughtUp(6), "one more made room for the last"


async def test_presence_of_whom_nobody_watches_any_more_is_not_told() -> None:
    heard: list[Event] = []
    announcer = Announcer(heard.append)
    announcer.announce(presence("bob", 1))
    announcer.announce(presence("carol", 1))
    announcer.forget_presence(["bob", "nobody"])
    assert await told(announcer, heard) == [presence("carol", 1)]


async def test_presence_that_comes_after_all_was_forgotten_is_told_once() -> None:
    heard: list[Event] = []
    announcer = Announcer(heard.append)
    announcer.announce(presence("bob", 1))
    announcer.forget_presence(["bob"])
    announcer.announce(presence("bob", 2))
    assert await told(announcer, heard) == [presence("bob", 2)]
