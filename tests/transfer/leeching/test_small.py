"""Small artifacts: many with one question each, over one connection."""

from __future__ import annotations

import asyncio
import os
import socket

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.transfer import givers
from tests.transfer.conftest import TIMEOUT_SECONDS, until
from transfer import (
    ClosedError,
    Digest,
    Identity,
    LeecherLimits,
    NoPeerError,
    Peer,
    Seeder,
    Store,
    StoreError,
    WrongBytesError,
)
from transfer.content.hashing import Contents
from transfer.content.manifest import Manifest
from transfer.leeching import small_batch as batch
from transfer.store.commit import CommitGroup
from transfer.store.integrity import signature_of

FILES = [os.urandom(size) for size in (20_000, 99, 262_144, 5000) for _ in range(10)]
LIMITS = LeecherLimits(
    small_silence_seconds=0.5,
    small_answer_seconds=1.0,
    answer_seconds=2.0,
    stall_seconds=2.0,
)


def contents_of(data: bytes) -> Contents:
    return Contents({"sha256": Digest.of(data)}, Manifest.of(data))


async def fetch_all(leecher, files, peers):
    """Download all at once; the results, errors among them, in the same order."""
    calls = [leecher.download(Digest.of(one), peers, size=len(one)) for one in files]
    return await asyncio.gather(*calls, return_exceptions=True)


@pytest.mark.parametrize("secret", [None, b"s" * 32], ids=["public", "private"])
@pytest.mark.parametrize("encryption", [True, False], ids=["TLS", "plaintext"])
async def test_many_come_over_one_connection(new_node, encryption, secret):
    """All arrive, verified, in few transactions; aliases come later."""
    terms = {"encryption": encryption, "secret": secret}
    seeder, leecher = await new_node(**terms), await new_node(**terms)
    artifacts = [seeder.store.add_bytes(data) for data in FILES]
    commits = []
    insert = leecher.store.index.insert
    leecher.store.index.insert = lambda *what: (commits.append(1), insert(*what))
    done = await fetch_all(leecher, FILES, [seeder.peer])
    assert [one.artifact.digest for one in done] == [one.digest for one in artifacts]
    assert [leecher.store.read(one.artifact) for one in done] == FILES
    assert {source.peer for one in done for source in one.sources} == {seeder.peer}
    assert seeder.seeder.stats.connections == 1
    assert len(commits) < len(FILES) / 2
    received = leecher.leecher.stats.bytes_received
    assert received == seeder.seeder.stats.bytes_sent == sum(map(len, FILES))
    await until(lambda: not leecher.store.lacking_aliases())


async def test_by_any_digest_and_from_peers_that_come_late(new_node):
    """An alias is verified as such; an iterator of peers is asked as it goes."""
    seeder, leecher = await new_node(), await new_node()
    artifact = seeder.store.add_bytes(FILES[0])

    async def peers():
        yield seeder.peer

    done = await leecher.download(artifact.aliases["sha512"], peers(), size=20_000)
    assert done.artifact.digest == artifact.digest
    assert leecher.store.find(artifact.aliases["sha512"]) == done.artifact


@pytest.mark.parametrize("kind", givers.GIVERS, ids=lambda kind: kind.__name__)
async def test_a_bad_giver_beside_a_good_one(new_node, kind):
    """Everything arrives, nothing of it is wrong."""
    files = FILES[:20]
    honest = await new_node(encryption=False)
    leecher = await new_node(encryption=False, leecher_limits=LIMITS)
    for data in files:
        honest.store.add_bytes(data)
    async with kind(files) as bad:
        done = await fetch_all(leecher, files, [bad.peer, honest.peer])
    assert [leecher.store.read(one.artifact) for one in done] == files
    assert len(leecher.store.artifacts()) == len(files)


async def test_wrong_bytes_ban_their_sender_for_that_one(new_node):
    """The others come from it all the same, and it is named."""
    files = FILES[:20]
    leecher = await new_node(encryption=False, leecher_limits=LIMITS)
    async with givers.GivesWrongBytes(files) as bad:
        done = await fetch_all(leecher, files, [bad.peer])
        await until(lambda: bad.complaints == [0])
        assert str(bad.peer) in leecher.leecher.stats.bad_peers
    assert isinstance(done[10], WrongBytesError)
    rest = [one for place, one in enumerate(done) if place != 10]
    assert [leecher.store.read(one.artifact) for one in rest] == [
        data for place, data in enumerate(files) if place != 10
    ]


