"""How verified files enter the store: renamed, their folders synced, then listed."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, NamedTuple

from transfer import upkeep
from transfer.digest import ALIAS_ALGORITHMS
from transfer.errors import FullError, StoreError
from transfer.fs import store_errors
from transfer.index import Artifact

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from transfer.digest import Digest
    from transfer.hashing import Contents
    from transfer.manifest import Manifest
    from transfer.store import Store


class Staged(NamedTuple):
    """A file of `partial/`, verified and synced."""

    path: Path
    descriptor: int
    contents: Contents


def enter(store: Store, staged: Sequence[Staged]) -> list[Artifact]:
    """Name files and list them in one transaction; those that are held stay.

    The caller has the lock of commits. Raises StoreError; then none is listed.
    """
    entered: dict[Digest, Artifact] = {}
    fresh: list[tuple[Artifact, Manifest]] = []
    try:
        size = sum(one.contents.manifest.size for one in staged)
        held_all = all(store.find(one.contents.name) for one in staged)
        if not held_all and not store.has_room(size):
            raise FullError(size, store.bytes_held, store.bytes_max)
        with store_errors(store.folder):
            for one in staged:
                name = one.contents.name
                held = entered.get(name) or store.find(name)
                if held is None:
                    held = _artifact(one.contents, store.clock())
                    fresh.append((held, one.contents.manifest))
                    _rename(store, one.path, store.path_of(name))
                    store.trust(name, upkeep.signature_of(one.descriptor))
                else:
                    store.fs.remove(one.path)
                entered[name] = held
            for shelf in {store.path(artifact).parent for artifact, _ in fresh}:
                store.fs.sync_folder(shelf)
        store.index.insert(fresh, store.clock())
    except StoreError:
        for artifact, _ in fresh:
            store.distrust(artifact.digest)
            with contextlib.suppress(OSError):
                store.fs.remove(store.path(artifact))
        raise
    return [entered[one.contents.name] for one in staged]


def _rename(store: Store, temporary: Path, target: Path) -> None:
    store.fs.make_folder(target.parent)
    store.fs.remove(target)
    store.fs.rename(temporary, target)


def _artifact(contents: Contents, now: float) -> Artifact:
    aliases = {
        name: contents.digests[name]
        for name in ALIAS_ALGORITHMS
        if name in contents.digests
    }
    manifest = contents.manifest
    return Artifact(contents.name, manifest.size, manifest.digest, aliases, now)
