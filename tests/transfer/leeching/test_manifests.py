"""Several manifests for one digest: weighed by evidence, and none holds up another."""

from __future__ import annotations

import asyncio
import os
import time

import pytest

from tests.transfer import hostile
from tests.transfer.conftest import TIMEOUT_SECONDS, until
from transfer import Digest, NoPeerError, Peer, StoreError
from transfer.connection import wire
from transfer.content.manifest import Manifest, chunk_digest, chunk_size_of
from transfer.errors import FalseManifestError
from transfer.growing_file import SizeEvidence
from transfer.leeching.manifests import Claims
from transfer.leeching.wanted import Wanted
from transfer.limits import LeecherLimits

GIB = 2**30
DATA = os.urandom(3_000_000)
WANTED = Wanted(Digest.of(DATA))


def zeros(size: int) -> Manifest:
    """Return the manifest of so many zero bytes, without hashing them all."""
    chunk_size = chunk_size_of(size)
    count = -(-size // chunk_size)
    last = chunk_digest(bytes(size - (count - 1) * chunk_size))
    return Manifest(
        size, chunk_size, chunk_digest(bytes(chunk_size)) * (count - 1) + last
    )


class Zeros(hostile.Hostile):
    """Vouches for a file of zeros, and sends it as slowly as it likes."""

    def __init__(self, size: int, pause: float = 0.0) -> None:
        super().__init__(b"")
        self.manifest = zeros(size)
        self.pause = pause

    async def on_get(self, channel, get):
        await asyncio.sleep(self.pause)
        await self.send_chunk(channel, get, bytes(self.manifest.length(get.index)))


def peer(host: str) -> Peer:
    return Peer(host, 4747, os.urandom(32))


def claims_of(*claims: tuple[Manifest, str], wanted: Wanted = WANTED) -> Claims:
    found = Claims(wanted)
    for manifest, host in claims:
        found.add(manifest, peer(host))
    return found


SMALL, LARGE = zeros(1000), zeros(16 * GIB)


def test_addresses_count_and_keys_do_not():
    """A hundred keys of one /24 or one /48 are one source."""
    hosts = [f"8.8.4.{number}" for number in range(1, 100)]
    hosts += [f"2a00:1:2:{number:x}::1" for number in range(100)]
    found = claims_of(*((LARGE, host) for host in hosts), (SMALL, "9.9.9.9"))
    found.add(SMALL, peer("1.1.1.1"))
    found.add(SMALL, peer("2a00:9::1"))
    assert found.is_better(SMALL, LARGE)


def test_more_evidence_beats_less_and_then_the_cheaper_is_refuted_first():
    found = claims_of((LARGE, "8.8.4.1"), (SMALL, "9.9.9.9"))
    assert found.is_better(SMALL, LARGE)
    found.add(LARGE, peer("1.1.1.1"))
    assert found.is_better(LARGE, SMALL)


def test_what_the_caller_names_beats_all():
    wanted = Wanted(WANTED.digest, manifest=LARGE.digest)
    found = claims_of((SMALL, "1.1.1.1"), (SMALL, "9.9.9.9"), wanted=wanted)
    found.add(LARGE, None)
    assert found.is_better(LARGE, SMALL)


def test_a_refuted_manifest_is_not_heard_again():
    found = claims_of((SMALL, "8.8.4.1"))
    found.refute(SMALL)
    with pytest.raises(FalseManifestError):
        found.add(SMALL, peer("9.9.9.9"))


@pytest.mark.parametrize(
    ("claims", "evidence"),
    [
        ([(SMALL, "8.8.4.1")], SizeEvidence.UNCONFIRMED),
        ([(SMALL, "8.8.4.1"), (SMALL, "8.8.4.2")], SizeEvidence.UNCONFIRMED),
        ([(SMALL, "8.8.4.1"), (SMALL, "9.9.9.9")], SizeEvidence.INDEPENDENT),
        ([(SMALL, "127.0.0.1"), (SMALL, "127.0.0.1")], SizeEvidence.UNCONFIRMED),
        ([(SMALL, "10.0.0.1"), (SMALL, "10.0.0.2")], SizeEvidence.INDEPENDENT),
        (
            [
                (SMALL, "8.8.4.1"),
                (SMALL, "9.9.9.9"),
                (LARGE, "1.1.1.1"),
                (LARGE, "1.2.1.1"),
            ],
            SizeEvidence.UNCONFIRMED,
        ),
    ],
)
def test_a_size_needs_two_independent_sources_and_no_rival(claims, evidence):
    assert claims_of(*claims).size_evidence(SMALL) is evidence


def test_a_size_that_the_caller_knows_is_confirmed():
    wanted = Wanted(WANTED.digest, size=SMALL.size)
    found = claims_of((SMALL, "8.8.4.1"), wanted=wanted)
    assert found.size_evidence(SMALL) is SizeEvidence.CALLER


async def fetch(new_node, *liars, limits=None, honest=3):
    """Fetch from honest peers beside liars that answer first; return the seconds."""
    seeders = [await new_node(encryption=False) for _ in range(honest)]
    for seeder in seeders:
        artifact = seeder.store.add_bytes(DATA)
    leecher = await new_node(encryption=False, leecher_limits=limits)
    met = asyncio.Event()

    async def peers():
        for liar in liars:
            yield liar.peer
        await until(lambda: all(liar.connections for liar in liars))
        await asyncio.sleep(0.05 if liars else 0)
        met.set()
        for seeder in seeders:
            yield seeder.peer

    call = asyncio.create_task(leecher.download(artifact.digest, peers()))
    await met.wait()
    began = time.monotonic()
    downloaded = await call
    assert leecher.store.read(downloaded.artifact) == DATA
    assert list(leecher.store.partials.folder.iterdir()) == []
    return time.monotonic() - began, leecher


@pytest.mark.parametrize("size", [16 * GIB, 40_000_000, 3_100_000, 200_000])
async def test_a_liar_that_answers_first_holds_up_nobody(new_node, size):
    """Whatever it claims: larger, as large, or smaller and cheap to refute."""
    alone, _ = await fetch(new_node)
    async with Zeros(size, pause=0.3) as liar:
        seconds, leecher = await fetch(new_node, liar)
        assert list(leecher.leecher.stats.bad_peers) == [str(liar.peer)]
    assert seconds <= 3 * alone + 0.3


async def test_many_liars_hold_up_nobody(new_node):
    liars = [Zeros(size * GIB, pause=0.3) for size in range(1, 9)]
    for liar in liars:
        await liar.__aenter__()
    try:
        seconds, _ = await fetch(new_node, *liars)
    finally:
        for liar in liars:
            await liar.__aexit__()
    assert seconds <= 2.0


async def test_a_fast_liar_with_a_cheap_manifest_is_banned(new_node):
    """Its whole is put together, found wrong, and it is named."""
    async with Zeros(200_000) as liar:
        _, leecher = await fetch(new_node, liar)
        await until(lambda: str(liar.peer) in leecher.leecher.stats.bad_peers)


async def test_a_claim_alone_takes_no_disk(new_node, tmp_path):
    """A file grows with chunks that came, and not with what a peer says."""
    leecher = await new_node(encryption=False)
    async with Zeros(16 * GIB, pause=60.0) as liar:
        call = asyncio.create_task(
            leecher.leecher.download(Digest.of(DATA), [liar.peer])
        )
        await until(lambda: bool(liar.chunks_asked))
        files = list(leecher.store.partials.folder.glob("*.data"))
        assert [file.stat().st_size for file in files] == [0]
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)


