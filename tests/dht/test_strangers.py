"""No amplifier: what goes to addresses that have shown nothing is bounded."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dht import Address, Contact, Dht
from dht.acquaintances import Silence
from dht.asking import Asking
from dht.identity import is_proof, prove
from dht.limits import (
    DATAGRAM_BYTES_MAX,
    KNOCKS_PER_ADDRESS_MAX,
    KNOCKS_PER_HOST_MAX,
)
from dht.wire import FindNode, FindProviders, FindRecord, Notify, Ping
from tests.dht import hostile
from tests.dht.builders import core, key, release, signer
from tests.dht.test_asking import LoopClock
from tests.simulation.loop import VirtualClock, virtual_time
from tests.simulation.network import SimulatedNetwork, SimulatedSockets

if TYPE_CHECKING:
    from tests.simulation.loop import VirtualLoop

VICTIM = "99.1.1.1"
FIND_BYTES = 968 + 128 + 128


class Sent:
    """What one node sends, by address."""

    def __init__(self, loop: VirtualLoop) -> None:
        self.loop = loop
        self.bytes: Counter[Address] = Counter()
        self.datagrams: Counter[Address] = Counter()
        self.core = core(1, LoopClock(loop))
        self.core.families = frozenset({4})
        self.asking = Asking(self.core, self._send, loop)

    def _send(self, datagram: bytes, to: Address) -> bool:
        self.bytes[to] += len(datagram)
        self.datagrams[to] += 1
        return True

    def ask(self, contact: Contact, body: Any) -> None:
        self.asking.ask(contact, body, lambda answer: None)

    def pass_time(self, seconds: float) -> None:
        self.loop.run_until_complete(asyncio.sleep(seconds))


@pytest.mark.parametrize(
    "body", [Ping(), FindNode(key(1)), FindProviders(key(1)), FindRecord(key(1))]
)
def test_a_victim_named_again_and_again_gets_little(body: Any) -> None:
    """Ten requests an hour at one port, whatever keys are claimed for it."""
    with virtual_time() as loop:
        sent = Sent(loop)
        where = Address(VICTIM, 5000)
        for number in range(400):
            sent.ask(Contact(key(number), where), body)
            sent.pass_time(8.9)
        assert sent.datagrams[where] <= 3 * KNOCKS_PER_ADDRESS_MAX
        assert sent.bytes[where] <= KNOCKS_PER_ADDRESS_MAX * FIND_BYTES
        sent.asking.close()


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=60))
def test_a_victim_is_not_hit_at_all_of_its_ports(named: list[tuple[int, int]]) -> None:
    """Eight requests a minute to all ports together, by whatever is running."""
    bodies = [Ping(), FindNode(key(1)), FindProviders(key(2)), FindRecord(key(3))]
    with virtual_time() as loop:
        sent = Sent(loop)
        for number, (port, claimed) in enumerate(named):
            where = Address(VICTIM, 5000 + port)
            sent.ask(Contact(key(claimed), where), bodies[number % 4])
        sent.pass_time(50.0)
        assert sum(sent.datagrams.values()) <= 3 * KNOCKS_PER_HOST_MAX
        assert sum(sent.bytes.values()) <= KNOCKS_PER_HOST_MAX * FIND_BYTES
        sent.asking.close()


def test_an_answer_ends_the_count() -> None:
    """And loopback is not counted: there every port is another node."""
    silence = Silence()
    here = Address(VICTIM, 5000)
    for _ in range(KNOCKS_PER_HOST_MAX):
        assert silence.may_knock(here, 0.0)
    assert not silence.may_knock(here, 0.0)
    silence.discard(here)
    assert silence.may_knock(here, 0.0)
    near = Address("127.0.0.1", 5000)
    assert all(silence.may_knock(near, 0.0) for _ in range(100))


def test_the_count_of_an_address_lasts_an_hour() -> None:
    """A minute later its host may be asked again, but at other ports."""
    silence, asked = Silence(), 0
    for minute in range(59):
        for _ in range(3):
            asked += silence.may_knock(Address(VICTIM, 5000), 61.0 * minute)
    assert asked == KNOCKS_PER_ADDRESS_MAX
    assert silence.may_knock(Address(VICTIM, 5001), 3580.0)
    assert silence.may_knock(Address(VICTIM, 5000), 3601.0)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 1 << 32), interested=st.booleans())
def test_who_echoes_nothing_gets_no_more_than_it_sends(
    seed: int, interested: bool
) -> None:
    """A whole node, every kind of request, from one address, with false hints too."""
    rng = random.Random(seed)
    asker = Address(VICTIM, 5000)
    received = sent = 0
    with virtual_time() as loop:
        network = SimulatedNetwork(loop, 1, None)

        async def scenario() -> None:
            nonlocal received, sent
            node = Dht(
                signer(1),
                clock=VirtualClock(loop),
                rng=random.Random(1),
                sockets=SimulatedSockets(network, "45.1.1.1"),
                interested=lambda publisher, name: interested,
                on_release=lambda record: True,
            )
            await node.start([Address("45.1.1.1", 4747)])
            running: Any = node._running

            def count(datagram: bytes, to: Address) -> bool:
                nonlocal sent
                sent += len(datagram) if to == asker else 0
                return True

            running.transport.send = running.asking._send = count
            hints = b"".join(Contact(key(n), asker).packed for n in range(4))
            for number in range(30):
                record = release(sequence=1 + number).raw
                body = rng.choice([*hostile.bodies(rng), Notify(record, hints)])
                datagram = hostile.request(
                    body,
                    rng.choice([key(1), rng.randbytes(32)]),
                    rng,
                    flags=rng.randrange(32),
                    token=rng.choice([b"", b"notgiven"]),
                    padding=rng.randrange(300),
                )
                if len(datagram) <= DATAGRAM_BYTES_MAX:
                    received += len(datagram)
                    running._on_datagram(datagram, asker)
                await asyncio.sleep(rng.random())
                assert sent <= received
            await asyncio.sleep(30)
            assert sent <= received
            await node.close()

        loop.run_until_complete(scenario())


def test_two_keys_share_a_secret_that_proves_each_to_the_other() -> None:
    """In either direction, for one message, and to nobody else."""
    one, other, third = signer(1), signer(2), signer(3)
    secret = one.secret_with(other.public_key)
    assert secret is not None
    assert secret == other.secret_with(one.public_key)
    assert secret != one.secret_with(third.public_key)
    proof = prove(secret, b"tag", one.public_key, b"part")
    assert is_proof(proof, secret, b"tag", one.public_key, b"part")
    assert not is_proof(proof, secret, b"tag", other.public_key, b"part")
    assert not is_proof(proof, secret, b"gat", one.public_key, b"part")
    assert not is_proof(proof, secret, b"tag", one.public_key, b"trap")
    assert not is_proof(proof, None, b"tag", one.public_key, b"part")
    assert len(proof) == 16


@pytest.mark.parametrize("weak", [bytes(32), b"\x01" + bytes(31), b"\xff" * 32, b"k"])
def test_a_weak_key_shares_no_secret(weak: bytes) -> None:
    """Anybody could know it."""
    assert signer(1).secret_with(weak) is None
