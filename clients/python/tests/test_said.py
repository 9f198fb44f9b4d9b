"""What waits for the socket is bounded."""

from doorstep.said import Said


def test_a_few_large_ephemerals_leave_no_room_and_popping_makes_it() -> None:
    said = Said()
    while said.has_room_for_an_ephemeral():
        said.push("x" * (1 << 18))
    assert said.pop() is not None
    assert said.has_room_for_an_ephemeral()
    said.push("x" * (20 << 20))
    assert said.is_too_much(0)
    assert not said.is_too_much(20 << 20), "one that the router allows"
    while said.pop() is not None:
        pass
    assert not said.is_too_much(0)
