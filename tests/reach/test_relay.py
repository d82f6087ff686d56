"""Two ends that no hole can join meet at a relay, where it is allowed."""

from __future__ import annotations

import time

import pytest

from tests.reach.lab import until

pytestmark = [pytest.mark.netns, pytest.mark.timeout(240)]


@pytest.mark.parametrize("other", ["port", "symmetric"])
def test_two_nodes_behind_routers_meet_at_a_relay(world, other):
    if not world.nodes:
        world.public_nodes(CARAVAN_RELAY="all")
    world.fresh("symmetric", other)
    seeder, leecher = world.guest("a"), world.guest("b")
    for one in (seeder, leecher):
        until(lambda node=one: node.reach[1] == "relayed", 60, "a relay")
    digest, small = seeder.share(1_500_000), seeder.share(20_000)
    for wanted in (digest, small):
        until(
            lambda one=wanted: leecher.run("lookup", one, code=None).get("providers"),
            40,
            "a provider record",
        )
    began = time.monotonic()
    leecher.run("lookup", small)
    command = time.monotonic() - began
    began = time.monotonic()
    leecher.run("fetch", small)
    # The relay has half a second to wait for a hole; the rest is the command itself.
    assert time.monotonic() - began < 2.0 + 5 * command
    leecher.run("fetch", digest)
