"""How verified files enter the store: renamed, their folders synced, then listed."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

from transfer.content.artifact import Artifact
from transfer.content.digest import ALIAS_ALGORITHMS, NAME_ALGORITHM
from transfer.errors import FullError, StoreError
from transfer.store import recovery as upkeep
from transfer.store.fs import store_errors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from _typeshed import ReadableBuffer

    from transfer.content.hashing import Contents
    from transfer.content.manifest import Manifest
    from transfer.store.store import Store


class Staged(NamedTuple):
    """A file of `partial/`, verified and synced."""

    path: str | Path
    descriptor: int
    contents: Contents


class CommitGroup:
    """Small artifacts that enter a store together; use it as a context manager.

    What was not committed by its end leaves nothing behind.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._staged: list[Staged] = []
        self._bytes = 0
        self._prefix = f"{store.partials.folder}/add-{secrets.token_hex(8)}"

    def __len__(self) -> int:
        return len(self._staged)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        staged, self._staged, self._bytes = self._staged, [], 0
        for one in staged:
            os.close(one.descriptor)
            with contextlib.suppress(OSError):
                self._store.fs.remove(one.path)

    def add(self, data: ReadableBuffer, contents: Contents) -> None:
        """Write verified bytes to a file that the commit will name."""
        store = self._store
        path = f"{self._prefix}-{len(self._staged)}.new"
        with store_errors(store.folder):
            descriptor = store.fs.create(path)
            try:
                store.fs.write(descriptor, data, 0)
            except OSError:
                os.close(descriptor)
                with contextlib.suppress(OSError):
                    store.fs.remove(path)
                raise
        self._staged.append(Staged(path, descriptor, contents))
        self._bytes += contents.manifest.size

    def commit(self) -> list[Artifact]:
        """Sync the files and list them in one transaction, in the order of adding.

        All of them or, with StoreError, none are listed.
        """
        store, staged = self._store, self._staged
        try:
            store.ensure_room(self._bytes)
            with store_errors(store.folder):
                for one in staged:
                    store.fs.sync(one.descriptor)
            with store.committing:
                entered = enter(store, staged)
        except BaseException:
            self.__exit__()
            raise
        for one in staged:
            os.close(one.descriptor)
        self._staged, self._bytes = [], 0
        return entered


def enter(store: Store, staged: Sequence[Staged]) -> list[Artifact]:
    """Name files and list them in one transaction; those that are held stay.

    The caller has the lock of commits. Raises StoreError; then none is listed.
    """
    entered: dict[bytes, Artifact] = {}
    fresh: list[tuple[Artifact, Manifest]] = []
    shelves: set[str] = set()
    try:
        entered |= _held(store, staged)
        size = sum(
            one.contents.manifest.size
            for one in staged
            if one.contents.name.raw not in entered
        )
        if size and not store.has_room(size):
            raise FullError(size, store.bytes_held, store.bytes_max)
        with store_errors(store.folder):
            for one in staged:
                name = one.contents.name
                if name.raw in entered:
                    store.fs.remove(one.path)
                    continue
                entered[name.raw] = artifact = _artifact(one.contents, store.clock())
                fresh.append((artifact, one.contents.manifest))
                target = store.place_of(name)
                _rename(store, one.path, target)
                store.trust(name, upkeep.signature_of(one.descriptor))
                shelves.add(os.path.dirname(target))  # noqa: PTH120 (text is quicker)
            for shelf in shelves:
                store.fs.sync_folder(shelf)
        store.index.insert(fresh, store.clock())
    except StoreError:
        for artifact, _ in fresh:
            store.distrust(artifact.digest)
            with contextlib.suppress(OSError):
                store.fs.remove(store.path(artifact))
        raise
    return [entered[one.contents.name.raw] for one in staged]


def _held(store: Store, staged: Sequence[Staged]) -> dict[bytes, Artifact]:
    names = [one.contents.name.raw for one in staged]
    return store.index.find_many(NAME_ALGORITHM, names)


def _rename(store: Store, temporary: str | Path, target: str) -> None:
    try:
        store.fs.rename(temporary, target)
    except FileNotFoundError:
        store.fs.make_folder(Path(target).parent)
        store.fs.rename(temporary, target)


def _artifact(contents: Contents, now: float) -> Artifact:
    aliases = {
        name: contents.digests[name]
        for name in ALIAS_ALGORITHMS
        if name in contents.digests
    }
    manifest = contents.manifest
    return Artifact(contents.name, manifest.size, manifest.digest, aliases, now)
