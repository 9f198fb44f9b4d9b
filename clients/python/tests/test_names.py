"""Names that the protocol knows."""

import pytest

from doorstep import new_id
from doorstep.names import check_device, check_id, check_user


def test_ids_are_ulids_and_never_the_same() -> None:
    ids = [new_id() for _ in range(1000)]
    assert len(set(ids)) == 1000
    assert all(len(each) == 26 and check_id(each) for each in ids)
    assert "0" <= ids[0][0] <= "7"
    assert [each[:8] for each in ids] == sorted(each[:8] for each in ids)


@pytest.mark.parametrize("name", ["", "a/b", "a\nb", "x" * 129, "ü" * 65, "\ud800", "a\x7f"])
def test_what_is_no_user(name: str) -> None:
    with pytest.raises(ValueError, match="a user is"):
        check_user(name)


def test_what_is_a_user_a_device_or_an_id() -> None:
    assert check_user("ü" * 64)
    assert check_device("x" * 64)
    with pytest.raises(ValueError, match="a device is"):
        check_device("x" * 65)
    assert check_id("order:2026-11-23_7.a")
    for wrong in ("", "a b", "x" * 65, "ü", "a\n"):
        with pytest.raises(ValueError, match="a message id is"):
            check_id(wrong)
