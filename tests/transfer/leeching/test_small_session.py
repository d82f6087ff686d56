"""Many small artifacts of the same peers: each is asked for all that is left."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from dataclasses import replace

import pytest

from tests.transfer import givers
from tests.transfer.conftest import TIMEOUT_SECONDS, until
from transfer import ClosedError, Digest, LeecherLimits, Peer, StoreError, Wanted
from transfer.leeching import small_session
from transfer.store.commit import CommitGroup

FILES = [os.urandom(size) for size in (20_000, 99, 5000) for _ in range(60)]
WANTED = [Wanted(Digest.of(data)) for data in FILES]
LIMITS = LeecherLimits(
    small_silence_seconds=0.5,
    small_answer_seconds=1.0,
    answer_seconds=2.0,
    opening_soft_seconds=0.5,
)


async def found(*peers, ends=True):
    for peer in peers:
        yield peer
    if not ends:
        await asyncio.Event().wait()


async def together(leecher, wanted, peers):
    """Download together; return what came, by digest."""
    came = {}
    async with asyncio.timeout(TIMEOUT_SECONDS):
        await leecher.leecher.download_together(wanted, peers, came.__setitem__)
    for digest, one in came.items():
        assert leecher.store.find(digest) == one.artifact
        assert digest in one.artifact.digests
    return came


async def test_all_come_of_one_peer_over_one_connection(new_node):
    """In few transactions, while the search for others goes on."""
    seeder, leecher = await new_node(), await new_node()
    for data in FILES:
        seeder.store.add_bytes(data)
    commits = []
    insert = leecher.store.index.insert
    leecher.store.index.insert = lambda *what: (commits.append(1), insert(*what))
    came = await together(leecher, WANTED, found(seeder.peer, ends=False))
    assert set(came) == {one.digest for one in WANTED}
    assert {one.sources[0].peer for one in came.values()} == {seeder.peer}
    assert seeder.seeder.stats.connections == 1
    assert len(commits) < len(FILES) / 8
    assert leecher.leecher.stats.bytes_received == sum(map(len, FILES))
    await until(lambda: not leecher.store.lacking_aliases())


async def test_what_one_peer_lacks_is_asked_of_the_others(new_node):
    """Two that hold a half each give all of it together."""
    left, right, leecher = [await new_node() for _ in range(3)]
    for place, data in enumerate(FILES):
        (left if place % 2 else right).store.add_bytes(data)
    came = await together(leecher, WANTED, found(left.peer, right.peer))
    assert set(came) == {one.digest for one in WANTED}
    givers_of = {one.sources[0].peer for one in came.values()}
    assert givers_of == {left.peer, right.peer}


async def test_what_nobody_has_or_is_large_is_left(new_node):
    """It is asked for once, and not waited for."""
    seeder, leecher = await new_node(), await new_node()
    large = os.urandom(300_000)
    for data in [*FILES[:10], large]:
        seeder.store.add_bytes(data)
    wanted = [*WANTED[:20], Wanted(Digest.of(large))]
    came = await together(leecher, wanted, found(seeder.peer))
    assert set(came) == {one.digest for one in WANTED[:10]}
    done = await leecher.leecher.download(Digest.of(large), [seeder.peer])
    assert leecher.store.read(done.artifact) == large


async def test_without_peers_nothing_comes(new_node):
    """Nobody found is no error here: each file has a download of its own to fail."""
    leecher = await new_node()
    assert await together(leecher, WANTED, found()) == {}


async def test_a_silent_peer_holds_up_nothing(new_node):
    """What it was asked for is asked of the next."""
    silent = socket.create_server(("127.0.0.1", 0))
    host, port = silent.getsockname()
    seeder = await new_node(encryption=False)
    leecher = await new_node(encryption=False, leecher_limits=LIMITS)
    for data in FILES:
        seeder.store.add_bytes(data)
    nobody = Peer(host, port, b"n" * 32)
    came = await together(leecher, WANTED, found(nobody, seeder.peer))
    assert set(came) == {one.digest for one in WANTED}
    silent.close()


async def test_who_takes_its_time_to_give_nothing_is_left(new_node):
    """Of two, each file is had from the honest one, though the other answers first."""
    files = FILES[:64]
    honest = await new_node(encryption=False)
    limits = replace(LIMITS, pace_window_seconds=0.5)
    leecher = await new_node(encryption=False, leecher_limits=limits)
    for data in files:
        honest.store.add_bytes(data)
    async with givers.TricklesAbsence(files) as bad:
        began = time.monotonic()
        came = await together(leecher, WANTED[:64], found(bad.peer, honest.peer))
    assert time.monotonic() - began < 5
    assert set(came) == {one.digest for one in WANTED[:64]}


@pytest.mark.parametrize("kind", givers.GIVERS, ids=lambda kind: kind.__name__)
async def test_a_bad_giver_beside_a_good_one(new_node, kind):
    """Everything arrives, nothing of it is wrong."""
    files = FILES[:20]
    honest = await new_node(encryption=False)
    leecher = await new_node(encryption=False, leecher_limits=LIMITS)
    for data in files:
        honest.store.add_bytes(data)
    async with kind(files) as bad:
        came = await together(leecher, WANTED[:20], found(bad.peer, honest.peer))
    assert len(leecher.store.artifacts()) == len(came)
    rest = [one for one in WANTED[:20] if one.digest not in came]
    for one in rest:
        await leecher.leecher.download(one, [honest.peer])
    assert all(leecher.store.find(one.digest) for one in WANTED[:20])


async def test_wrong_bytes_name_their_sender(new_node):
    """And the artifact is not kept."""
    leecher = await new_node(encryption=False, leecher_limits=LIMITS)
    async with givers.GivesWrongBytes(FILES[:20]) as bad:
        came = await together(leecher, WANTED[:20], found(bad.peer))
        assert str(bad.peer) in leecher.leecher.stats.bad_peers
    assert WANTED[10].digest not in came
    assert leecher.store.find(WANTED[10].digest) is None


async def test_a_full_disk_ends_it(new_node, monkeypatch):
    """What came before stays."""

    def full(*_):
        raise StoreError("The disk is full.")

    seeder, leecher = await new_node(), await new_node()
    for data in FILES[:20]:
        seeder.store.add_bytes(data)
    monkeypatch.setattr(CommitGroup, "add", full)
    with pytest.raises(StoreError):
        await together(leecher, WANTED[:20], found(seeder.peer))


async def test_closing_ends_it_also_while_nobody_is_found(new_node):
    """The caller learns that the leecher is closed, and no task is left."""
    leecher = await new_node()
    call = asyncio.create_task(together(leecher, WANTED, found(ends=False)))
    await asyncio.sleep(0.05)
    await leecher.leecher.close()
    with pytest.raises(ClosedError):
        await call


async def test_not_more_peers_are_asked_than_a_few(new_node, monkeypatch):
    """Many names for one address cost no more dials than that."""
    monkeypatch.setattr(small_session, "_PEERS_MAX", 2)
    seeders = [await new_node() for _ in range(4)]
    leecher = await new_node()
    await together(leecher, WANTED, found(*(one.peer for one in seeders)))
    assert [one.seeder.stats.connections for one in seeders] == [1, 1, 0, 0]