@pytest.mark.parametrize(
    "kind",
    [givers.GivesTooMuch, givers.AnnouncesAGiant, givers.AnswersInOtherOrder],
    ids=lambda kind: kind.__name__,
)
async def test_who_breaks_the_rules_is_named(new_node, kind):
    """And nothing that came behind is believed."""
    leecher = await new_node(encryption=False, leecher_limits=LIMITS)
    async with kind(FILES[:4]) as bad:
        done = await fetch_all(leecher, FILES[:4], [bad.peer])
        assert str(bad.peer) in leecher.leecher.stats.bad_peers
    assert all(isinstance(one, NoPeerError | WrongBytesError) for one in done)
    assert leecher.store.artifacts() == []


async def test_a_late_have_of_an_ended_download_is_harmless(new_node):
    """It may lie behind the last answer, in one buffer with it."""
    leecher = await new_node(encryption=False, leecher_limits=LIMITS)
    async with givers.SaysHaveBehind(FILES[:1]) as giver:
        connections = leecher.leecher._context.connections
        connection = await connections.open(giver.peer)
        next(connection.numbers)
        connections.release(connection)
        (done,) = await fetch_all(leecher, FILES[:1], [giver.peer])
        assert done.artifact.size == len(FILES[0])
        assert len(giver.asks) == giver.connections == 1
        assert leecher.leecher.stats.bad_peers == {}


async def test_a_fault_of_our_own_ends_as_one_of_the_peer(new_node, monkeypatch):
    """Whatever goes wrong in the thread, the others are asked."""
    seeder, leecher = await new_node(), await new_node()
    artifact = seeder.store.add_bytes(FILES[0])

    def fail(*_):
        raise IndexError

    monkeypatch.setattr(batch.SmallBatch, "_read_answers", fail)
    done = await leecher.download(artifact.digest, [seeder.peer], size=len(FILES[0]))
    assert done.artifact.digest == artifact.digest


async def test_two_callers_share_one_question(new_node):
    """One ask, one file, the same answer for both."""
    leecher = await new_node(encryption=False)
    async with givers.Giver(FILES[:1]) as giver:
        done = await fetch_all(leecher, [FILES[0], FILES[0]], [giver.peer])
        assert [one.artifact.digest for one in done] == [Digest.of(FILES[0])] * 2
        assert len(giver.asks) == 1
    assert leecher.leecher.stats.bytes_received == len(FILES[0])


async def test_a_caller_who_leaves_takes_nothing_from_the_other(new_node):
    """The one that stays is served; one that left alone holds nobody up."""
    leecher = await new_node(encryption=False)
    seeder = await new_node(encryption=False)
    for data in FILES[:2]:
        seeder.store.add_bytes(data)
    calls = [
        asyncio.create_task(
            leecher.download(Digest.of(data), [seeder.peer], size=len(data))
        )
        for data in (FILES[0], FILES[0], FILES[1])
    ]
    await asyncio.sleep(0)
    calls[0].cancel()
    calls[2].cancel()
    assert (await calls[1]).artifact.size == len(FILES[0])
    await until(lambda: not leecher.leecher.stats.downloads)


async def test_what_may_not_be_served_is_absent_among_the_rest(new_node, tmp_path):
    """A refusal concerns the one artifact and not its batch."""
    leecher = await new_node(encryption=False)
    store = Store(tmp_path / "choosy")
    identity = Identity(Ed25519PrivateKey.generate())
    artifacts = [store.add_bytes(data) for data in FILES[:10]]
    private = {artifacts[3].digest, artifacts[7].digest}
    seeder = Seeder(
        store,
        identity,
        encryption=False,
        may_serve=lambda digest, whole: whole and digest not in private,
    )
    listener = socket.create_server(("127.0.0.1", 0))
    await seeder.start([listener])
    peer = Peer(*listener.getsockname()[:2], identity.public_key)
    done = await fetch_all(leecher, FILES[:10], [peer])
    refused = [place for place, one in enumerate(done) if isinstance(one, NoPeerError)]
    assert refused == [3, 7]
    assert len(leecher.store.artifacts()) == 8
    await seeder.close()
    store.close()


