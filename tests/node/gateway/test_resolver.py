"""The resolver: store, peers and origin, raced; nothing unverified, nothing twice."""

from __future__ import annotations

import asyncio
import random
import threading
from dataclasses import replace
from typing import Any

import pytest

from node.gateway import limits
from node.gateway.resolver import MissError, StreamedFile
from tests.node.gateway.rig import rig_in
from transfer import Artifact, Digest, WrongBytesError

DATA = b"what a wheel holds" * 100
LARGE = random.Random(1).randbytes(limits.STREAM_BYTES_MIN + 12_345)


async def test_what_peers_have_is_not_asked_of_the_origin(tmp_path):
    async with rig_in(tmp_path) as rig:
        digest, named = rig.name(DATA)
        rig.peers.offered[digest] = DATA
        artifact = await rig.gateway.resolver.resolve(digest, named)
        assert artifact.digest == digest
        assert rig.origin.asked == []


@pytest.mark.parametrize("size", [0, 5, 10**9])
async def test_the_digest_decides_over_the_size_that_a_page_says(
    tmp_path, monkeypatch, size
):
    """Peers have the right file, and the origin is gone."""
    async with rig_in(tmp_path) as rig:
        digest, named = rig.name(DATA)
        rig.peers.offered[digest] = DATA
        rig.origin.dead = True
        bring, sizes = rig.peers.download, []

        async def download(digest, peers, *, size=None, **more):
            sizes.append(size)
            if size not in (None, len(DATA)):
                raise WrongBytesError
            return await bring(digest, peers, **more)

        monkeypatch.setattr(rig.peers, "download", download)
        lying = [replace(one, size=size) for one in named]
        artifact = await rig.gateway.resolver.resolve(digest, lying)
        assert artifact.size == len(DATA)
        assert sizes == ([size, None] if size else [None])


async def test_what_no_peer_has_comes_from_the_origin_and_is_offered(tmp_path):
    async with rig_in(tmp_path) as rig:
        digest, named = rig.name(DATA)
        artifact = await rig.gateway.resolver.resolve(digest, named)
        assert rig.store.read(artifact) == DATA
        assert str(digest) in rig.catalogue.directs()
        assert rig.catalogue.direct_file(str(digest)) == "toy.whl"


async def test_the_origin_wins_over_peers_that_hang(tmp_path):
    async with rig_in(tmp_path) as rig:
        digest, named = rig.name(DATA)
        rig.peers.hang = True
        artifact = await rig.gateway.resolver.resolve(digest, named)
        assert artifact.digest == digest


async def test_after_a_miss_the_origin_has_no_handicap(tmp_path, monkeypatch):
    """The next file of the same index does not wait for the peers' head start."""
    async with rig_in(tmp_path) as rig:
        digest, named = rig.name(DATA)
        await rig.gateway.resolver.resolve(digest, named)
        monkeypatch.setattr(limits, "HEAD_START_SECONDS", 1000.0)
        rig.peers.hang = True
        digest, named = rig.name(DATA + b"2", "https://files.test/2")
        await rig.gateway.resolver.resolve(digest, named)


async def test_concurrent_requests_share_one_download(tmp_path):
    async with rig_in(tmp_path) as rig:
        digest, named = rig.name(DATA)
        resolve = rig.gateway.resolver.resolve
        found = await asyncio.gather(*(resolve(digest, named) for _ in range(20)))
        assert {one.digest for one in found} == {digest}
        assert len(rig.origin.asked) == 1


async def test_wrong_bytes_of_an_origin_are_not_kept(tmp_path):
    async with rig_in(tmp_path) as rig:
        digest, named = rig.name(DATA)
        rig.origin.files[named[0].url] = DATA[:-1] + b"!"
        with pytest.raises(MissError):
            await rig.gateway.resolver.resolve(digest, named)
        assert rig.store.artifacts() == []
        assert list((tmp_path / "partial").iterdir()) == []


async def test_a_file_of_another_length_is_another_file(tmp_path):
    async with rig_in(tmp_path) as rig:
        digest, named = rig.name(DATA)
        rig.origin.files[named[0].url] = DATA + DATA
        with pytest.raises(MissError):
            await rig.gateway.resolver.resolve(digest, named)


async def test_a_miss_is_remembered_briefly(tmp_path, monkeypatch):
    async with rig_in(tmp_path) as rig:
        digest = Digest.of(DATA)
        for _ in range(3):
            with pytest.raises(MissError):
                await rig.gateway.resolver.resolve(digest)
        assert len(rig.peers.asked) == 1
        rig.gateway.resolver._missed.seconds = 0.0
        with pytest.raises(MissError):
            await rig.gateway.resolver.resolve(digest)
        assert len(rig.peers.asked) == 2


async def test_a_miss_ends_even_where_nobody_answers(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "MISS_SECONDS_MAX", 0.2)
    async with rig_in(tmp_path) as rig:
        rig.peers.hang = True
        with pytest.raises(MissError):
            await rig.gateway.resolver.resolve(Digest.of(DATA))


