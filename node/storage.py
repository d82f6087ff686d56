"""What a node keeps on disk, opened in order: the catalogue, its mirror, the store."""

from __future__ import annotations

import asyncio
import shutil
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from node.gateway.page_cache import PageCache
from node.model.catalogue import Catalogue
from node.model.database import open_database
from node.model.mirror import Mirror
from node.model.trust_store import TrustStore
from node.settings import Settings
from transfer import Store
from transfer.store.database import Database

FREE_BYTES_MIN = 2 << 30
MEASURE_SECONDS = 2.0
_OTHERS_MAY_READ = 0o044


@dataclass(frozen=True, slots=True)
class Storage:
    """All that outlives the process, for the parts of a node."""

    mirror: Mirror
    catalogue: Catalogue
    trust_store: TrustStore
    store: Store
    pages: PageCache
    bound: DefaultBound | None
    """What keeps the store's bound true to its disk, where no setting says one."""


def default_store_bytes(home: Path, held: int) -> int:
    """Return how much the store keeps where no setting says it, in bytes.

    At most 80 % of the disk, and 2 GiB stay free (a tenth of a small disk). What is
    `held` already is never too much.
    """
    disk = shutil.disk_usage(home)
    kept_free = free_bytes_min(disk.total)
    return max(1, held, min(disk.total * 8 // 10, held + disk.free - kept_free))


class DefaultBound:
    """Keeps the store's bound true to its disk where no setting says one.

    The disk has others on it: what was full when the node started may have room now.
    """

    def __init__(self, store: Store, home: Path) -> None:
        self._room = store.room
        self._home = home
        self.measure()

    def measure(self) -> None:
        """Set the bound by what is free now."""
        self._room.bytes_max = default_store_bytes(self._home, self._room.held)

    async def round(self) -> float:
        """Measure once; return the seconds until the next time."""
        self.measure()
        return MEASURE_SECONDS


def free_bytes_min(total: int) -> int:
    """Return how many bytes of a disk of `total` bytes stay free for others."""
    return min(FREE_BYTES_MIN, total // 10)


async def open_storage(stack: AsyncExitStack, settings: Settings) -> Storage:
    """Open everything, and let `stack` close it in reverse.

    Raise NodeError or StoreError. From then on, blocking database calls in the
    thread of this event loop raise RuntimeError.
    """
    path = settings.home / "catalogue.sqlite"
    open_database(path).close()  # migrated, or set aside where it is damaged
    database = await asyncio.to_thread(Database, path)
    stack.push_async_callback(asyncio.to_thread, database.close)
    mirror = Mirror(database)
    stack.push_async_callback(mirror.close)
    catalogue, trust_store = Catalogue(mirror), TrustStore(mirror)
    store = await asyncio.to_thread(
        Store, settings.home, bytes_max=settings.store_bytes, database=database
    )
    home = settings.home
    store.room.free_min = free_bytes_min(shutil.disk_usage(home).total)
    store.room.disk_free = lambda: shutil.disk_usage(home).free
    store.room.trouble = lambda: mirror.failure
    store.committer.is_private = lambda digest: catalogue.is_private(str(digest))
    stack.callback(store.close)
    bound = DefaultBound(store, home) if settings.store_bytes is None else None
    if catalogue.is_empty:
        # The catalogue was lost and the store read back: why its files came is not
        # known any more, so all of them count as wanted. What came from a private
        # upstream is still known by its mode.
        held, private = await asyncio.to_thread(_read_back, store)
        catalogue.add_directs(held)
        for digest in private:
            catalogue.make_private(digest, "")
    pages = await asyncio.to_thread(PageCache, database)
    database.forbid_this_thread()
    return Storage(mirror, catalogue, trust_store, store, pages, bound)


def _read_back(store: Store) -> tuple[list[str], list[str]]:
    """Return all that is held, and what of it only the owner may read."""
    held, private = [], []
    for artifact in store.artifacts():
        held.append(str(artifact.digest))
        if not store.path(artifact).stat().st_mode & _OTHERS_MAY_READ:
            private.append(held[-1])
    return held, private
