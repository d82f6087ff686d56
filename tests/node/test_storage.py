"""How much the store keeps where nobody set a bound."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from types import SimpleNamespace

import pytest

from node import storage
from node.settings import Settings
from transfer import StoreError
from transfer.errors import FullError

GIB = 1 << 30


@pytest.mark.parametrize(
    ("total", "free", "held", "bound"),
    [
        (100 * GIB, 90 * GIB, 0, 80 * GIB),
        (100 * GIB, 50 * GIB, 10 * GIB, 58 * GIB),
        (100 * GIB, 1 * GIB, 10 * GIB, 10 * GIB),
        (10 * GIB, 5 * GIB, 0, 4 * GIB),
        (GIB, 0, 0, 1),
    ],
)
def test_four_fifths_of_the_disk_and_some_stays_free(
    tmp_path, monkeypatch, total, free, held, bound
):
    """Full disks evict nothing by themselves: what is held stays."""
    disk = SimpleNamespace(total=total, free=free)
    monkeypatch.setattr(storage.shutil, "disk_usage", lambda _: disk)
    assert storage.default_store_bytes(tmp_path, held) == bound


async def test_private_files_stay_private_where_the_catalogue_is_lost(tmp_path):
    """They are found again in the store, and their mode says what they are."""
    settings = Settings(tmp_path)
    async with AsyncExitStack() as stack:
        opened = await storage.open_storage(stack, settings)
        add, set_private = opened.store.add_bytes, opened.store.set_private
        secret = await asyncio.to_thread(add, b"of a private upstream")
        public = await asyncio.to_thread(add, b"of everybody")
        await asyncio.to_thread(set_private, secret, private=True)
    (tmp_path / "catalogue.sqlite").write_bytes(b"noise")
    for left in tmp_path.glob("catalogue.sqlite-*"):
        left.unlink()
    async with AsyncExitStack() as stack:
        opened = await storage.open_storage(stack, settings)
        assert opened.catalogue.is_private(str(secret.digest))
        assert not opened.catalogue.is_private(str(public.digest))


async def test_the_default_bound_follows_the_disk(tmp_path, monkeypatch):
    """A node that started on a full disk takes files again once there is room."""
    disk = SimpleNamespace(total=100 * GIB, free=0)
    monkeypatch.setattr(storage.shutil, "disk_usage", lambda _: disk)
    async with AsyncExitStack() as stack:
        opened = await storage.open_storage(stack, Settings(tmp_path))
        assert opened.bound is not None
        with pytest.raises(FullError):
            await asyncio.to_thread(opened.store.add_bytes, b"content")
        disk.free = 50 * GIB
        await opened.bound.round()
        await asyncio.to_thread(opened.store.add_bytes, b"content")


async def test_a_full_disk_stops_nothing_that_writes_nothing(tmp_path, monkeypatch):
    """What is held is checked, read, and fetched to another disk."""
    async with AsyncExitStack() as stack:
        opened = await storage.open_storage(stack, Settings(tmp_path))
        store, catalogue = opened.store, opened.catalogue
        held = await asyncio.to_thread(store.add_bytes, b"content")
        async with opened.mirror.durable():
            catalogue.add_direct(str(held.digest), "name")

        def full(*_args):
            raise StoreError("The disk is full.")

        monkeypatch.setattr(store.index, "set_checked", full)
        monkeypatch.setattr(opened.mirror, "_flush", full)
        store.committer.distrust(held.digest)
        assert await asyncio.to_thread(store.check, held.digest)
        assert await asyncio.to_thread(store.read, held) == b"content"
        before = opened.mirror._queued
        catalogue.add_direct(str(held.digest), "")
        catalogue.add_direct(str(held.digest), "name")
        assert opened.mirror._queued == before
