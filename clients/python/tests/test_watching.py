"""The newest of each user, and nothing else."""

import pytest

from doorstep import Presence
from doorstep.watching import WATCHED_MAX, Watching


def entry(user: str, version: int) -> Presence:
    return Presence(user, "online", version)


def test_older_and_repeated_versions_are_dropped_user_by_user() -> None:
    watching = Watching()
    watching.add(["bob", "carol"])
    watching.i_am("alice")
    assert len(watching.newer([entry("bob", 5), entry("carol", 3), entry("alice", 1)])) == 3
    later = [entry("bob", 4), entry("bob", 5), entry("carol", 4), entry("alice", 1), entry("dave", 9)]
    assert watching.newer(later) == (entry("carol", 4),)
    assert watching.known("bob") == entry("bob", 5)


def test_watching_again_starts_afresh_and_the_set_is_bounded() -> None:
    watching = Watching()
    watching.add(["bob"])
    watching.newer([entry("bob", 5)])
    assert watching.remove(["bob", "bob", "dave"]) == ["bob"]
    assert watching.newer([entry("bob", 6)]) == ()
    watching.add(["bob"])
    assert watching.newer([entry("bob", 5)]) == (entry("bob", 5),)
    with pytest.raises(ValueError, match="more than"):
        watching.add(str(number) for number in range(WATCHED_MAX))
    assert watching.users() == ["bob"]
