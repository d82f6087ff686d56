"""A file that is read while it is still being written.

One side writes from the start on and says how far it has come; any number of readers
wait for bytes and read them. What is read early is not verified as a whole: a reader
that passes it on holds the end back until `finish` was called, and lets nothing of it
count where `fail` was. All methods belong to the event loop's thread.
"""

from __future__ import annotations

import asyncio
import enum
import os
import weakref
from typing import TYPE_CHECKING

from transfer.errors import WrongBytesError
from transfer.limits import BUFFER_BYTES

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable


class SizeEvidence(enum.IntEnum):
    """What vouches for the size of a file that is not there as a whole yet."""

    UNCONFIRMED = 0
    """One source alone, or sources that do not agree: not to be passed on."""
    INDEPENDENT = 1
    """At least two sources that are independent of each other."""
    CALLER = 2
    """The caller that asked for the file knew its size."""


class GrowingFile:
    """The start of a file, as far as it has come."""

    def __init__(
        self,
        descriptor: int,
        size: int,
        evidence: SizeEvidence = SizeEvidence.CALLER,
    ) -> None:
        """`descriptor` is copied; `size` is what the whole is expected to have."""
        self.size = size
        self.evidence = evidence
        """What vouches for the size by now."""
        self.length = 0
        """How many bytes from the start on may be read."""
        self.ended = False
        """Whether nothing more will come."""
        self.error: Exception | None = None
        """Why it ended before its end, or because its bytes were wrong."""
        self._descriptor = os.dup(descriptor)
        self.watchers: set[Callable[[], None]] = set()
        """Called whenever more may be read, or nothing more will come."""
        self._waiting: set[asyncio.Future[None]] = set()
        # Readers may outlive the writer and each other: the last one closes it.
        weakref.finalize(self, os.close, self._descriptor)

    def advance(self, length: int) -> None:
        """Let the first `length` bytes be read; it never shrinks."""
        if length > self.length:
            self.length = length
            self._wake()

    def finish(self) -> None:
        """End well: the whole has been verified and may be read."""
        if not self.ended:
            self.length, self.ended = self.size, True
            self._wake()

    def fail(self, error: Exception | None = None) -> None:
        """End badly; what was read so far counts for nothing. Twice does no harm."""
        if not self.ended:
            self.error = error or WrongBytesError()
            self.ended = True
            self._wake()

    async def wait(self, offset: int) -> bool:
        """Wait until bytes beyond `offset` may be read; False where none will be."""
        while self.length <= offset and not self.ended:
            await self._wait_change()
        return self.length > offset

    async def wait_end(self) -> None:
        """Wait until it has ended, well or badly."""
        while not self.ended:
            await self._wait_change()

    def read(self, offset: int, count: int) -> bytes:
        """Return up to `count` bytes from `offset` on, of those that have come."""
        return os.pread(self._descriptor, min(count, self.length - offset), offset)

    async def blocks(self, offset: int = 0) -> AsyncGenerator[bytes, None]:
        """Yield the bytes from `offset` on as they come; raise how it failed."""
        while await self.wait(offset):
            count = min(BUFFER_BYTES, self.length - offset)
            block = await asyncio.to_thread(self.read, offset, count)
            if not block:
                raise WrongBytesError("The file became shorter while it was read.")
            offset += len(block)
            yield block
            if self.error is not None:
                break
        if self.error is not None:
            raise self.error

    async def _wait_change(self) -> None:
        future = asyncio.get_running_loop().create_future()
        self._waiting.add(future)
        try:
            await future
        finally:
            self._waiting.discard(future)

    def _wake(self) -> None:
        for future in self._waiting:
            if not future.done():
                future.set_result(None)
        for watcher in list(self.watchers):
            watcher()