async def test_weak_digests_are_not_asked_of_strangers(tmp_path):
    async with rig_in(tmp_path) as rig:
        for algorithm in ("md5", "sha1"):
            digest = Digest.of(DATA, algorithm)
            rig.peers.offered[digest] = DATA
            with pytest.raises(MissError):
                await rig.gateway.resolver.resolve(digest)
        assert rig.peers.asked == []


async def test_a_weak_digest_beside_a_strong_one_is_checked_too(tmp_path):
    """A page that names the MD5 of another file does not get away with it."""
    async with rig_in(tmp_path) as rig:
        _, named = rig.name(DATA)
        right, wrong = Digest.of(DATA, "md5"), Digest.of(b"other", "md5")
        with pytest.raises(MissError):
            await rig.gateway.resolver.resolve(wrong, named)
        artifact = await rig.gateway.resolver.resolve(right, named)
        assert artifact.digest == Digest.of(DATA)


async def test_nothing_of_a_private_upstream_reaches_peers(tmp_path):
    """Not looked up, silenced before it is held, not offered."""
    async with rig_in(tmp_path, share=False) as rig:
        digest, named = rig.name(DATA)
        rig.peers.offered[digest] = DATA
        await rig.gateway.resolver.resolve(digest, named)
        assert rig.peers.asked == []
        assert rig.peers.silenced == [str(digest)]
        assert rig.catalogue.privates() == {str(digest)}
        assert str(digest) not in rig.catalogue.directs()


async def test_what_was_shared_here_stays_public(tmp_path):
    """Also where a private upstream names it later."""
    async with rig_in(tmp_path, share=False) as rig:
        digest, named = rig.name(DATA)
        rig.store.add_bytes(DATA)
        rig.catalogue.add_direct(str(digest), "mine.whl")
        await rig.gateway.resolver.resolve(digest, named)
        assert rig.catalogue.privates() == set()


async def test_a_large_file_is_passed_on_while_it_comes(tmp_path):
    async with rig_in(tmp_path) as rig:
        digest, named = rig.name(LARGE)
        rig.origin.pause = asyncio.Event()
        found = await rig.gateway.resolver.open(digest, named)
        assert isinstance(found, StreamedFile)
        assert found.coming.read(0, 1000) == LARGE[:1000]
        assert not found.coming.ended
        rig.origin.pause.set()
        assert (await found.whole()).digest == digest
        found.close()


async def test_a_large_file_that_turns_out_wrong_has_no_end(tmp_path):
    async with rig_in(tmp_path) as rig:
        digest, named = rig.name(LARGE)
        rig.origin.files[named[0].url] = LARGE[:-1] + b"!"
        rig.origin.pause = asyncio.Event()
        found = await rig.gateway.resolver.open(digest, named)
        assert isinstance(found, StreamedFile)
        rig.origin.pause.set()
        with pytest.raises(MissError):
            await found.whole()
        found.close()


async def test_in_strict_mode_nothing_leaves_before_the_whole(tmp_path):
    async with rig_in(tmp_path, stream=False) as rig:
        digest, named = rig.name(LARGE)
        found = await rig.gateway.resolver.open(digest, named)
        assert isinstance(found, Artifact)


async def test_a_url_that_leads_into_the_lan_is_not_fetched(tmp_path):
    async with rig_in(tmp_path) as rig:
        digest, named = rig.name(DATA, "http://192.168.1.1/toy.whl")
        with pytest.raises(MissError, match="private network"):
            await rig.gateway.resolver.resolve(digest, named)


async def test_files_of_an_upstream_that_is_no_longer_configured_are_forgotten(
    tmp_path,
):
    """Its URLs are named by no page of a configured upstream any more."""
    async with rig_in(tmp_path) as rig:
        digest, _ = rig.name(DATA)
        assert await rig.gateway.named(digest)
        await rig.gateway.pages.forget_moved_upstream("pypi", "https://another.test/")
        assert await rig.gateway.named(digest) == []


async def test_what_is_verified_leaves_before_it_is_kept(tmp_path):
    """Disks are slow, and clients wait; what they get has its digest all the same."""
    async with rig_in(tmp_path) as rig:
        digest, named = rig.name(b"small" * 100)
        commit, may_commit = rig.store.commit, threading.Event()

        def slow(*arguments: Any) -> Artifact:
            assert may_commit.wait(10)
            return commit(*arguments)

        rig.store.commit = slow
        async with asyncio.timeout(5):
            found = await rig.gateway.resolver.open(digest, named)
            assert isinstance(found, StreamedFile)
            assert (found.is_verified, found.source) == (True, "origin")
            assert found.read(1000) == b"small" * 100
            with pytest.raises(MissError):
                found.read(499)
            found.close()
            assert await rig.gateway.resolver.read(digest, named) == b"small" * 100
        assert rig.store.find(digest) is None
        may_commit.set()
        artifact = await rig.gateway.resolver.resolve(digest, named)
        assert artifact.size == 500


async def test_nothing_leaves_early_that_is_not_what_was_named(tmp_path):
    async with rig_in(tmp_path) as rig:
        digest, named = rig.name(b"right")
        rig.origin.files[named[0].url] = b"wrong"
        with pytest.raises(MissError):
            await rig.gateway.resolver.open(digest, named)
        with pytest.raises(MissError):
            await rig.gateway.resolver.read(digest, named)
