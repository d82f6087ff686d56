"""Small networks of real nodes, on real sockets of this machine."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import time
from typing import TYPE_CHECKING, Any

import pytest

from dht import (
    Address,
    Contact,
    Delegation,
    Dht,
    DhtClosedError,
    Network,
    ReleaseRecord,
    delegation_key,
    provider_key,
)
from dht.wire import FindNode, Ping
from tests.dht.builders import key, private_key, signer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

HERE = Address("127.0.0.1", 0)
HERE_6 = Address("::1", 0)
LAB = Network("lab", b"s" * 32)


@contextlib.asynccontextmanager
async def running(
    count: int, listen: Any = (HERE,), first_key: int = 100, **options: Any
) -> AsyncIterator[Any]:
    """Run nodes that know nobody yet."""
    keys = [private_key(first_key + number) for number in range(count)]
    nodes = [Dht(each, **options) for each in keys]
    try:
        for node in nodes:
            await node.start(list(listen))
        yield nodes
    finally:
        await asyncio.gather(*(node.close() for node in nodes))


@contextlib.asynccontextmanager
async def swarm(count: int, **options: Any) -> AsyncIterator[Any]:
    """Run nodes that all joined through the first."""
    async with running(count, **options) as nodes:
        for node in nodes[1:]:
            assert await node.join([nodes[0].addresses[0]]) == 1
        yield nodes


async def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait for a condition, for so long at most."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110  # what changes is another's state
            await asyncio.sleep(0.01)


async def providers(node: Dht, wanted: bytes) -> list[Any]:
    return [record async for record in node.find_providers(wanted)]


def released(**changes: Any) -> ReleaseRecord:
    """Return a release record of today."""
    now = time.time()
    fields: dict[str, Any] = {
        "publisher": signer(1).public_key,
        "name": "demo",
        "version": "1.0",
        "epoch": 0,
        "sequence": 1,
        "package": key(99),
        "urgency": "routine",
        "issued_at": now - 60,
        "expires_at": now + 86400,
    }
    fields.update(changes)
    return ReleaseRecord.sign(private_key(1), **fields)


async def test_twelve_nodes_join_offer_and_find() -> None:
    """Through one bootstrap node, each knows all, and offers are found by all."""
    async with swarm(12) as nodes:
        assert all(len(node.contacts()) == 11 for node in nodes)
        assert all(node.observed == node.addresses[0] for node in nodes[1:])
        assert not any(node.is_read_only for node in nodes)
        wanted = provider_key(Network(), "sha256", key(1))
        report = await nodes[3].offer([wanted], 5000)
        assert report.stored == {wanted: 11}
        assert report.requests >= 22
        for node in (nodes[0], nodes[7], nodes[11]):
            (found,) = await providers(node, wanted)
            assert found.public_key == nodes[3].public_key
            assert found.address == Address("127.0.0.1", 5000)
        rtts = [status.rtt_seconds for status in nodes[5].contacts()]
        assert any(rtt is not None and rtt < 5 for rtt in rtts)


async def test_several_providers_of_one_key_are_all_found() -> None:
    """More than one reply holds: the pages are turned."""
    wanted = key(2)
    async with swarm(12) as nodes:
        for number, node in enumerate(nodes):
            await node.offer([wanted], 5000 + number)
        search = nodes[5].find_providers(wanted)
        found = {record.public_key async for record in search}
        assert found >= {node.public_key for node in nodes if node is not nodes[5]}
        assert search.requests >= 11
        assert search.seconds >= 0


async def test_a_node_alone_offers_and_is_found_once_others_come() -> None:
    """What too few nodes stored is stored again, and answered from at once."""
    wanted = key(3)
    async with running(3) as (first, second, third):
        assert (await first.offer([wanted], 5000)).stored == {wanted: 0}
        assert await providers(first, wanted) == []
        assert await second.join([first.addresses[0]]) == 1
        (found,) = await providers(second, wanted)
        assert found.public_key == first.public_key
        await third.join([second.addresses[0]])
        await until(lambda: second.stats()["kept.providers"] == 1)
        assert (await providers(third, wanted))[0].public_key == first.public_key


async def test_a_withdrawn_key_is_no_longer_answered_for() -> None:
    """The node itself forgets it at once."""
    async with running(2) as (first, second):
        await first.offer([key(4)], 5000)
        first.withdraw([key(4)])
        await second.join([first.addresses[0]])
        assert await providers(second, key(4)) == []


async def test_many_keys_share_lookups_and_datagrams() -> None:
    """A sweep costs far less than its keys one by one."""
    keys = [key(1000 + number) for number in range(400)]
    async with swarm(10) as nodes:
        report = await nodes[2].offer(keys, 5000)
        assert set(report.stored.values()) == {9}
        assert report.requests < 400 * 18 / 5
        assert len(await providers(nodes[7], keys[123])) == 1


async def test_records_are_stored_found_and_superseded() -> None:
    """The newest wins; an older one is refused and told what is newer."""
    network = Network()
    async with swarm(10) as nodes:
        old, new = released(sequence=1), released(sequence=2)
        report = await nodes[1].store_record(old)
        assert (report.stored, report.refused, report.newer) == (9, 0, None)
        await nodes[2].store_record(new, keep=True)
        search = await nodes[8].find_record(old.key(network))
        assert search.newest == new
        assert search.confirmed >= 8
        assert search.asked == 9
        assert search.conflicts == ()
        late = await nodes[3].store_record(old)
        assert late.stored <= 1
        assert late.newer == new


async def test_two_records_of_one_sequence_are_found_out() -> None:
    """Wherever one looks, both faces are seen."""
    async with swarm(8) as nodes:
        one, two = released(package=key(1)), released(package=key(2))
        await nodes[1].store_record(one)
        report = await nodes[2].store_record(two)
        assert report.stored <= 1
        assert one in report.conflicts
        search = await nodes[5].find_record(one.key(Network()))
        assert {search.newest, *search.conflicts} == {one, two}


async def test_a_delegation_is_found_under_its_key() -> None:
    """With the same calls as a release record."""
    delegation = Delegation.sign(
        private_key(1), key(5), epoch=1, not_after=time.time() + 3600
    )
    async with swarm(5) as nodes:
        assert (await nodes[1].store_record(delegation)).stored == 4
        wanted = delegation_key(Network(), delegation.publisher)
        assert (await nodes[3].find_record(wanted)).newest == delegation


async def test_a_key_that_nobody_holds_ends_soon_and_empty() -> None:
    """No provider, no record, no wait."""
    async with swarm(6) as nodes:
        assert await providers(nodes[2], key(404)) == []
        search = await nodes[2].find_record(key(404))
        assert (search.newest, search.confirmed, search.asked) == (None, 0, 5)


async def test_a_notify_reaches_those_who_are_interested_and_their_hints() -> None:
    """It is verified, handed over once, and passed on."""
    got: dict[int, list[ReleaseRecord]] = {}
    nodes: list[Dht] = []
    for number in range(6):
        told = got.setdefault(number, [])

        def on_release(record: ReleaseRecord, told: Any = told) -> bool:
            told.append(record)
            return len(told) == 1

        nodes.append(
            Dht(
                private_key(100 + number),
                interested=lambda publisher, name: name == "demo",
                on_release=on_release,
            )
        )
    async with contextlib.AsyncExitStack() as stack:
        for node in nodes:
            await node.start([HERE])
            stack.push_async_callback(node.close)
        contacts = [Contact(node.public_key, node.addresses[0]) for node in nodes]
        record = released()
        # None of them knows another: the hints are pinged first, then told.
        report = await nodes[0].notify(record, contacts[1:2], contacts[2:6])
        assert report.told == contacts[1:2]
        assert report.unreachable == []
        await until(lambda: all(got[number] for number in range(1, 6)))
        await nodes[0].notify(record, contacts[1:6])
        assert all(got[number] == [record] for number in range(1, 6))
        await nodes[0].notify(released(name="other"), contacts[1:2])
        bad = bytearray(released(sequence=2).raw)
        bad[-1] ^= 1
        forged = ReleaseRecord(**{**_fields(record), "raw": bytes(bad)})
        await nodes[0].notify(forged, contacts[1:2])
        stats = nodes[1].stats()
        assert stats["notifies.not_interested"] == 1
        assert stats["notifies.refused"] == 1
        assert got[1] == [record]


def _fields(record: ReleaseRecord) -> dict[str, Any]:
    names = ReleaseRecord.__dataclass_fields__
    return {name: getattr(record, name) for name in names}


async def test_nobody_answers_at_a_dead_address() -> None:
    """A notify says who could not be told; a join says 0 and goes on trying."""
    async with running(2) as (first, second):
        gone = Contact(key(5), Address("127.0.0.1", _free_port()))
        there = Contact(second.public_key, second.addresses[0])
        report = await first.notify(released(), [gone, there])
        assert report.unreachable == [gone]
        assert report.told == [there]


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def test_a_join_that_nobody_answers_is_tried_again() -> None:
    """As soon as the contact is there, the node has joined."""
    port = _free_port()
    async with running(1) as (node,):
        assert await node.join([Address("127.0.0.1", port)]) == 0
        late = Dht(private_key(7))
        await late.start([Address("127.0.0.1", port)])
        try:
            await until(lambda: len(node.contacts()) == 1)
        finally:
            await late.close()


async def test_without_contacts_a_join_ends_at_once() -> None:
    """The first node of a network has nobody to ask."""
    async with running(1) as (node,):
        assert await node.join([]) == 0
        assert await node.join([node.addresses[0]]) == 0


async def test_ipv6_works_alike() -> None:
    """On [::1]."""
    async with swarm(5, listen=(HERE_6,)) as nodes:
        assert all(len(node.contacts()) == 4 for node in nodes)
        await nodes[1].offer([key(6)], 5000)
        (found,) = await providers(nodes[4], key(6))
        assert found.address == Address("::1", 5000)


async def test_both_families_are_joined_by_a_node_that_speaks_both() -> None:
    """It announces over each, so that everybody finds an address of theirs."""
    async with running(1, listen=(HERE, HERE_6)) as (both,):
        four, six = Dht(private_key(8)), Dht(private_key(9))
        try:
            await four.start([HERE])
            await six.start([HERE_6])
            await four.join([both.addresses[0]])
            await six.join([both.addresses[1]])
            await both.offer([key(7)], 5000)
            assert [r.address.family for r in await providers(four, key(7))] == [4]
            assert [r.address.family for r in await providers(six, key(7))] == [6]
        finally:
            await four.close()
            await six.close()


async def test_a_private_network_is_silent_to_strangers() -> None:
    """Whatever they send; its members find one another."""
    async with swarm(4, network=LAB) as nodes, running(1, first_key=200) as (stranger,):
        assert await stranger.join([nodes[0].addresses[0]]) == 0
        before = nodes[0].stats()["sent"]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            to = (nodes[0].addresses[0].host, nodes[0].addresses[0].port)
            for size in (0, 1, 23, 24, 100, 1200, 1400):
                probe.sendto(random.Random(size).randbytes(size), to)
            await until(lambda: nodes[0].stats().get("dropped.short", 0) >= 2)
        assert nodes[0].stats()["sent"] == before
        assert nodes[0].stats()["dropped.mac"] >= 1
        await nodes[1].offer([key(8)], 5000)
        assert len(await providers(nodes[3], key(8))) == 1


async def test_a_caught_datagram_is_worth_nothing_at_another_member() -> None:
    """Nor at its receiver a second time; only a first ping names no receiver."""
    async with swarm(3, network=LAB) as (first, second, third):
        caught = []
        send = first._running.transport.send

        def tapped(datagram: bytes, to: Address) -> bool:
            caught.append((datagram, to))
            return bool(send(datagram, to))

        first._running.rpc_client._send = tapped
        await first.offer([key(8)], 5000)
        await providers(first, key(9))
        assert caught
        before = {node: node.stats()["answered"] for node in (second, third)}
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as outsider:
            for datagram, _ in caught:
                for node in (second, third):
                    where = node.addresses[0]
                    outsider.sendto(datagram, (where.host, where.port))

        def dropped(reason: str) -> int:
            nodes = (second, third)
            return sum(node.stats().get(f"dropped.{reason}", 0) for node in nodes)

        await until(lambda: dropped("mac") + dropped("replay") == 2 * len(caught))
        assert dropped("mac") == len(caught)
        assert {node: node.stats()["answered"] for node in (second, third)} == before


async def test_only_a_ping_may_name_no_receiver() -> None:
    """A question to whoever is there is not answered in a private network."""
    async with swarm(2, network=LAB) as (first, second):
        rpc_client = first._running.rpc_client
        answers: list[object] = []
        for body in (FindNode(key(1)), Ping()):
            rpc_client.ask_address(second.addresses[0], body, answers.append)
        await until(lambda: len(answers) == 2)
        assert answers.count(None) == 1
        assert second.stats()["dropped.unaddressed"] >= 1


async def test_one_bad_item_ends_no_loop() -> None:
    """A callback that fails is logged and counted, and the node goes on."""

    def failing(publisher: bytes, name: str) -> bool:
        raise RuntimeError(name)

    async with swarm(3) as nodes:
        nodes[0]._running.alerts._interested = failing
        contacts = [Contact(nodes[0].public_key, nodes[0].addresses[0])]
        report = await nodes[1].notify(released(), contacts)
        assert report.told == []
        assert nodes[0].stats()["failed.datagram"] >= 1
        await nodes[1].offer([key(9)], 5000)
        assert len(await providers(nodes[0], key(9))) == 1


async def test_maintenance_survives_each_of_its_rounds() -> None:
    """A record that cannot be stored again leaves the others stored."""
    async with swarm(3) as nodes:
        maintenance = nodes[1]._running.maintenance

        async def broken() -> None:
            raise RuntimeError("broken")

        await maintenance._survive(broken(), "renew")
        assert nodes[1].stats()["failed.renew"] == 1
        client = nodes[1]._running.record_client
        for number in range(3):
            record = released(name=f"name{number}")
            await nodes[1].store_record(record, keep=True)
        store, stored = client.store, []

        async def sometimes(record: ReleaseRecord, *, keep: bool) -> object:
            if record.name == "name1":
                raise RuntimeError(record.name)
            stored.append(record.name)
            return await store(record, keep=keep)

        client.store = sometimes
        await client.renew()
        assert sorted(stored) == ["name0", "name2"]
        assert nodes[1].stats()["failed.store"] == 1


async def test_garbage_is_counted_and_harmless() -> None:
    """Thousands of mutated datagrams; the node still answers."""
    rng = random.Random(5)
    async with swarm(3) as nodes:
        target = (nodes[0].addresses[0].host, nodes[0].addresses[0].port)
        good = Network().tag + bytes.fromhex("9901 01c408") + bytes(60)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            for number in range(3000):
                datagram = bytearray(good[: rng.randrange(len(good))])
                for _ in range(3):
                    if datagram:
                        datagram[rng.randrange(len(datagram))] = rng.randrange(256)
                probe.sendto(bytes(datagram) + rng.randbytes(rng.randrange(40)), target)
                if number % 100 == 0:
                    await asyncio.sleep(0)
        await nodes[1].offer([key(9)], 5000)
        assert len(await providers(nodes[2], key(9))) == 1
        stats = nodes[0].stats()
        assert stats["dropped.msgpack"] + stats["dropped.network"] > 100


async def test_a_taken_port_is_an_os_error_and_leaves_nothing_open() -> None:
    """Also when it is the second of two."""
    async with running(1, listen=(HERE_6,)) as (node,):
        other = Dht(private_key(5))
        with pytest.raises(OSError, match="in use"):
            await other.start([HERE, node.addresses[0]])
        with pytest.raises(DhtClosedError):
            await other.join([])
        await other.start([HERE])
        await other.close()


async def test_closing_leaves_no_task_and_is_quick() -> None:
    """Even in the middle of searches and retries."""
    before = asyncio.all_tasks()
    async with running(2) as (first, second):
        await first.join([Address("127.0.0.1", _free_port())])
        second.find_providers(key(1))
        started = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() - started < 5
    assert asyncio.all_tasks() == before
    with pytest.raises(DhtClosedError):
        first.find_providers(key(1))


async def test_a_search_can_be_ended_early() -> None:
    """`aclose` leaves nothing behind, and iteration ends."""
    async with swarm(4) as nodes:
        search = nodes[1].find_providers(key(1))
        await search.aclose()
        assert [record async for record in search] == []


async def test_a_read_only_node_finds_and_is_told_to_nobody() -> None:
    """It is answered, but is in no table."""
    async with (
        swarm(4) as nodes,
        running(1, first_key=200, read_only=True) as (reader,),
    ):
        await nodes[1].offer([key(10)], 5000)
        assert await reader.join([nodes[0].addresses[0]]) == 1
        assert len(await providers(reader, key(10))) == 1
        assert reader.public_key not in {
            status.contact.public_key for node in nodes for status in node.contacts()
        }
