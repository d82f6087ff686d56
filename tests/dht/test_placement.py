"""Placement: a node knows whether what it offers can be found, and says so."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from dht.limits import RENEW_SECONDS, K
from dht.placement import Placement
from tests.dht.builders import key
from tests.simulation.loop import virtual_time
from tests.simulation.swarm import Swarm


def placement_of(*keepers: int) -> Placement:
    placement = Placement()
    for number in keepers:
        placement.move(None, 0)
        placement.move(0, number)
    return placement


def test_a_key_is_placed_where_half_of_its_keepers_have_it() -> None:
    """Of k, or of all nodes where fewer are known."""
    placement = placement_of(K, K // 2, K // 2 - 1, 0)
    report = placement.report(30, 2.0)
    assert (report.offered, report.placed, report.unplaced) == (4, 2, 1)
    assert report.keepers == {0: 1, K // 2 - 1: 1, K // 2: 1, K: 1}
    assert report.oldest_seconds is None
    assert placement.report(6, 2.0).placed == 3
    assert placement.report(0, 2.0).placed == 3


def test_a_node_that_cannot_place_says_since_when() -> None:
    """From the end of the first sweep that left some out until one that did not."""
    placement = placement_of(3)
    assert placement.report(30, 5.0).behind_seconds is None
    placement.swept(30, 10.0)
    placement.swept(30, 70.0)
    assert placement.report(30, 100.0).behind_seconds == 90.0
    placement.move(3, K)
    placement.swept(30, 130.0)
    assert placement.report(30, 140.0).behind_seconds is None


def test_a_renewal_that_takes_too_long_is_behind_too() -> None:
    """Three hours after the last one of all keys began."""
    placement = placement_of(K, K)
    placement.swept(30, 50.0, all_since=0.0)
    placement.swept(30, RENEW_SECONDS)
    late = 1.5 * RENEW_SECONDS
    assert placement.report(30, late).behind_seconds is None
    report = placement.report(30, late + 60)
    assert report.oldest_seconds == late + 60
    assert report.behind_seconds == 60
    placement.swept(30, late + 90, all_since=RENEW_SECONDS)
    assert placement.report(30, late + 100).behind_seconds is None


@given(st.lists(st.tuples(st.integers(0, 5), st.none() | st.integers(0, K))))
def test_the_counts_are_those_of_a_plain_dictionary(
    steps: list[tuple[int, int | None]],
) -> None:
    """Whatever comes and goes."""
    placement, model = Placement(), dict[int, int]()
    for number, keepers in steps:
        placement.move(model.pop(number, None), keepers)
        if keepers is not None:
            model[number] = keepers
    report = placement.report(30, 0.0)
    assert report.offered == len(model)
    counts = list(model.values())
    assert report.keepers == {n: counts.count(n) for n in sorted(set(counts))}


def test_a_network_that_is_full_is_noticed_by_its_provider() -> None:
    """Keepers refuse, and the node that offers can say so."""
    with virtual_time() as loop:
        swarm = Swarm(loop, seed=71, cheap_keys=True)

        async def scenario() -> None:
            await swarm.grow(25)
            node = swarm.nodes[3]
            await node.offer([key(number) for number in range(40)], 5000)
            report = node.placement()
            assert (report.offered, report.placed) == (40, 40)
            assert report.behind_seconds is None
            for other in swarm.nodes:
                running: Any = other._running
                running.local_storage.provider_store._bytes_max = 0
            await node.offer([key(number) for number in range(100, 110)], 5000)
            report = node.placement()
            assert (report.offered, report.placed, report.unplaced) == (50, 40, 10)
            assert report.behind_seconds == 0
            node.withdraw([key(number) for number in range(100, 110)])
            assert node.placement().unplaced == 0
            await swarm.close()

        swarm.run(scenario())
