"""A file on its way: what has come of it so far, for those who pass it on meanwhile."""

from __future__ import annotations

import asyncio
import os

from node.gateway import limits


class GrowingFile:
    """The growing start of a file of known size.

    Its bytes are not verified as a whole yet: whoever passes them on holds the end
    back until the download has succeeded, and checks what was passed on.
    """

    def __init__(self, size: int, descriptor: int) -> None:
        self.size = size
        self.length = 0
        self.ended = False
        """Nothing more will come; whether it succeeded, the download knows."""
        self._descriptor = os.dup(descriptor)
        self._news = asyncio.Event()

    def advance(self, length: int) -> None:
        """Say that the first `length` bytes have come."""
        self.length = max(self.length, length)
        self._wake()

    def end(self) -> None:
        """Say that nothing more will come."""
        self.ended = True
        self._wake()

    async def wait(self, offset: int) -> bool:
        """Wait until bytes beyond `offset` have come; False if none will."""
        while self.length <= offset and not self.ended:
            await self._news.wait()
        return self.length > offset

    def read(self, offset: int, count: int) -> bytes:
        """Return up to `count` of the bytes that have come, from `offset` on."""
        return os.pread(self._descriptor, min(count, self.length - offset), offset)

    @property
    def can_stream(self) -> bool:
        """Whether enough has come for passing it on to be worth while."""
        large = self.size >= limits.STREAM_BYTES_MIN
        return large and self.length >= limits.STREAM_READY_BYTES and not self.ended

    def __del__(self) -> None:
        os.close(self._descriptor)

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()
