"""The HTTP client that asks upstreams and origins.

Redirects are followed by hand, so that every step passes the same rules: no other
scheme, no private network, no way back from https to http for a page.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import socket
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urljoin, urlsplit, urlunsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from node.gateway import limits
from node.gateway.origin import (
    DownError,
    MissingError,
    OriginError,
    OriginFile,
    OriginPage,
    SilentError,
    check_url,
    may_connect,
)
from node.gateway.upstreams import Upstreams

CONNECT_SECONDS_MAX = 5.0
CONNECTIONS_MAX = 32
USER_AGENT = "caravan"
_REDIRECTS = (301, 302, 303, 307, 308)
_log = logging.getLogger(__name__)


class GuardedResolver(AbstractResolver):
    """Resolves names; those that nobody configured must not lead into the LAN.

    They may lead where a configured upstream is itself: behind a proxy, or in a
    network of one's own, its file host is often the same machine.
    """

    def __init__(self, upstreams: Upstreams) -> None:
        self._upstreams = upstreams
        self._resolver = aiohttp.ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return the addresses of `host` that may be connected to; OSError if none."""
        found = await self._resolver.resolve(host, port, family)
        if self._upstreams.trusts(host) or all(
            may_connect(one["host"]) for one in found
        ):
            return found
        known = await self._addresses_of_upstreams(port, family)
        found = [
            one for one in found if may_connect(one["host"]) or one["host"] in known
        ]
        if not found:
            raise OSError(f"{host} leads into a private network")
        return found

    async def close(self) -> None:
        """Release what the resolver holds."""
        await self._resolver.close()

    async def _addresses_of_upstreams(
        self, port: int, family: socket.AddressFamily
    ) -> set[str]:
        known: set[str] = set()
        for host in self._upstreams.hosts():
            with contextlib.suppress(OSError):
                found = await self._resolver.resolve(host, port, family)
                known |= {one["host"] for one in found}
        return known


class HttpOrigin:
    """An `OriginClient` over HTTP; make it inside a running loop and close it."""

    def __init__(self, upstreams: Upstreams) -> None:
        self._upstreams = upstreams
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                resolver=GuardedResolver(upstreams), limit=CONNECTIONS_MAX
            ),
            headers={"User-Agent": USER_AGENT},
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(
                total=None,
                sock_connect=CONNECT_SECONDS_MAX,
                sock_read=limits.STALL_SECONDS_MAX,
            ),
        )

    async def close(self) -> None:
        """Close every connection."""
        await self._session.close()

    async def page(
        self, url: str, *, accept: str, etag: str, seconds: float
    ) -> OriginPage:
        """Fetch a page within `seconds`; raises MissingError or OriginError."""
        headers = {"Accept": accept}
        if etag:
            headers["If-None-Match"] = etag
        try:
            async with (
                asyncio.timeout(seconds),
                self._request("GET", url, headers, is_page=True) as response,
            ):
                final = str(response.url)
                if response.status == 304 and etag:
                    return OriginPage(b"", "", etag, final, unchanged=True)
                _check_status(response)
                body = await _bounded(response, limits.PAGE_BYTES_MAX)
                kind = response.headers.get("Content-Type", "")
                return OriginPage(body, kind, response.headers.get("ETag", ""), final)
        except TimeoutError as error:
            raise SilentError("it did not answer in time") from error

    @contextlib.asynccontextmanager
    async def file(self, url: str) -> AsyncIterator[OriginFile]:
        """Begin to fetch a file; raises MissingError or OriginError."""
        headers = {"Accept-Encoding": "identity", "Accept": "*/*"}
        async with self._request("GET", url, headers, is_page=False) as response:
            _check_status(response)
            yield HttpFile(response)

    async def size(self, url: str, seconds: float) -> int | None:
        """Ask how long a file is, without fetching it; None if that is unknown."""
        headers = {"Accept-Encoding": "identity", "Accept": "*/*"}
        try:
            async with (
                asyncio.timeout(seconds),
                self._request("HEAD", url, headers, is_page=False) as response,
            ):
                return response.content_length if response.status == 200 else None
        except (TimeoutError, OriginError):
            return None

    @contextlib.asynccontextmanager
    async def _request(
        self, method: str, url: str, headers: dict[str, str], *, is_page: bool
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Ask, following redirects; every error of the network is an OriginError."""
        try:
            for _ in range(limits.REDIRECTS_MAX + 1):
                check_url(url, self._upstreams.trusts)
                own = _authorization(self._upstreams.credentials(url))
                async with self._session.request(
                    method,
                    _bare(url),
                    headers={**headers, **own},
                    allow_redirects=False,
                ) as response:
                    if response.status not in _REDIRECTS:
                        yield response
                        return
                    url = _next(url, response, is_page=is_page)
        except (aiohttp.ClientError, ConnectionError, OSError) as error:
            if isinstance(error, TimeoutError):
                raise SilentError("it did not answer in time") from error
            raise DownError(_sentence(error)) from error
        except ValueError as error:
            raise OriginError("the URL is malformed") from error
        raise OriginError("it redirects too often")


class HttpFile:
    """A file that an HTTP origin has begun to send."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        encoded = response.headers.get("Content-Encoding", "identity") != "identity"
        self.size = None if encoded else response.content_length

    async def parts(self) -> AsyncIterator[bytes]:
        """Yield the bytes as they come; raises OriginError."""
        try:
            async for part in self._response.content.iter_any():
                yield part
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise OriginError(_sentence(error)) from error


def _authorization(known: tuple[str, str] | None) -> dict[str, str]:
    """Return the header that carries a user and password (RFC 7617)."""
    if known is None:
        return {}
    text = base64.b64encode(":".join(known).encode()).decode()
    return {"Authorization": f"Basic {text}"}


def _bare(url: str) -> str:
    """Return a URL without user and password, which are sent as a header."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _next(url: str, response: aiohttp.ClientResponse, *, is_page: bool) -> str:
    target = urljoin(url, response.headers.get("Location", ""))
    schemes = urlsplit(url).scheme, urlsplit(target).scheme
    if is_page and schemes == ("https", "http"):
        raise OriginError("it redirects a page from https to http")
    return target


def _check_status(response: aiohttp.ClientResponse) -> None:
    if response.status in (404, 410):
        raise MissingError("the origin has no such thing")
    if response.status != 200:
        raise OriginError(f"it answered with HTTP status {response.status}")


async def _bounded(response: aiohttp.ClientResponse, most: int) -> bytes:
    """Read a body, unpacked, of at most `most` bytes."""
    parts: list[bytes] = []
    count = 0
    async for part in response.content.iter_any():
        count += len(part)
        if count > most:
            raise OriginError("the page is too long")
        parts.append(part)
    return b"".join(parts)


def _sentence(error: Any) -> str:
    """Say what went wrong, without a URL, which may hold a password."""
    if isinstance(error, aiohttp.ClientConnectorError):
        reason = error.os_error.strerror or str(error.os_error)
        return f"no connection: {reason}"
    return f"the connection failed ({type(error).__name__})"