async def test_a_claim_too_large_for_the_store_decides_nothing(new_node):
    """Beside honest peers it is passed over; alone, the sentence says why."""
    seeder, leecher = [await new_node(encryption=False) for _ in range(2)]
    leecher.store.room.bytes_max = 4_000_000
    artifact = seeder.store.add_bytes(DATA)
    async with Zeros(16 * GIB) as liar:
        with pytest.raises(StoreError, match="raise store_bytes"):
            await leecher.download(artifact.digest, [liar.peer])
        downloaded = await leecher.download(artifact.digest, [liar.peer, seeder.peer])
    assert leecher.store.read(downloaded.artifact) == DATA


async def test_chunks_that_manifests_share_are_fetched_once(new_node):
    """Each false manifest differs in one chunk; the rest comes once."""
    data = os.urandom(5_000_000)
    honest, leecher = [await new_node(encryption=False) for _ in range(2)]
    artifact = honest.store.add_bytes(data)
    places = (100, 1_000_000, 4_900_000)
    liars = [hostile.FalseManifest(data, places=(place,)) for place in places]
    for liar in liars:
        await liar.__aenter__()
    try:
        peers = [*(liar.peer for liar in liars), honest.peer]
        downloaded = await leecher.download(artifact.digest, peers)
    finally:
        for liar in liars:
            await liar.__aexit__()
    assert leecher.store.read(downloaded.artifact) == data
    sent = sum(liar.bytes_sent for liar in liars) + honest.seeder.stats.bytes_sent
    assert sent <= len(data) + 8 * 256 * 1024


