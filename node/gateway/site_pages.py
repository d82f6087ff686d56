"""Index pages that the members of a private network give one another.

A page has no digest, so it is believed as far as its sender is: in a private network,
where every member has proved that it knows the secret, and nowhere else. What a member
says of a page is read like an answer of the upstream, under the same bounds; the files
that it names are still verified by the digests that it names.

Whoever holds the lease of a page asks the upstream, also whether what it knows has
changed, and passes the answer on for a minute. A node to which "unchanged" says
nothing, because it knows another state, asks the upstream itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import zlib
from collections.abc import Callable
from typing import Any

from node.gateway import limits
from node.gateway.leases import OriginLeases, Turn
from node.gateway.origin import (
    ForbiddenUrlError,
    MissingError,
    OriginClient,
    OriginPage,
    check_url,
)
from node.gateway.upstream import Upstream
from transfer import PeerError, TransferError
from transfer.arrivals import HeldBytes

log = logging.getLogger(__name__)

KIND = "page"
_TEXTS = ("content_type", "etag", "url", "modified")


class SitePages:
    """Asks an upstream for pages as `OriginClient.page` does, once for all members."""

    def __init__(
        self,
        client: OriginClient,
        leases: OriginLeases,
        is_private: Callable[[str], bool],
    ) -> None:
        """`is_private` says whether the pages of an upstream stay on this machine."""
        self._client = client
        self._leases = leases
        self._is_private = is_private

    async def page(
        self, upstream: Upstream, url: str, *, accept: str, known: OriginPage | None
    ) -> OriginPage:
        """Fetch a page; `known` is what to compare with. Raises OriginError."""
        leases = self._leases
        if not (leases.has_pages and leases.is_on) or self._is_private(upstream.name):
            return await self._client.page(upstream, url, accept=accept, known=known)
        name = hashlib.sha256(f"{url}\n{accept}".encode()).digest()
        with leases.turn(KIND, name) as turn:
            if (page := await self._of_another(turn, upstream, known)) is not None:
                return page
            try:
                page = await self._client.page(
                    upstream, url, accept=accept, known=known
                )
            except MissingError:
                turn.keep(await asyncio.to_thread(encode, None))
                raise
            turn.keep(await asyncio.to_thread(encode, page))
            return page

    async def _of_another(
        self, turn: Turn, upstream: Upstream, known: OriginPage | None
    ) -> OriginPage | None:
        """Return the page of another member; None where the upstream is to be asked."""
        failed = None
        while (peer := await turn.leader(failed)) is not None:
            coming = self._leases.follower.follow(peer, turn.kind, turn.name)
            try:
                packed = await _whole(coming)
                page = await asyncio.to_thread(decode, packed, upstream)
            except (PeerError, TransferError, OSError, ValueError) as error:
                log.info("a page of %s came to nothing: %s", peer, error)
            else:
                if page is None:
                    raise MissingError("another member of the network says so")
                if known is not None and page.etag and page.etag == known.etag:
                    return _unchanged(known)
                if not page.unchanged:
                    return page
            self._leases.counts["failed"] += 1
            failed = peer
        return None


async def _whole(coming: Any) -> bytes:
    """Return all that a peer sends; ValueError where it is too much."""
    parts: list[bytes] = []
    length = 0
    async with contextlib.aclosing(coming):
        async for data, _ in coming:
            parts.append(data)
            length += len(data)
            if length > limits.PAGE_BYTES_MAX:
                raise ValueError("the page is too large")
    return b"".join(parts)


def _unchanged(known: OriginPage) -> OriginPage:
    return OriginPage(
        b"", known.content_type, known.etag, known.url, unchanged=True,
        modified=known.modified,
    )  # fmt: skip


def encode(page: OriginPage | None) -> HeldBytes:
    """Return what travels: a line of JSON and the body, packed; None is a 404."""
    head: dict[str, Any] = {"missing": True}
    body = b""
    if page is not None:
        head = {one: getattr(page, one) for one in _TEXTS}
        head["unchanged"] = page.unchanged
        body = page.body
    return HeldBytes(zlib.compress(json.dumps(head).encode() + b"\n" + body, 1))


def decode(packed: bytes, upstream: Upstream) -> OriginPage | None:
    """Read what `encode` wrote, None for a 404; raises ValueError."""
    unpacker = zlib.decompressobj()
    try:
        data = unpacker.decompress(packed, limits.PAGE_BYTES_MAX)
    except zlib.error as error:
        raise ValueError("it is not packed") from error
    if not unpacker.eof:
        raise ValueError("the page is too large, or cut off")
    line, _, body = data.partition(b"\n")
    read = json.loads(line)
    head = read if isinstance(read, dict) else {}
    if head.get("missing") is True:
        return None
    texts = [head.get(one) for one in _TEXTS]
    if not all(isinstance(one, str) for one in texts):
        raise ValueError("its head is malformed")
    content_type, etag, url, modified = map(str, texts)
    try:
        check_url(url, upstream)
    except ForbiddenUrlError as error:
        raise ValueError(str(error)) from error
    is_unchanged = head.get("unchanged") is True
    return OriginPage(
        body, content_type, etag, url, unchanged=is_unchanged, modified=modified
    )
