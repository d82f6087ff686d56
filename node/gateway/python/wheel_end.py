"""A wheel's metadata out of its end, without the whole wheel.

A wheel is a zip archive: its directory stands at its end, and so do, in most wheels,
the files of its `.dist-info`. What is read here is verified by nothing, as metadata
that pip and uv read in this way themselves: the wheel is, once it is installed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from node.gateway import limits, zips
from node.gateway.origin import OriginError, OriginPart
from node.gateway.python.wheels import is_metadata

_AT_LEAST_BYTES = 32 * 1024

Fetch = Callable[[str], Awaitable[OriginPart]]
"""Fetches what a Range header names; raises OriginError."""


class MissingPartError(Exception):
    """A part of the file is read that has not been fetched."""

    def __init__(self, start: int, count: int) -> None:
        super().__init__(f"{count} bytes from {start} on")
        self.start = start
        self.count = count


class FetchedParts:
    """The parts of a file that have been fetched, read like the file."""

    def __init__(self) -> None:
        self._parts: list[tuple[int, bytes]] = []
        self._place = 0

    def put(self, start: int, data: bytes) -> None:
        """Add a part."""
        self._parts.append((start, data))

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Go to an offset from the start; `whence` is 0."""
        if whence:
            raise ValueError("only offsets from the start are known")
        self._place = offset
        return offset

    def read(self, count: int, /) -> bytes:
        """Return `count` bytes; raise MissingPartError unless one part has them."""
        for start, data in self._parts:
            offset = self._place - start
            if offset >= 0 and offset + count <= len(data):
                self._place += count
                return data[offset : offset + count]
        raise MissingPartError(self._place, count)


async def metadata_in_end(fetch: Fetch) -> bytes | None:
    """Return a wheel's METADATA from a few parts of it, or None where it is not there.

    Raises OriginError, also where the origin sends no parts.
    """
    parts = FetchedParts()
    end = await fetch(f"bytes=-{limits.WHEEL_END_BYTES}")
    parts.put(end.start, end.data)

    def read() -> bytes | None:
        return zips.read_member(parts, end.size, is_metadata)

    for _ in range(limits.WHEEL_PARTS_MAX):
        try:
            return await asyncio.to_thread(read)
        except MissingPartError as missing:
            start = missing.start
            last = min(start + max(missing.count, _AT_LEAST_BYTES), end.size) - 1
            if not start <= last < start + limits.PART_BYTES_MAX:
                return None
            part = await fetch(f"bytes={start}-{last}")
            if part.size != end.size or part.start != start:
                raise OriginError("it sent another part than was asked for") from None
            parts.put(part.start, part.data)
        except ValueError:
            return None
    return None