async def test_sizes_that_are_not_as_said(new_node):
    """More than is wanted is not taken; of unknown size all comes, warm or cold."""
    seeder, leecher = await new_node(), await new_node()
    large = seeder.store.add_bytes(os.urandom(600_000))
    small = seeder.store.add_bytes(FILES[0])
    with pytest.raises((WrongBytesError, NoPeerError)):
        await leecher.download(small.digest, [seeder.peer], size=9000, size_max=9000)
    with pytest.raises((WrongBytesError, NoPeerError)):
        await leecher.download(large.digest, [seeder.peer], size=1000)
    assert leecher.store.artifacts() == []
    for artifact in (small, large):
        done = await leecher.download(artifact.digest, [seeder.peer])
        assert done.artifact.digest == artifact.digest


async def test_damage_is_found_before_the_first_sending(new_node):
    """A file that changed is set aside, and is absent."""
    seeder, leecher = await new_node(), await new_node()
    artifact = seeder.store.add_bytes(FILES[0])
    path = seeder.store.path(artifact)
    path.write_bytes(bytes([FILES[0][0] ^ 1]) + FILES[0][1:])
    with pytest.raises(NoPeerError):
        await leecher.download(artifact.digest, [seeder.peer], size=len(FILES[0]))
    assert seeder.store.artifacts() == []
    seeder.store.add_bytes(FILES[0])
    path.unlink()
    with pytest.raises(NoPeerError):
        await leecher.download(artifact.digest, [seeder.peer], size=len(FILES[0]))
    assert seeder.store.artifacts() == []


async def test_a_complaint_makes_the_seeder_look_again(new_node):
    """Damage by the medium, which changes no time, is found by the leecher."""
    seeder, leecher = await new_node(), await new_node()
    artifact = seeder.store.add_bytes(FILES[0])
    with seeder.store.path(artifact).open("r+b") as file:
        file.write(bytes([FILES[0][0] ^ 1]))
        file.flush()
        signature = signature_of(file.fileno())
    seeder.store.committer.trust(artifact.digest, signature)
    with pytest.raises(WrongBytesError):
        await leecher.download(artifact.digest, [seeder.peer], size=len(FILES[0]))
    await until(lambda: not seeder.store.artifacts())


async def test_closing_ends_who_waits(new_node):
    """With ClosedError, and soon."""
    leecher = await new_node(encryption=False)
    async with givers.IgnoresAsks(FILES[:1]) as silent:
        call = asyncio.create_task(fetch_all(leecher, FILES[:1], [silent.peer]))
        await until(lambda: bool(silent.asks))
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await leecher.leecher.close()
            (error,) = await call
    assert isinstance(error, ClosedError)


async def test_closing_ends_who_waits_for_peers(new_node):
    """Also where nobody was found yet."""
    leecher = await new_node()
    waiting = asyncio.Event()

    async def peers():
        waiting.set()
        await asyncio.Event().wait()
        yield Peer("127.0.0.1", 1)

    call = asyncio.create_task(leecher.download(Digest.of(FILES[0]), peers()))
    await waiting.wait()
    await leecher.leecher.close()
    with pytest.raises(ClosedError):
        await call


@pytest.mark.parametrize("renamed", [False, True], ids=["written", "renamed"])
def test_a_crash_before_the_commit_leaves_no_half(tmp_path, monkeypatch, renamed):
    """Written files are gone, renamed ones verified and listed, at the next start."""
    store = Store(tmp_path)
    group = CommitGroup(store.committer)
    for data in FILES[:10]:
        group.add(data, contents_of(data))
    assert store.artifacts() == []
    if renamed:

        def die(*_):
            raise KeyboardInterrupt

        monkeypatch.setattr(store.index, "insert", die)
        with pytest.raises(KeyboardInterrupt):
            group.commit()
    else:
        for one in group._staged:
            os.close(one.descriptor)
    store.close()
    again = Store(tmp_path)
    listed = {again.read(artifact) for artifact in again.artifacts()}
    assert listed == (set(FILES[:10]) if renamed else set())
    assert list((tmp_path / "partial").iterdir()) == []
    again.close()


def test_a_group_is_listed_whole_or_not_at_all(tmp_path, monkeypatch):
    """Where the transaction fails, no file of the group stays."""
    store = Store(tmp_path)

    def refuse(*_):
        raise StoreError

    monkeypatch.setattr(store.index, "insert", refuse)
    group = CommitGroup(store.committer)
    for data in [*FILES[:10], b""]:
        group.add(data, contents_of(data))
    with pytest.raises(StoreError):
        group.commit()
    assert store.artifacts() == []
    assert not [path for path in (tmp_path / "store").rglob("*") if path.is_file()]
    assert list((tmp_path / "partial").iterdir()) == []
    store.close()
