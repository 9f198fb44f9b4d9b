"""Whom the application watches, and the newest that is known of each.

Pure. It must never let an older presence replace a newer one.
"""

from collections.abc import Iterable

from .events import Presence

#: Users that a client watches at most; the router's own limit is lower by default.
WATCHED_MAX = 16_384


class Watching:
    """Users who are watched, and oneself: presence of oneself comes without watching."""

    def __init__(self) -> None:
        self._watched: dict[str, None] = {}
        self._own: str | None = None
        self._known: dict[str, Presence] = {}

    def add(self, users: Iterable[str]) -> None:
        """Adds all of them. Raises `ValueError`, and adds none, when that would be too many."""
        wanted = self._watched | dict.fromkeys(users)
        if len(wanted) > WATCHED_MAX:
            raise ValueError(f"more than {WATCHED_MAX} users to watch")
        self._watched = wanted

    def remove(self, users: Iterable[str]) -> list[str]:
        """Returns those of ``users`` who were watched."""
        removed = [user for user in dict.fromkeys(users) if user in self._watched]
        for user in removed:
            del self._watched[user]
            if user != self._own:
                self._known.pop(user, None)
        return removed

    def users(self) -> list[str]:
        return list(self._watched)

    def i_am(self, user: str) -> None:
        self._own = user

    def known(self, user: str) -> Presence | None:
        return self._known.get(user)

    def minds(self, user: str) -> bool:
        """Whether presence of ``user`` is wanted."""
        return user in self._watched or user == self._own

    def newer(self, entries: Iterable[Presence]) -> tuple[Presence, ...]:
        """Keeps what is newer than everything known of its user."""
        return tuple(entry for entry in entries if self._learn(entry))

    def _learn(self, entry: Presence) -> bool:
        known = self._known.get(entry.user)
        if not self.minds(entry.user) or (known is not None and entry.version <= known.version):
            return False
        self._known[entry.user] = entry
        return True
