"""Who may speak with whom: keys, private networks, encryption, strangers."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import socket
import ssl

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.transfer.conftest import until
from transfer import Identity, NoPeerError, SeederLimits
from transfer.connection import wire
from transfer.connection.tls import certificate_key
from transfer.errors import IdentityError

DATA = os.urandom(400_000)
SECRET, OTHER = bytes(32), b"\x01" * 32


async def crosses(seeder, leecher, peer=None) -> bool:
    """Whether an artifact gets from one node to the other."""
    artifact = seeder.store.add_bytes(DATA)
    try:
        await leecher.download(artifact.digest, [peer or seeder.peer])
    except NoPeerError:
        assert leecher.store.artifacts() == []
        return False
    return True


@pytest.mark.parametrize(
    ("theirs", "ours", "works"),
    [
        (True, True, True),
        (True, False, True),
        (False, True, True),
        (False, False, True),
    ],
)
async def test_plaintext_needs_both_sides(new_node, theirs, ours, works, caplog):
    """Where one side wants encryption, there is encryption."""
    seeder = await new_node(encryption=theirs)
    leecher = await new_node(encryption=ours)
    assert await crosses(seeder, leecher) is works
    refused = seeder.seeder.stats.refused
    assert refused == ({"PeerRefusedError": 1} if theirs and not ours else {})


async def test_another_key_than_promised_is_refused(new_node):
    """Whoever answers at an address must hold the key that was announced."""
    seeder, leecher = await new_node(), await new_node()
    other = dataclasses.replace(seeder.peer, public_key=bytes(32))
    assert not await crosses(seeder, leecher, other)
    anyone = dataclasses.replace(seeder.peer, public_key=None)
    assert await crosses(seeder, leecher, anyone)


@pytest.mark.parametrize("encryption", [True, False], ids=["tls", "plaintext"])
@pytest.mark.parametrize(
    ("theirs", "ours", "works"),
    [
        (SECRET, SECRET, True),
        (SECRET, None, False),
        (SECRET, OTHER, False),
        (None, SECRET, False),
    ],
)
async def test_a_private_network(new_node, theirs, ours, works, encryption):
    """Both prove that they know the secret, or nothing is served."""
    seeder = await new_node(secret=theirs, encryption=encryption)
    leecher = await new_node(secret=ours, encryption=encryption)
    assert await crosses(seeder, leecher) is works


async def speak(node, data: bytes) -> bytes:
    """Send bytes to a seeder and return what it answers until it closes."""
    reader, writer = await asyncio.open_connection(node.peer.host, node.peer.port)
    writer.write(data)
    try:
        async with asyncio.timeout(20):
            answer = await reader.read()
    except ConnectionError:
        answer = b""
    writer.close()
    return answer


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        wire.MAGIC_TLS + b"not a handshake, whatever else it is" * 10,
        wire.MAGIC_PLAINTEXT + b"\xff" * 100,
        wire.MAGIC_PLAINTEXT + b"\x00\x00\x00\x00",
        wire.MAGIC_PLAINTEXT + wire.encode(wire.Get(0, 0, 0)),
        wire.MAGIC_PLAINTEXT + wire.encode(wire.Hello(2, SECRET, SECRET, b"")),
    ],
)
async def test_strangers_are_dropped(new_node, data):
    """The connection is closed, and the seeder goes on."""
    seeder, leecher = await new_node(encryption=False), await new_node()
    await speak(seeder, data)
    assert sum(seeder.seeder.stats.refused.values()) == 1
    assert await crosses(seeder, leecher)


@pytest.mark.parametrize(
    "requests",
    [
        [wire.Get(3, 0, 0)],
        [wire.Want(1, "sha256", SECRET, b"", 0), wire.Hello(1, SECRET, SECRET, b"")],
        [wire.Want(1, "sha256", b"x" * 16, b"", 0)],
        [wire.Want(1, "crc32", SECRET, b"", 0)],
        [wire.Bye("enough")],
    ],
)
async def test_a_leecher_that_breaks_the_rules_is_dropped(new_node, requests):
    """Only its own connection ends."""
    seeder, leecher = await new_node(encryption=False), await new_node()
    hello = wire.Hello(1, SECRET, SECRET, b"")
    data = wire.MAGIC_PLAINTEXT + b"".join(map(wire.encode, [hello, *requests]))
    await speak(seeder, data)
    await until(lambda: seeder.seeder.stats.connections == 0)
    assert await crosses(seeder, leecher)


async def test_silent_strangers_are_dropped_in_time(new_node):
    """A handshake has a deadline."""
    limits = SeederLimits(handshake_seconds=0.1)
    seeder = await new_node(seeder_limits=limits)
    assert await speak(seeder, b"car") == b""
    assert seeder.seeder.stats.refused == {"TimeoutError": 1}


async def test_idle_connections_are_closed_in_time(new_node):
    """Each costs a descriptor, though little else."""
    limits = SeederLimits(idle_seconds=0.1)
    seeder = await new_node(encryption=False, seeder_limits=limits)
    hello = wire.encode(wire.Hello(1, SECRET, SECRET, b""))
    await speak(seeder, wire.MAGIC_PLAINTEXT + hello)
    assert seeder.seeder.stats.connections == 0


async def test_connections_of_one_source_are_limited(new_node):
    """And so is their sum; the port makes no source of its own."""
    limits = SeederLimits(connections_per_source_max=2)
    seeder = await new_node(seeder_limits=limits, encryption=False)
    hello = wire.MAGIC_PLAINTEXT + wire.encode(wire.Hello(1, SECRET, SECRET, b""))
    held = []
    for _ in range(5):
        sock = socket.create_connection((seeder.peer.host, seeder.peer.port))
        sock.sendall(hello)
        held.append(sock)
    why = "too many connections of one source"
    await until(lambda: seeder.seeder.stats.refused.get(why) == 3)
    assert seeder.seeder.stats.connections == 2
    for sock in held:
        sock.close()


async def test_many_idle_connections_use_no_thread(new_node):
    """They stay on the event loop, and others are served meanwhile."""
    seeder, leecher = await new_node(encryption=False), await new_node()
    hello = wire.MAGIC_PLAINTEXT + wire.encode(wire.Hello(1, SECRET, SECRET, b""))
    held = []
    for _ in range(50):
        reader, writer = await asyncio.open_connection(
            seeder.peer.host, seeder.peer.port
        )
        writer.write(hello)
        held.append((reader, writer))
    await until(lambda: seeder.seeder.stats.connections == 50)
    assert seeder.seeder.stats.uploads == 0
    assert await crosses(seeder, leecher)
    for _, writer in held:
        writer.close()


def test_the_certificate_is_of_the_node_key():
    """It is the same at every start, and holds no more than the key."""
    key = Ed25519PrivateKey.generate()
    identity = Identity(key)
    assert identity.public_key == key.public_key().public_bytes_raw()
    assert identity.seeder_context.minimum_version == ssl.TLSVersion.TLSv1_3
    for certificate in (None, b"", b"\x30" * 100, bytes(5000)):
        with pytest.raises(IdentityError):
            certificate_key(certificate)
