"""An own address that changes, and a suspend, are noticed; a lost link is no place."""

from __future__ import annotations

from node.reach.moves import MOVES_SECONDS_MIN, POLL_SECONDS, SUSPEND_SECONDS, Moves

HOME, CAFE = frozenset({"192.168.1.2"}), frozenset({"10.0.0.7", "fd00::7"})


def test_another_address_is_a_move():
    moves = Moves()
    assert not moves.has_moved(HOME, 0.0)
    assert not moves.has_moved(HOME, 5.0)
    assert moves.has_moved(CAFE, 10.0)
    assert not moves.has_moved(CAFE, 15.0)


def test_a_cable_that_is_out_is_no_move_unless_another_address_comes_of_it():
    moves = Moves()
    moves.has_moved(HOME, 0.0)
    assert not moves.has_moved(frozenset(), 5.0)
    assert not moves.has_moved(HOME, 10.0)
    assert not moves.has_moved(HOME | CAFE, 12.0)
    assert not moves.has_moved(frozenset(), 15.0)
    assert moves.has_moved(CAFE, 20.0)


def test_addresses_that_come_and_go_are_announced_now_and_then():
    moves = Moves()
    places = [HOME, CAFE]
    moved = [moves.has_moved(places[at % 2], 5.0 * at) for at in range(60)]
    assert 300 / MOVES_SECONDS_MIN / 2 <= sum(moved) <= 300 / MOVES_SECONDS_MIN
    # The last change is announced in the end.
    assert moves.has_moved(places[59 % 2], 310.0)


def test_a_suspend_is_a_move():
    moves = Moves()
    moves.has_moved(HOME, 0.0)
    assert not moves.has_moved(HOME, POLL_SECONDS + SUSPEND_SECONDS)
    assert moves.has_moved(HOME, 3600.0)
    assert not moves.has_moved(HOME, 3605.0)
