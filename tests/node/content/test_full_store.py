"""A store at its bound: room is made where it is needed, and nothing stands still."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from contextlib import asynccontextmanager

import pytest

from node.commands import ListCommand, PublishCommand, ShareCommand, StatusCommand
from node.errors import NodeError
from node.model.keys import PublisherKeys
from node.service import Node
from node.settings import Settings

MB = 1_000_000


@asynccontextmanager
async def full_node(home, *, store_bytes=20 * MB):
    """Run a node whose store is bounded."""
    settings = Settings(
        home, listen=("127.0.0.1:0",), web="127.0.0.1:0", store_bytes=store_bytes
    )
    node = await Node.start(settings)
    try:
        yield node
    finally:
        await node.stop()


def new_file(folder, name, size=2 * MB):
    path = folder / name
    path.write_bytes(os.urandom(size))
    return str(path)


async def share(node, file):
    return (await node.run(ShareCommand(files=[file]))).artifacts[0].digest


async def longest_pause(over: asyncio.Event) -> float:
    """Return how long the event loop did not get round to a timer of 10 ms."""
    longest = 0.0
    while not over.is_set():
        began = time.monotonic()
        await asyncio.sleep(0.01)
        longest = max(longest, time.monotonic() - began)
    return longest


async def test_many_files_at_once_at_the_bound(tmp_path):
    """Three times as many as there are threads, while a backup holds the database."""
    async with full_node(tmp_path / "home") as node, asyncio.timeout(60):
        for number in range(9):
            await share(node, new_file(tmp_path, f"old{number}"))
        files = [new_file(tmp_path, f"new{number}") for number in range(9)]
        over = asyncio.Event()
        watch = asyncio.create_task(longest_pause(over))
        backup = sqlite3.connect(
            tmp_path / "home" / "catalogue.sqlite", isolation_level=None
        )
        backup.execute("BEGIN IMMEDIATE")
        shares = [asyncio.create_task(share(node, file)) for file in files]
        await asyncio.sleep(0.5)
        status = await node.run(StatusCommand())
        assert status.artifacts == 9
        backup.execute("COMMIT")
        backup.close()
        digests = await asyncio.gather(*shares)
        over.set()
        assert await watch < 2.0
        listed = await node.run(ListCommand())
        held = {one.digest for one in listed.artifacts}
        assert set(digests) <= held
        assert listed.bytes_held <= 20 * MB
        assert node.layers.storage.store.bytes_held == listed.bytes_held


async def test_what_has_no_room_is_refused_with_the_true_reason(tmp_path):
    """What was published here stays, and nothing goes in vain."""
    async with full_node(tmp_path / "home", store_bytes=5 * MB) as node:
        await asyncio.to_thread(PublisherKeys(tmp_path / "home").new)
        own = new_file(tmp_path, "own", 3 * MB)
        await node.run(PublishCommand(files=[own], name="mine", version="1"))
        kept = await share(node, new_file(tmp_path, "kept", MB))
        with pytest.raises(NodeError, match="raise store_bytes"):
            await share(node, new_file(tmp_path, "large", 3 * MB))
        held = {one.digest for one in (await node.run(ListCommand())).artifacts}
        assert kept in held
        fits = await share(node, new_file(tmp_path, "fits", MB + MB // 2))
        held = {one.digest for one in (await node.run(ListCommand())).artifacts}
        assert fits in held
        assert kept not in held
        assert len(held) == 3  # the package file and its artifact, too


async def test_what_was_evicted_is_forgotten_on_the_disk(tmp_path):
    """A node that is killed right after it does not claim to hold it."""
    async with full_node(tmp_path / "home", store_bytes=3 * MB) as node:
        first = await share(node, new_file(tmp_path, "first"))
        second = await share(node, new_file(tmp_path, "second"))
        rows = await asyncio.to_thread(
            node.layers.storage.store.database.read, "SELECT artifact FROM direct"
        )
        assert [row[0] for row in rows] == [second]
        assert first != second


async def test_what_a_command_did_is_on_the_disk_when_it_ends(tmp_path):
    """Another process reads it in the file at once."""
    async with full_node(tmp_path / "home") as node:
        digest = await share(node, new_file(tmp_path, "file", 1000))
        other = sqlite3.connect(tmp_path / "home" / "catalogue.sqlite")
        assert other.execute("SELECT artifact FROM direct").fetchall() == [(digest,)]
        other.close()


async def test_not_each_file_costs_a_look_at_all_that_is_held(tmp_path, monkeypatch):
    """Where much is held, room is made for several at once."""
    monkeypatch.setattr("node.content.eviction.MANY", 8)
    monkeypatch.setattr("node.content.eviction.SPARE", 4)
    async with full_node(tmp_path / "home", store_bytes=40_000) as node:
        looks, store = 0, node.layers.storage.store
        artifacts = store.artifacts

        def counted():
            nonlocal looks
            looks += 1
            return artifacts()

        for number in range(40):
            await share(node, new_file(tmp_path, f"old{number}", 1000))
        monkeypatch.setattr(store, "artifacts", counted)
        for number in range(20):
            digest = await share(node, new_file(tmp_path, f"new{number}", 1000))
            assert store.bytes_held <= 40_000
        assert 2 <= looks <= 3
        monkeypatch.undo()
        held = {one.digest for one in (await node.run(ListCommand())).artifacts}
        assert digest in held
        assert len(held) >= 30
