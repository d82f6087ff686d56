"""The body of an index page, in one answer or in several.

1. A page whose connection breaks is asked for from where it ended (RFC 9110, 14.2),
   under the condition that it is the same still (If-Range, 13.1.5). Where the server
   sends the whole again, what came before is dropped.
2. What is counted are the bytes as they are sent; they may be packed.
3. A page without a strong entity tag or a date is asked for anew.
"""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Mapping

from node.gateway import limits
from node.gateway.origin import BrokenOffError, OriginError

_UNPACKED = ("identity", "")
_PACKED = ("gzip", "x-gzip", "deflate")


class PageBody:
    """What has come of a page, unpacked, of PAGE_BYTES_MAX at most."""

    def __init__(self, *, as_sent: bool = False) -> None:
        """Take it `as_sent` where it is an archive: its label is no packing of ours."""
        self._as_sent = as_sent
        self.headers: Mapping[str, str] = {}
        """Of the answer that began it."""
        self.url = ""
        """Where the redirects of that answer ended."""
        self._received = 0
        self._left = limits.PAGE_BYTES_MAX
        self._parts: list[bytes] = []
        self._unpacker: zlib._Decompress | None = None

    @property
    def received(self) -> int:
        """How many bytes of it have come, as they were sent."""
        return self._received

    def condition(self) -> dict[str, str]:
        """Return the headers that ask for the rest; none where all is to come anew."""
        etag = self.headers.get("ETag", "")
        same = self.headers.get("Last-Modified", "")
        if etag.startswith('"'):
            same = etag
        if not self._received or not same:
            return {}
        return {"Range": f"bytes={self._received}-", "If-Range": same}

    def begin(self, headers: Mapping[str, str], url: str, *, is_part: bool) -> None:
        """Take in the head of an answer; raises OriginError."""
        if is_part:
            start = headers.get("Content-Range", "").partition("-")[0]
            if start != f"bytes {self._received}" or not self._received:
                raise OriginError("it sent another part than was asked for")
            return
        encoding = headers.get("Content-Encoding", "identity").lower()
        if self._as_sent:
            encoding = "identity"
        if encoding not in (*_UNPACKED, *_PACKED):
            raise OriginError(
                f"it packs its pages as {encoding}, which nobody asked for"
            )
        self.headers, self.url = headers, url
        self._received, self._left = 0, limits.PAGE_BYTES_MAX
        self._parts = []
        self._unpacker = None
        if encoding not in _UNPACKED:
            self._unpacker = zlib.decompressobj(32 + zlib.MAX_WBITS)

    async def receive(self, parts: AsyncIterator[bytes]) -> bytes:
        """Take in the rest and return the whole; raises OriginError."""
        unpacker = self._unpacker
        async for part in parts:
            try:
                data = (
                    part
                    if unpacker is None
                    else unpacker.decompress(part, self._left + 1)
                )
            except zlib.error as error:
                raise OriginError("its page cannot be unpacked") from error
            self._received += len(part)
            self._left -= len(data)
            if self._left < 0:
                raise OriginError("the page is too long")
            self._parts.append(data)
        if unpacker is not None and not unpacker.eof:
            self._received = 0  # what came is no whole, so its rest is none either
            raise BrokenOffError("its page ended early")
        return b"".join(self._parts)
