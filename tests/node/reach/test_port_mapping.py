"""The router is asked in real datagrams, and everything that routers do is survived."""

from __future__ import annotations

import asyncio
import contextlib
import struct

import pytest

from node.reach import pcp, port_mapping
from node.reach.pcp import RouterError
from node.reach.port_mapping import EpochWatch, PortMapper, PortMapping
from node.reach.routers import (
    NatPmpRouter,
    PcpRouter,
    UpnpRouter,
    default_gateway,
)
from tests.node.reach.fake_router import OUTSIDE, FakeRouter

PORT = 4747


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(port_mapping, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(port_mapping, "RENEW_SECONDS_MIN", 0.05)
    monkeypatch.setattr(port_mapping, "RETRY_SECONDS", 0.1)


@contextlib.asynccontextmanager
async def mapped(fake: FakeRouter, **options):
    """Run a mapper against a fake router until it has said something."""
    port = await fake.start()
    changes: list[PortMapping | None] = []
    gateways = ["127.0.0.1"]
    mapper = PortMapper(
        PORT,
        changed=changes.append,
        routers=lambda: [
            PcpRouter("127.0.0.1", "127.0.0.1", port=port),
            NatPmpRouter("127.0.0.1", port=port),
        ],
        gateway=lambda: gateways[0],
        **options,
    )
    task = asyncio.create_task(mapper.run())
    try:
        async with asyncio.timeout(20):
            while not changes and not mapper.problem:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        yield mapper, changes, gateways
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        fake.transport.close()


async def until(condition, seconds=10.0):
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 (the fake sets no event)
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("speaks", ["PCP", "NAT-PMP"])
async def test_both_transports_are_mapped_and_removed_at_the_end(speaks):
    fake = FakeRouter(speaks=(speaks,))
    async with mapped(fake) as (mapper, changes, _):
        (mapping,) = changes
        assert (mapping.protocol, mapping.address) == (speaks, OUTSIDE)
        assert (mapping.udp_port, mapping.tcp_port) == (PORT, PORT)
        assert fake.mapped == {("udp", PORT): PORT, ("tcp", PORT): PORT}
        assert mapper.problem == ""
    assert fake.mapped == {}


async def test_a_lost_reply_is_asked_for_again():
    fake = FakeRouter()
    fake.lost_replies = 2
    async with mapped(fake) as (mapper, _, _):
        assert mapper.mapping is not None
        assert mapper.mapping.protocol == "PCP"


async def test_another_port_than_was_asked_for_is_obeyed():
    fake = FakeRouter()
    fake.granted_port = 6003
    async with mapped(fake) as (mapper, _, _):
        assert (mapper.mapping.udp_port, mapper.mapping.tcp_port) == (6003, 6003)


async def test_a_pair_is_renewed_udp_first_and_tcp_last():
    fake = FakeRouter()
    fake.granted_seconds = 0
    fake.kills_tcp_when_udp_is_renewed = True
    async with mapped(fake) as (_, changes, _):
        await until(lambda: len(fake.log) >= 6)
        assert [transport for transport, _ in fake.log[:6]] == ["udp", "tcp"] * 3
        await until(lambda: set(fake.mapped) == {("udp", PORT), ("tcp", PORT)})
        assert len(changes) == 1


async def test_an_epoch_that_starts_again_maps_again(monkeypatch):
    monkeypatch.setattr(port_mapping, "EPOCH_SECONDS", 0.05)
    fake = FakeRouter()
    fake.started_at -= 1000
    async with mapped(fake):
        fake.restart()
        await until(lambda: len(fake.mapped) == 2)


async def test_an_announcement_makes_the_router_be_asked(monkeypatch):
    fake = FakeRouter()
    async with mapped(fake) as (mapper, _, _):
        fake.restart()
        mapper._announced.set()
        await until(lambda: len(fake.mapped) == 2)


async def test_announcements_are_heeded_seldom():
    fake = FakeRouter()
    async with mapped(fake) as (mapper, _, _):
        for _ in range(20):
            mapper._announced.set()
            await asyncio.sleep(0.02)
        assert len(fake.log) <= 4


async def test_another_gateway_is_asked_at_once():
    fake = FakeRouter()
    async with mapped(fake) as (_, _, gateways):
        fake.restart()
        gateways[0] = "127.0.0.2"
        await until(lambda: len(fake.mapped) == 2)


async def test_an_outer_address_that_changes_is_said(monkeypatch):
    monkeypatch.setattr(port_mapping, "EPOCH_SECONDS", 0.05)
    fake = FakeRouter(speaks=("NAT-PMP",))
    async with mapped(fake) as (_, changes, _):
        fake.outside = "11.0.0.102"
        await until(lambda: len(changes) == 2)
        assert changes[-1].address == "11.0.0.102"


@pytest.mark.parametrize(
    ("speaks", "code", "words"),
    [("NAT-PMP", 3, "no outer address"), ("PCP", 8, "no mapping left")],
)
async def test_a_refusal_is_said_and_tried_again(speaks, code, words):
    fake = FakeRouter(speaks=(speaks,))
    fake.code = code
    async with mapped(fake) as (mapper, changes, _):
        assert words in mapper.problem
        assert changes == []
        fake.code = 0
        await until(lambda: mapper.mapping is not None)
        assert mapper.problem == ""


async def test_a_host_that_speaks_nothing_is_no_router():
    fake = FakeRouter(speaks=())
    port = await fake.start()
    fake.transport.close()
    with pytest.raises(RouterError):
        await NatPmpRouter("127.0.0.1", port=port).outer()


def mapping(address: str | None) -> PortMapping:
    return PortMapping("PCP", address, PORT, PORT, 0.0)


@pytest.mark.parametrize(
    ("address", "seen", "expected"),
    [
        ("11.0.0.101", "11.0.0.101", False),
        ("11.0.0.101", None, False),
        ("11.0.0.101", "11.0.0.7", True),
        ("100.64.0.101", None, True),
        ("10.0.0.1", "11.0.0.101", True),
        (None, None, True),
    ],
)
def test_carrier_grade_nat_is_seen(address, seen, expected):
    assert mapping(address).is_behind_another(seen) is expected


def test_an_epoch_may_run_slow_by_an_eighth():
    watch = EpochWatch()
    assert not watch.restarted(1000, 0.0)
    assert not watch.restarted(1088, 100.0)
    assert not watch.restarted(1174, 200.0)
    assert watch.restarted(1175, 300.0)
    assert not watch.restarted(1200, 310.0)


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        b"\0",
        bytes(16),
        struct.pack("!BBHIHHI", 0, 129, 0, 1, PORT, 1, 1)[:-1],
        struct.pack("!BBHIHHI", 0, 129, 0, 1, PORT + 1, 1, 1),
    ],
)
def test_nonsense_is_an_error_of_the_router(reply):
    with pytest.raises(RouterError):
        pcp.read_natpmp_map(reply, "udp", PORT)
    with pytest.raises(RouterError):
        pcp.read_pcp_map(reply, "udp", PORT, nonce=bytes(12))


