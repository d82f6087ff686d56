"""Intake: a file that arrives in order from an origin, verified before its commit.

The bytes are hashed as they are written, so that little is left to do at the end.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Self

from transfer.content.digest import NAME_ALGORITHM, Digest
from transfer.content.hashing import Contents, ContentsHasher
from transfer.errors import StoreError, WrongBytesError
from transfer.limits import ARTIFACT_BYTES_MAX
from transfer.store.fs import store_errors
from transfer.store.integrity import contents_of

if TYPE_CHECKING:
    from collections.abc import Collection
    from types import TracebackType

    from transfer.content.artifact import Artifact
    from transfer.store.store import Store


class Intake:
    """One file on its way into `store`; use it as a context manager.

    All methods block; they belong in one thread at a time.
    """

    def __init__(
        self, store: Store, expected: Collection[Digest], size: int | None = None
    ) -> None:
        if not expected:
            raise ValueError("An intake needs a digest to verify.")
        self._store = store
        self._expected = tuple(expected)
        self._size = size
        self._hasher: ContentsHasher | None = None
        self._verified: Contents | None = None
        self._stack = contextlib.ExitStack()
        self._temporary = Path()
        self.descriptor = -1
        """Of the file, for those who read what has come already."""
        self.length = 0
        """How many bytes have been written."""

    def __enter__(self) -> Self:
        staged = self._store.committer.staged()
        self._temporary, self.descriptor = self._stack.enter_context(staged)
        if self._size is not None:
            algorithms = {NAME_ALGORITHM, *(one.algorithm for one in self._expected)}
            self._hasher = ContentsHasher(self._size, sorted(algorithms))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._hasher is not None:
            self._hasher.__exit__()
        self._stack.close()

    def write(self, data: bytes) -> None:
        """Take in the next bytes; WrongBytesError where there are too many."""
        end = self.length + len(data)
        if end > ARTIFACT_BYTES_MAX or (self._size is not None and end > self._size):
            raise WrongBytesError("More bytes came than the file has.")
        with store_errors(self._store.folder):
            self._store.fs.write(self.descriptor, data, self.length)
        if self._hasher is not None:
            self._hasher.update(data)
        self.length = end

    def verify(self) -> Digest:
        """Verify the whole and return its name, before it enters the store.

        Raises WrongBytesError where it is not what was expected.
        """
        if self._size is not None and self.length != self._size:
            raise WrongBytesError("The file ended early.")
        contents = self._contents()
        for digest in self._expected:
            if contents.digests[digest.algorithm] != digest:
                raise WrongBytesError(f"The bytes are not those of {digest}.")
        self._verified = contents
        return contents.name

    def commit(self) -> Artifact:
        """Make what was verified an artifact of the store."""
        if self._verified is None:
            self.verify()
        if self._verified is None:
            raise StoreError("Nothing was verified.")
        return self._store.commit(self._temporary, self.descriptor, self._verified)

    def _contents(self) -> Contents:
        if self._hasher is not None:
            return self._hasher.contents()
        try:
            return contents_of(self.descriptor, self.length)
        except OSError as error:
            raise StoreError(f"What came cannot be read back: {error}.") from error
