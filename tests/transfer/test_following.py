"""Following what a peer brings in: unverified bytes as they come, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator

import pytest

from tests.transfer.conftest import Node, until
from transfer import Digest
from transfer.errors import AbsentError, ClosedError, PeerError, PeerSlowError
from transfer.growing_file import GrowingFile
from transfer.leeching import following
from transfer.limits import FOLLOW_SILENCE_SECONDS

DATA = os.urandom(1_000_000)
NAME = Digest.of(DATA)


async def followed(
    leecher: Node, peer: Node, name: Digest = NAME, start: int = 0
) -> bytes:
    got = b""
    async with asyncio.timeout(20):
        async for data, _ in leecher.leecher.follower.follow(
            peer.peer, name.algorithm, name.raw, start=start
        ):
            got += data
    return got


class Bringing:
    """A file that a node brings in, byte for byte at the test's command."""

    def __init__(self, node: Node, data: bytes = DATA) -> None:
        self._node = node
        self._data = data
        self.name = Digest.of(data)
        self._arrival = node.arrivals.begin(self.name.algorithm, self.name.raw)
        self._descriptor = os.memfd_create("coming")
        self.file: GrowingFile | None = None

    def come(self, length: int) -> None:
        if self.file is None:
            self.file = GrowingFile(self._descriptor, len(self._data))
            self._arrival.begin(self.file)
        os.pwrite(self._descriptor, self._data[:length], 0)
        self.file.advance(length)

    def end(self) -> None:
        self._node.arrivals.end(self.name.algorithm, self.name.raw, self._arrival)
        os.close(self._descriptor)


@contextlib.asynccontextmanager
async def bringing(node: Node, data: bytes = DATA) -> AsyncIterator[Bringing]:
    one = Bringing(node, data)
    try:
        yield one
    finally:
        one.end()


@pytest.mark.parametrize("encryption", [True, False])
async def test_bytes_come_as_they_arrive_and_end_with_the_last(new_node, encryption):
    holder = await new_node(encryption=encryption)
    other = await new_node(encryption=encryption)
    async with bringing(holder) as coming:
        task = asyncio.create_task(followed(other, holder))
        await asyncio.sleep(0.05)
        assert not task.done(), "nothing has come yet, and its end is waited for"
        for length in range(100_000, 1_000_001, 100_000):
            coming.come(length)
            await asyncio.sleep(0.005)
        await asyncio.sleep(0.05)
        assert not task.done(), "all of it has come, and it is not verified yet"
        coming.file.finish()
        assert await task == DATA


async def test_a_follower_can_begin_in_the_middle(new_node):
    holder, other = await new_node(), await new_node()
    async with bringing(holder) as coming:
        coming.come(len(DATA))
        coming.file.finish()
        assert await followed(other, holder, start=700_000) == DATA[700_000:]
        assert await followed(other, holder, start=len(DATA)) == b""


async def test_what_turns_out_wrong_ends_as_an_error(new_node):
    holder, other = await new_node(), await new_node()
    async with bringing(holder) as coming:
        coming.come(500_000)
        task = asyncio.create_task(followed(other, holder))
        await asyncio.sleep(0.05)
        coming.file.fail()
        with pytest.raises(AbsentError):
            await task


async def test_a_holder_that_gives_up_before_the_first_byte_says_so(new_node):
    holder, other = await new_node(), await new_node()
    coming = Bringing(holder)
    task = asyncio.create_task(followed(other, holder))
    await asyncio.sleep(0.05)
    coming.end()
    with pytest.raises(AbsentError):
        await task


async def test_who_has_nothing_yet_is_asked_again_for_a_second(new_node):
    holder, other = await new_node(), await new_node()
    task = asyncio.create_task(followed(other, holder))
    await asyncio.sleep(0.2)
    async with bringing(holder) as coming:
        coming.come(len(DATA))
        coming.file.finish()
        assert await task == DATA
    began = time.monotonic()
    with pytest.raises(AbsentError):
        await followed(other, holder, Digest.of(b"other"))
    assert time.monotonic() - began >= FOLLOW_SILENCE_SECONDS / 2


async def test_a_holder_that_only_says_it_is_alive_is_given_up(new_node, monkeypatch):
    monkeypatch.setattr(following, "FOLLOW_STALL_SECONDS", 0.3)
    holder, other = await new_node(), await new_node()
    async with bringing(holder) as coming:
        coming.come(1000)
        with pytest.raises(PeerSlowError):
            await followed(other, holder)


async def test_a_holder_that_dies_is_noticed_at_once(new_node):
    holder, other = await new_node(), await new_node()
    async with bringing(holder) as coming:
        coming.come(1000)
        task = asyncio.create_task(followed(other, holder))
        await until(lambda: holder.seeder.stats.bytes_sent > 0)
        began = time.monotonic()
        await holder.stop_seeding()
        with pytest.raises(PeerError):
            await task
        assert time.monotonic() - began < FOLLOW_SILENCE_SECONDS


async def test_what_is_held_whole_is_followed_too(new_node):
    holder, other = await new_node(), await new_node()
    holder.store.add_bytes(DATA)
    assert await followed(other, holder) == DATA


async def test_much_is_followed_over_one_connection(new_node):
    holder, other = await new_node(), await new_node()
    held = [os.urandom(200_000) for _ in range(100)]
    for data in held:
        holder.store.add_bytes(data)
    got = await asyncio.gather(
        *(followed(other, holder, Digest.of(data)) for data in held)
    )
    assert got == held
    assert holder.seeder.stats.connections == 1


async def test_one_that_leaves_lets_the_others_go_on(new_node):
    holder, other = await new_node(), await new_node()
    async with bringing(holder) as coming:
        coming.come(300_000)
        one = other.leecher.follower.follow(holder.peer, "sha256", NAME.raw)
        async with contextlib.aclosing(one):
            await anext(one)
            task = asyncio.create_task(followed(other, holder))
            await asyncio.sleep(0.05)
        coming.come(len(DATA))
        coming.file.finish()
        assert await task == DATA


async def test_a_leecher_that_closes_ends_what_it_follows(new_node):
    holder, other = await new_node(), await new_node()
    async with bringing(holder):
        task = asyncio.create_task(followed(other, holder))
        await asyncio.sleep(0.05)
        await other.leecher.close()
        with pytest.raises((PeerError, ClosedError)):
            await task
        with pytest.raises(ClosedError):
            await followed(other, holder)


async def test_a_stranger_to_the_network_follows_nothing(new_node):
    holder = await new_node(secret=b"s" * 32)
    other = await new_node(secret=b"t" * 32)
    async with bringing(holder) as coming:
        coming.come(1000)
        with pytest.raises(PeerError):
            await followed(other, holder)
