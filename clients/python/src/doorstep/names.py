"""Names of users, devices and messages, as the protocol spells them."""

import os
import re
import time

USER_BYTES_MAX = 128
DEVICE_BYTES_MAX = 64

_MESSAGE_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f-\x9f/]")
_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def new_id() -> str:
    """A ULID: no two messages of a user may share an id, whichever device they come from."""
    number = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10))
    return "".join(_CROCKFORD[number >> shift & 31] for shift in range(125, -5, -5))


def check_user(name: str) -> str:
    """Returns ``name``, or raises `ValueError` when no user can be called so."""
    return _check("user", name, USER_BYTES_MAX)


def check_device(name: str) -> str:
    """Returns ``name``, or raises `ValueError` when no device can be called so."""
    return _check("device", name, DEVICE_BYTES_MAX)


def check_id(message_id: str) -> str:
    """Returns ``message_id``, or raises `ValueError` when it is none."""
    if not _MESSAGE_ID.fullmatch(message_id):
        raise ValueError(f"a message id is 1 to 64 of A-Z a-z 0-9 . _ : -, not {message_id!r}")
    return message_id


def _check(kind: str, name: str, bytes_max: int) -> str:
    try:
        length = len(name.encode())
    except UnicodeEncodeError:
        length = 0
    if not 1 <= length <= bytes_max or _FORBIDDEN.search(name):
        raise ValueError(f"a {kind} is 1 to {bytes_max} bytes of UTF-8 without control characters or '/', not {name!r}")
    return name
