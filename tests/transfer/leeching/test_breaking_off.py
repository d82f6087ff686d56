"""Either end breaks off at every byte of what it has to say."""

from __future__ import annotations

import asyncio
import os
import secrets

import pytest

from tests.transfer import hostile
from tests.transfer.conftest import TIMEOUT_SECONDS, until
from transfer import LeecherLimits
from transfer.connection import wire

AT_ONCE = 24
CHUNK = 256 * 1024
LIMITS = LeecherLimits(answer_seconds=5.0)


class Counting(hostile.Disconnecting):
    """Never breaks off, and counts what it had to say."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data, left=2**40)
        self.said = 0

    async def _serve(self, channel):
        write = channel.write

        async def count(data: bytes) -> None:
            self.said += len(data)
            await write(data)

        channel.write = count
        await super()._serve(channel)


async def length_of_conversation(new_node, data: bytes) -> int:
    """Return how many bytes a seeder says until a leecher has the whole."""
    leecher = await new_node(encryption=False)
    async with Counting(data) as seeder:
        digest = leecher.store.add_bytes(b"").digest.of(data)
        await leecher.download(digest, [seeder.peer])
        return seeder.said


async def break_off(leecher, honest, size: int, left: int) -> None:
    data = os.urandom(size)
    artifact = await asyncio.to_thread(honest.store.add_bytes, data)
    async with hostile.Disconnecting(data, left) as bad:
        await leecher.download(artifact.digest, [bad.peer, honest.peer])
    assert leecher.store.read(artifact) == data


@pytest.mark.parametrize(
    ("size", "payload"), [(40, 0), (CHUNK + 9, CHUNK)], ids=["small", "chunks"]
)
async def test_a_seeder_breaks_off_at_every_byte(new_node, size, payload):
    """Hello, listing, have, each chunk's head and bytes (of a large one, its ends)."""
    honest = await new_node(encryption=False)
    leecher = await new_node(encryption=False, leecher_limits=LIMITS)
    length = await length_of_conversation(new_node, os.urandom(size))
    middle = range(length - payload, length - 8) if payload else range(0)
    places = [left for left in range(length + 1) if left not in middle]
    places += [length - payload // share for share in (1, 2, 3) if payload]
    assert len(places) > 150
    slots = asyncio.Semaphore(AT_ONCE)

    async def one(left: int) -> None:
        async with slots:
            await break_off(leecher, honest, size, left)

    async with asyncio.timeout(TIMEOUT_SECONDS * 2):
        await asyncio.gather(*map(one, places))
    assert leecher.leecher.stats.downloads == 0


def requests_of(digest, manifest) -> bytes:
    """Return all that a leecher says, from the first byte to the last."""
    hello = wire.Hello(1, secrets.token_bytes(32), secrets.token_bytes(32), b"")
    want = wire.Want(0, digest.algorithm, digest.raw, b"", 4747)
    messages = [
        hello,
        want,
        *(wire.Get(0, index, 0) for index in range(manifest.count)),
        wire.Done(0),
        wire.Want(1, digest.algorithm, digest.raw, manifest.digest, 0),
        wire.Complaint(1, 0),
    ]
    return wire.MAGIC_PLAINTEXT + b"".join(map(wire.encode, messages))


async def test_a_leecher_breaks_off_at_every_byte(new_node):
    """The seeder forgets it, and serves the next one."""
    seeder, leecher = [await new_node(encryption=False) for _ in range(2)]
    data = os.urandom(CHUNK + 9)
    artifact = seeder.store.add_bytes(data)
    said = requests_of(artifact.digest, seeder.store.manifest(artifact))
    slots = asyncio.Semaphore(AT_ONCE)

    async def one(count: int) -> None:
        async with slots:
            reader, writer = await asyncio.open_connection(*address)
            writer.write(said[:count])
            writer.write_eof()
            while await reader.read(2 * CHUNK):
                pass
            writer.close()
            await writer.wait_closed()

    address = seeder.peer.host, seeder.peer.port
    async with asyncio.timeout(TIMEOUT_SECONDS * 2):
        await asyncio.gather(*map(one, range(len(said) + 1)))
    await until(lambda: seeder.seeder.stats.connections == 0)
    assert not seeder.seeder._uploads.swarms._swarms
    await leecher.download(artifact.digest, [seeder.peer])
    assert leecher.store.read(artifact) == data
