"""Slow and failing lines: progress is counted in bytes, and nothing comes twice."""

from __future__ import annotations

import asyncio
import os
import time

import pytest

from tests.transfer import hostile
from tests.transfer.conftest import until
from transfer import Digest, LeecherLimits, NoPeerError, Peer, SeederLimits
from transfer.leeching.swarm import ConnectionCap

CHUNK = 256 * 1024
DATA = os.urandom(3 * CHUNK + 77)
LIMITS = LeecherLimits(
    stall_seconds=0.6,
    patience_seconds=0.6,
    pace_window_seconds=0.5,
    snub_seconds_min=0.3,
)


class Relay:
    """Passes a seeder's bytes on, and cuts each connection after so many of them."""

    def __init__(self, peer: Peer, cut_after: int) -> None:
        self.connections = self.passed = 0
        self._peer = peer
        self._cut_after = cut_after
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Relay:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def peer(self) -> Peer:
        port = self._server.sockets[0].getsockname()[1]
        return Peer("127.0.0.1", port, self._peer.public_key)

    async def _serve(self, reader, writer) -> None:
        self.connections += 1
        task = asyncio.current_task()
        self._tasks.add(task)
        inner, outer = await asyncio.open_connection(self._peer.host, self._peer.port)
        asks = asyncio.create_task(self._pass(reader, outer, 2**40))
        try:
            await self._pass(inner, writer, self._cut_after)
        finally:
            asks.cancel()
            for one in (outer, writer):
                one.transport.abort()
            self._tasks.discard(task)

    async def _pass(self, reader, writer, left: int) -> None:
        while left > 0 and (data := await reader.read(min(left, 16_384))):
            left -= len(data)
            if writer.transport.is_closing():
                return
            writer.write(data)
            await writer.drain()
            self.passed += len(data)


@pytest.mark.parametrize("encryption", [True, False], ids=["TLS", "plaintext"])
async def test_a_chunk_that_takes_longer_than_a_stall_arrives(new_node, encryption):
    """A second and more for each chunk, and half a second for a stall."""
    limits = SeederLimits(bytes_per_second=200_000)
    seeder = await new_node(encryption=encryption, seeder_limits=limits)
    leecher = await new_node(encryption=encryption, leecher_limits=LIMITS)
    artifact = seeder.store.add_bytes(DATA)
    began = time.monotonic()
    downloaded = await leecher.download(artifact.digest, [seeder.peer])
    assert time.monotonic() - began > 5 * LIMITS.stall_seconds
    assert leecher.store.read(downloaded.artifact) == DATA
    assert seeder.seeder.stats.bytes_sent == len(DATA)


async def test_a_leecher_that_limits_itself_does_not_stall(new_node):
    limits = LeecherLimits(
        stall_seconds=0.5, pace_window_seconds=0.4, bytes_per_second=200_000
    )
    seeder, leecher = await new_node(), await new_node(leecher_limits=limits)
    artifact = seeder.store.add_bytes(DATA)
    downloaded = await leecher.download(artifact.digest, [seeder.peer])
    assert leecher.store.read(downloaded.artifact) == DATA


async def test_what_came_of_a_chunk_is_not_sent_again(new_node):
    """Each connection breaks off long before a chunk has come."""
    seeder = await new_node()
    leecher = await new_node()
    artifact = seeder.store.add_bytes(DATA)
    async with Relay(seeder.peer, cut_after=100_000) as relay:
        downloaded = await leecher.download(artifact.digest, [relay.peer])
        assert relay.connections >= len(DATA) // 100_000
        assert relay.passed < 1.5 * len(DATA) + 3000 * relay.connections
    assert leecher.store.read(downloaded.artifact) == DATA


async def test_a_large_chunk_goes_on_where_it_broke_off(new_node, monkeypatch):
    """Chunks above a mebibyte are written as they come, and read back to be hashed."""
    monkeypatch.setattr("transfer.leeching.peer_connection.BUFFER_BYTES", 64 * 1024)
    seeder = await new_node()
    leecher = await new_node()
    artifact = seeder.store.add_bytes(DATA)
    async with Relay(seeder.peer, cut_after=200_000) as relay:
        downloaded = await leecher.download(artifact.digest, [relay.peer])
        assert relay.connections >= len(DATA) // 200_000
        assert relay.passed < 1.5 * len(DATA) + 3000 * relay.connections
    assert leecher.store.read(downloaded.artifact) == DATA


async def test_a_part_of_another_source_is_not_continued(new_node):
    """A part is its sender's: who goes on with it is to blame for the whole chunk."""
    honest, leecher = [await new_node(encryption=False) for _ in range(2)]
    artifact = honest.store.add_bytes(DATA)

    class Half(hostile.Hostile):
        """Sends half a chunk of other bytes and breaks off."""

        async def on_get(self, channel, get):
            data = bytes(self.manifest.length(get.index) // 2)
            head = hostile.wire.Chunk(
                get.number, get.index, self.manifest.length(get.index) - get.start
            )
            await channel.write(hostile.wire.encode(head) + data)
            channel.abort()

    async with Half(DATA) as half:

        async def peers():
            yield half.peer
            await until(lambda: bool(half.chunks_asked))
            await asyncio.sleep(0.1)
            yield honest.peer

        downloaded = await leecher.download(artifact.digest, peers())
    assert leecher.store.read(downloaded.artifact) == DATA
    assert str(honest.peer) not in leecher.leecher.stats.bad_peers


async def test_drops_do_not_pass_for_progress(new_node):
    """A byte now and then holds a download no longer than silence does."""
    leecher = await new_node(encryption=False, leecher_limits=LIMITS)
    began = time.monotonic()
    async with hostile.ByteByByte(DATA) as dripping:
        with pytest.raises(NoPeerError):
            await leecher.download(Digest.of(DATA), [dripping.peer])
    assert time.monotonic() - began < 5


def test_a_slow_line_gets_fewer_connections():
    """At 20 kB/s eight connections become one, and more as the line gets faster."""
    limits = LeecherLimits()
    cap = ConnectionCap(limits, 0.0)
    assert cap.value == limits.connections_max
    cap.judge(5.0, 100_000, 8)
    assert cap.value == limits.connections_max
    cap.judge(10.0, 200_000, 8)
    assert cap.value == 1
    for window in range(2, 8):
        cap.judge(10.0 * window, window * 20_000_000, 1)
    assert cap.value == limits.connections_max


def test_a_line_that_brings_nothing_is_not_a_slow_one():
    """Peers that only wait are no reason to leave them."""
    cap = ConnectionCap(LeecherLimits(), 0.0)
    cap.judge(10.0, 0, 20)
    assert cap.value == LeecherLimits().connections_max


@pytest.mark.full
async def test_many_seeders_on_a_slow_line(new_node):
    """They share what the line brings; the file comes, and little of it twice."""
    limits = LeecherLimits(
        stall_seconds=1.0,
        pace_window_seconds=0.5,
        bytes_per_second=400_000,
        bytes_per_second_min=60_000,
    )
    data = os.urandom(8 * CHUNK)
    seeders = [await new_node() for _ in range(8)]
    for seeder in seeders:
        artifact = seeder.store.add_bytes(data)
    leecher = await new_node(leecher_limits=limits)
    downloaded = await leecher.download(artifact.digest, [one.peer for one in seeders])
    assert leecher.store.read(downloaded.artifact) == data
