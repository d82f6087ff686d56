"""A command waits for its SHA-256 to be announced, and for no more than that."""

from __future__ import annotations

import asyncio
import os
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dht import Network, provider_key
from node.content.announced import AnnouncedKeys
from node.content.router import PATIENCE_SECONDS
from tests.node.content.test_serving_rules import End, Silence
from transfer import Artifact, Digest, StoreError


class Listening(Silence):
    """Remembers what is offered; may take its time for it."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.keys: set[bytes] = set()
        self.waiting: set[bytes] = set()
        self.seconds = seconds

    def withdraw(self, keys):
        prefixes = {one[:8] for one in keys}
        self.keys = {one for one in self.keys if one[:8] not in prefixes}

    def put_offers(self, keys):
        self.waiting |= set(keys)

    async def announce_offers(self, port, keys=None):
        sent = set(self.waiting) if keys is None else self.waiting & set(keys)
        self.waiting -= sent
        await asyncio.sleep(self.seconds)
        self.keys |= sent


def key(digest: Digest) -> bytes:
    return provider_key(Network(), digest.algorithm, digest.raw)


@pytest.fixture
async def node(tmp_path):
    async with End(tmp_path / "node", dht=Listening()) as end:
        yield end


def add(node, path, size: int) -> Artifact:
    """Add a file whose aliases are pending, as `share` does."""
    path.write_bytes(os.urandom(size))
    artifact = node.store.add(path, algorithms=["sha256"])
    node.believer.catalogue.add_direct(str(artifact.digest), "")
    return artifact


async def test_aliases_follow_and_are_announced(node, tmp_path, monkeypatch):
    """The command ends while they are still being computed."""
    artifact = add(node, tmp_path / "file", 500_000)
    compute, go = node.store.with_aliases, asyncio.Event()
    loop = asyncio.get_running_loop()

    def slowly(*args):
        asyncio.run_coroutine_threadsafe(go.wait(), loop).result()
        return compute(*args)

    monkeypatch.setattr(node.store, "with_aliases", slowly)
    await node.router.sync()
    assert node.router._dht.keys == {key(artifact.digest)}
    second = add(node, tmp_path / "second", 1000)
    await node.router.sync()
    assert key(second.digest) in node.router._dht.keys
    go.set()
    digests = [Digest.of_file(tmp_path / "file", name) for name in ("sha512", "sha256")]
    async with asyncio.timeout(10):
        while not {key(one) for one in digests} <= node.router._dht.keys:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_a_slow_network_holds_no_command(node, tmp_path):
    node.router._dht.seconds = 2.0
    artifact = add(node, tmp_path / "file", 1000)
    began = time.monotonic()
    await node.router.sync()
    assert PATIENCE_SECONDS <= time.monotonic() - began < 1.5
    await asyncio.sleep(2.0)
    assert key(artifact.digest) in node.router._dht.keys


async def test_what_comes_during_a_sweep_is_waited_for(node, tmp_path):
    """Each call ends when its own artifact is announced."""
    node.router._dht.seconds = 0.1
    first = add(node, tmp_path / "first", 1000)
    call = asyncio.create_task(node.router.sync())
    await asyncio.sleep(0.05)
    second = add(node, tmp_path / "second", 1000)
    await node.router.sync()
    await call
    assert {key(one.digest) for one in (first, second)} <= node.router._dht.keys


async def test_a_long_announcement_holds_no_later_one(node, tmp_path):
    """What is held is announced for minutes after a start; a new file is not."""
    node.router._dht.seconds = 5.0
    add(node, tmp_path / "first", 1000)
    call = asyncio.create_task(node.router.sync())
    await asyncio.sleep(0.05)
    node.router._dht.seconds = 0.0
    second = add(node, tmp_path / "second", 1000)
    began = time.monotonic()
    await node.router.sync()
    assert time.monotonic() - began < PATIENCE_SECONDS / 2
    assert key(second.digest) in node.router._dht.keys
    await call


async def test_a_sync_reads_what_changed_and_nothing_else(node, monkeypatch):
    for number in range(20):
        await node.share(b"%d" % number)  # with all aliases
    read, find_many = [], node.store.find_many

    def counted(algorithm, raws):
        read.extend(raws)
        return find_many(algorithm, raws)

    monkeypatch.setattr(node.store, "find_many", counted)
    one = await node.share(b"one more")
    assert key(one) in node.router._dht.keys
    node.believer.catalogue.forget([str(one)])
    await node.router.sync()
    assert key(one) not in node.router._dht.keys
    assert set(read) == {one.raw}


@pytest.mark.parametrize("is_later", [False, True])
async def test_a_failed_look_is_taken_up_by_the_next(
    node, tmp_path, monkeypatch, is_later
):
    artifact = add(node, tmp_path / "file", 1000)

    def fail(*_args):
        raise StoreError("The catalogue failed.")

    if is_later:
        await node.router.sync()
        artifact = add(node, tmp_path / "second", 1000)
        node.router._dht.keys.clear()
    with monkeypatch.context() as patched:
        patched.setattr(node.store, "find_many", fail)
        patched.setattr(node.store, "page", fail)
        await node.router.sync()
    assert not node.router._dht.keys
    await node.router.sync()
    assert key(artifact.digest) in node.router._dht.keys


async def test_all_that_is_held_is_announced_at_a_start(node, monkeypatch):
    """In pages, and with the keys of all aliases."""
    monkeypatch.setattr("node.content.router.READ_AT_ONCE", 4)
    digests = [node.store.add_bytes(b"%d" % number).digest for number in range(9)]
    node.believer.catalogue.add_directs(map(str, digests))
    node.believer.catalogue.make_private(str(digests[3]), "")
    await node.router.sync()
    offered = [one for one in digests if one != digests[3]]
    assert len(node.router._dht.keys) == 3 * len(offered)
    assert all(key(one) in node.router._dht.keys for one in offered)
    for one in offered[1:]:
        node.store.remove(one)
    node.believer.catalogue.forget([str(one) for one in offered[1:]])
    await node.router.sync()
    left = node.store.find(digests[0])
    assert left is not None
    names = [left.digest, left.aliases["sha512"], left.aliases["blake2b-256"]]
    assert node.router._dht.keys == {key(one) for one in names}


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 40), st.binary(max_size=8))))
def test_announced_keys_are_a_dictionary(
    steps: list[tuple[bool, int, bytes]],
) -> None:
    """Of many artifacts in one bucket."""
    keys, model = AnnouncedKeys(2), dict[bytes, tuple[bytes, bytes]]()
    for is_put, number, prefix in steps:
        name = bytes([7, 0x50 + number % 16, number]) + bytes(29)
        if is_put:
            one = prefix.ljust(8, b"\1") if prefix else b""
            keys.put(name, [one, b"12345678"])
            model[name] = (one if any(one) else b"", b"12345678")
        else:
            keys.drop(name)
            model.pop(name, None)
    assert len(keys) == len(model)
    for number in range(41):
        name = bytes([7, 0x50 + number % 16, number]) + bytes(29)
        assert keys.prefixes(name) == model.get(name)
        assert (name in keys) == (name in model)


async def test_many_new_keys_wait_until_no_more_come(node, monkeypatch):
    """Few are announced at once, beside them."""
    monkeypatch.setattr("node.content.announcements.FEW_KEYS", 8)
    monkeypatch.setattr("node.content.announcements.REST", 1e9)
    monkeypatch.setattr("node.content.announcements.QUIET_SECONDS", 0.6)
    sent = node.router._dht.keys
    digests = [node.store.add_bytes(b"%d" % number).digest for number in range(12)]
    catalogue = node.believer.catalogue
    catalogue.add_directs(map(str, digests[:5]))
    await node.router.sync()  # many: the first sweep, which begins at once
    assert len(sent) == 15
    catalogue.add_directs(map(str, digests[5:10]))
    began = time.monotonic()
    await node.router.sync()
    few = await node.share(b"one more")
    assert key(few) in sent
    assert len(sent) == 18
    while len(sent) < 33:  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    assert time.monotonic() - began > 0.6