def test_a_mapping_of_somebody_else_is_refused():
    reply = (
        struct.pack("!BBBBII12x", 2, 129, 0, 0, 60, 1)
        + b"x" * 12
        + struct.pack("!B3xHH", 17, PORT, PORT)
        + bytes(16)
    )
    with pytest.raises(RouterError, match="another mapping"):
        pcp.read_pcp_map(reply, "udp", PORT, nonce=b"y" * 12)


def test_the_default_gateway_is_read(tmp_path):
    routes = tmp_path / "route"
    routes.write_text(
        "Iface\tDestination\tGateway\tFlags\tRefCnt\n"
        "eth0\t0001A8C0\t00000000\t0001\t0\n"
        "eth0\t00000000\t0101A8C0\t0003\t0\n"
    )
    assert default_gateway(routes) == "192.168.1.1"
    assert default_gateway(tmp_path / "none") is None


class FakeDevice:
    """What `miniupnpc.UPnP` is to its users; it raises bare Exceptions."""

    lanaddr = "192.168.1.2"
    discoverdelay = 0

    def __init__(self) -> None:
        self.taken = {PORT}
        self.mapped: list[tuple[object, ...]] = []
        self.dead = False

    def UPnP(self) -> FakeDevice:  # noqa: N802 (the library's name)
        return self

    def discover(self) -> int:
        return 1

    def selectigd(self) -> str:
        self.dead = False
        return "192.168.1.1"

    def externalipaddress(self) -> str:
        if self.dead:
            raise Exception("HTTP error")  # noqa: TRY002
        return OUTSIDE

    def addportmapping(self, *arguments: object) -> bool:
        if self.dead:
            raise Exception("HTTP error")  # noqa: TRY002
        if arguments[0] in self.taken:
            raise Exception("ConflictInMappingEntry")  # noqa: TRY002
        self.mapped.append(arguments)
        return True

    def deleteportmapping(self, *arguments: object) -> bool:
        self.mapped = [one for one in self.mapped if one[:2] != arguments]
        return True


async def test_upnp_tries_another_port_where_a_neighbour_has_it():
    device = FakeDevice()
    router = UpnpRouter(device)
    grant = await router.map("tcp", PORT, outer=PORT, seconds=3600)
    assert grant.port != PORT
    assert device.mapped[0][1:5] == ("TCP", "192.168.1.2", PORT, "caravan")
    await router.remove("tcp", PORT, grant.port)
    assert device.mapped == []


@pytest.mark.parametrize("said", ["", "unknown", "None", "256.1.1.1", "::1"])
async def test_an_upnp_router_that_knows_no_outer_address_maps_all_the_same(said):
    device = FakeDevice()
    device.taken.clear()
    device.externalipaddress = lambda: said
    mapper = PortMapper(PORT, changed=[].append, routers=lambda: [UpnpRouter(device)])
    task = asyncio.create_task(mapper.run())
    async with asyncio.timeout(5):
        while mapper.mapping is None:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert not mapper.mapping.is_public
    assert mapper.mapping.is_behind_another(OUTSIDE)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_upnp_is_discovered_again_after_the_router_restarted():
    device = FakeDevice()
    device.taken.clear()
    router = UpnpRouter(device)
    await router.map("udp", PORT, outer=PORT, seconds=3600)
    device.dead = True
    with pytest.raises(RouterError):
        await router.map("udp", PORT, outer=PORT, seconds=3600)
    grant = await router.map("udp", PORT, outer=PORT, seconds=3600)
    assert (grant.port, grant.address) == (PORT, OUTSIDE)
