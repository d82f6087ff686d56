"""Origin leases: one holder of a key, who loses it when it gives nothing."""

from __future__ import annotations

import asyncio
from typing import Any

from dht import Address, Contact, Network
from dht.leases import LeaseTable
from dht.limits import (
    LEASE_HOLDERS_MAX,
    LEASE_SECONDS,
    LEASES_MAX,
    LEASES_PER_NODE_MAX,
)
from dht.wire import FindProviders
from tests.dht.builders import contact, key, signer
from tests.dht.test_rpc_server import ASKER, Keeper
from tests.dht.test_service import LAB, running, swarm

PATH = (b"local", b"a")
OTHER = (b"local", b"b")


def ask(
    table: LeaseTable,
    asker: Contact,
    *,
    at: int = 0,
    failed: Contact | None = None,
    path: tuple[bytes, ...] = PATH,
    now: float = 0.0,
) -> Contact | None:
    named = (failed or asker).public_key
    return table.ask(key(at), asker, named, path=path, now=now)


def test_the_first_who_asks_holds_it_until_it_ends() -> None:
    table, one, two = LeaseTable(), contact(1), contact(2)
    assert ask(table, one) == one
    assert ask(table, two) == one
    assert ask(table, one, now=LEASE_SECONDS - 1) == one, "asking again renews it"
    assert ask(table, two, now=LEASE_SECONDS + 1) == one
    assert ask(table, two, now=2 * LEASE_SECONDS) == two
    table.expire(3 * LEASE_SECONDS)
    assert len(table) == 0


def test_a_holder_that_gave_nothing_loses_it_to_the_one_that_says_so() -> None:
    table, one, two, three = LeaseTable(), contact(1), contact(2), contact(3)
    assert ask(table, one) == one
    assert ask(table, two, failed=one) == two
    assert ask(table, three, failed=one) == two, "the next one follows the new holder"
    assert ask(table, one) == two
    assert ask(table, one, failed=two) == two, "nobody holds it twice"


def test_after_a_few_holders_nobody_holds_it() -> None:
    table, before = LeaseTable(), contact(0)
    ask(table, before)
    for number in range(1, LEASE_HOLDERS_MAX):
        now = contact(number)
        assert ask(table, now, failed=before) == now
        before = now
    assert ask(table, contact(99), failed=before) is None
    assert ask(table, contact(98)) is None
    assert ask(table, contact(98), now=LEASE_SECONDS) == contact(98)


def test_a_node_and_a_source_hold_a_bounded_number() -> None:
    table, greedy = LeaseTable(), contact(1)
    granted = [ask(table, greedy, at=n) for n in range(LEASES_PER_NODE_MAX + 5)]
    assert granted.count(None) == 5
    for number in range(LEASES_MAX):
        ask(table, contact(number // 1000 + 2), at=number + 10_000)
    assert len(table) == LEASES_MAX
    honest = contact(77)
    assert ask(table, honest, at=99_999, path=OTHER) == honest
    assert len(table) == LEASES_MAX, "the largest source made room"


def test_a_node_that_holds_enough_does_not_end_a_lease_for_others() -> None:
    table, greedy, liar, honest = LeaseTable(), *map(contact, (1, 2, 3))
    for number in range(1, LEASES_PER_NODE_MAX + 1):
        assert ask(table, greedy, at=number) == greedy
    assert ask(table, liar) == liar
    assert ask(table, honest, failed=liar) == honest
    assert ask(table, greedy, failed=honest) is None, "it asks the origin itself"
    assert ask(table, contact(4)) == honest
    assert ask(table, liar, failed=honest) == honest, "it had its turn"


def test_only_nodes_of_the_site_get_one_and_only_at_an_address_that_listens() -> None:
    def lease(keeper: Keeper, source: Address, **options: Any) -> bytes:
        me = signer(0).public_key
        reply, asked, sent = keeper.ask(FindProviders(key(0), 0, me), source, **options)
        assert sent <= max(asked, 1200)
        found: bytes = reply.body.lease
        return found

    near = Address("192.168.1.9", 4747)
    public, private = Keeper(), Keeper(Network("lab", b"s" * 32))
    assert lease(public, ASKER, token=public.token(ASKER)) == b""
    assert lease(public, near) == b"", "it has echoed nothing yet"
    assert lease(public, near, token=public.token(near)) != b""
    assert lease(private, ASKER, token=private.token(ASKER)) != b""


async def holders(nodes: list[Any], wanted: bytes) -> list[Contact | None]:
    async def find(node: Any) -> Contact | None:
        search = node.find_providers(wanted, lease=node.public_key)
        async for _ in search:
            pass
        found: Contact | None = search.decide_holder()
        return found

    return list(await asyncio.gather(*map(find, nodes)))


async def test_nodes_that_ask_at_once_agree_on_one() -> None:
    for options in ({"network": LAB}, {}):
        async with swarm(8, **options) as nodes:
            assert all(node.is_leased for node in nodes)
            for number in range(5):
                found = await holders(nodes, key(number))
                keys = {one.public_key for one in found if one is not None}
                assert None not in found
                assert len(keys) == 1
                (holder,) = keys
                address = next(n for n in nodes if n.public_key == holder).addresses[0]
                told = {
                    one.address
                    for node, one in zip(nodes, found, strict=True)
                    if node.public_key != holder
                }
                assert told == {address}


async def test_a_node_alone_holds_every_lease() -> None:
    async with running(1, network=LAB) as nodes:
        (found,) = await holders(nodes, key(0))
        assert found.public_key == nodes[0].public_key


async def test_a_holder_that_gave_nothing_is_replaced_in_the_network() -> None:
    async with swarm(5, network=LAB) as nodes:
        wanted = key(3)
        first = (await holders([nodes[0]], wanted))[0]
        assert first is not None
        search = nodes[2].find_providers(wanted, lease=first.public_key)
        async for _ in search:
            pass
        assert search.decide_holder().public_key == nodes[2].public_key
        again = (await holders([nodes[4]], wanted))[0]
        assert again is not None
        assert again.public_key == nodes[2].public_key