class BusyFor(hostile.Hostile):
    """Puts everybody off for ten minutes."""

    async def on_want(self, channel, want):
        await channel.write(wire.encode(wire.Busy(600)))


@pytest.mark.parametrize("kind", [BusyFor, hostile.AlwaysBusy, hostile.SilentOnGet])
async def test_a_caller_learns_soon_that_nothing_comes(new_node, kind):
    """However long the only peer wants it to wait."""
    limits = LeecherLimits(patience_seconds=1.0)
    leecher = await new_node(encryption=False, leecher_limits=limits)
    began = time.monotonic()
    async with kind(DATA) as loafer, asyncio.timeout(TIMEOUT_SECONDS):
        with pytest.raises(NoPeerError, match="nothing within 1 s"):
            await leecher.download(Digest.of(DATA), [loafer.peer])
    assert time.monotonic() - began < 2.5


async def test_a_search_that_finds_nobody_ends(new_node):
    """Also where it would go on for ever."""
    leecher = await new_node(leecher_limits=LeecherLimits(patience_seconds=0.5))

    async def peers():
        await asyncio.Event().wait()
        yield peer("127.0.0.1")

    for size in (None, 20_000, 3_000_000):
        with pytest.raises(NoPeerError):
            await leecher.download(Digest.of(DATA), peers(), size=size)


async def test_a_reader_is_told_what_vouches_for_the_size(new_node):
    """One peer's word is not confirmed; what the caller knows is."""
    seeder, leecher = [await new_node(encryption=False) for _ in range(2)]
    artifact = seeder.store.add_bytes(DATA)
    for size, evidence in ((None, 0), (len(DATA), 2)):
        files = []
        await leecher.download(
            artifact.digest, [seeder.peer], size=size, on_file=files.append
        )
        assert [file.evidence for file in files] == [SizeEvidence(evidence)]
        assert files[0].read(0, 100) == DATA[:100]
        leecher.store.remove(artifact.digest)


async def test_what_a_liar_left_is_not_resumed_by_a_caller_that_knows_better(new_node):
    """An earlier run had nothing but the liar; this one knows the size."""
    seeder, leecher = [await new_node(encryption=False) for _ in range(2)]
    artifact = seeder.store.add_bytes(DATA)
    async with Zeros(30_000_000, pause=0.01) as liar:
        call = asyncio.create_task(
            leecher.leecher.download(artifact.digest, [liar.peer])
        )
        await until(lambda: len(liar.chunks_asked) > 4)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
    assert list(leecher.store.partials.folder.iterdir())
    await leecher.download(artifact.digest, [seeder.peer], size=len(DATA))
    assert leecher.store.read(artifact) == DATA
    assert list(leecher.store.partials.folder.iterdir()) == []


async def test_a_liar_is_no_source(new_node):
    """Whatever it sent, it is not named among those that gave the file."""
    async with Zeros(3_100_000) as liar:
        seeder, leecher = [await new_node(encryption=False) for _ in range(2)]
        artifact = seeder.store.add_bytes(DATA)
        downloaded = await leecher.download(artifact.digest, [liar.peer, seeder.peer])
        assert [one.peer for one in downloaded.sources] == [seeder.peer]
