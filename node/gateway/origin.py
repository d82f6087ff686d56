"""Origins: where an upstream's pages and files are, and what may be asked of them.

A URL is fetched only where a configured upstream named it, in a page or by a redirect,
so the gateway is no open proxy. Where it may lead:

1. To the upstream's own host and port.
2. To public addresses, on the ports of the web or above 1023.
3. From an upstream in a private network also to other hosts of private networks, where
   a company keeps its files. From one on loopback, also to other loopback addresses.
4. Never to another port of a host at which an upstream is: other services run there.
5. Never to link-local addresses, where clouds have their metadata services.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Protocol
from urllib.parse import urlsplit

from node.gateway.limits import URL_CHARACTERS_MAX
from node.gateway.named_file import NamedFile
from node.gateway.upstream import Upstream, place_of
from node.gateway.upstreams import Upstreams, is_public, reached

_WEB_PORTS = (80, 443)


class OriginError(Exception):
    """The origin gave no usable answer; the message is one sentence."""

    is_passing = False
    """Whether it may be well a moment later."""


class MissingError(OriginError):
    """The origin says that it has no such thing (404 or 410)."""


class ForbiddenUrlError(OriginError):
    """The URL leads where this node does not go."""


class NotAllowedError(OriginError):
    """The origin does not give it to us (402, 403, 451)."""


class NoPartError(OriginError):
    """The origin does not send the part of a file that it was asked for."""


class BusyError(OriginError):
    """The origin asks to come again later (429, 503), or failed for now (5xx)."""

    def __init__(self, status: int, retry_after: float | None = None) -> None:
        super().__init__(f"it answered with HTTP status {status}")
        self.status = status
        self.retry_after = retry_after
        """Seconds, where the origin says when to come again."""


class BrokenOffError(OriginError):
    """The connection ended before the answer did."""

    is_passing = True


class NotKeptError(OriginError):
    """What the origin sends finds no room here; it can only be passed on."""

    def __init__(self, message: str, *, upstream: Upstream, named: NamedFile) -> None:
        super().__init__(message)
        self.upstream = upstream
        self.named = named


class DownError(OriginError):
    """The origin cannot be reached at all, so nothing else of it can either."""


class SlowError(OriginError):
    """The origin has sent nothing for too long."""


@dataclass(frozen=True, slots=True)
class OriginPage:
    """A page as an upstream sent it; `url` is where redirects ended."""

    body: bytes
    content_type: str
    etag: str
    url: str
    unchanged: bool = False
    modified: str = ""
    """Its Last-Modified header."""


class OriginFile(Protocol):
    """A file that an origin has begun to send."""

    size: int | None
    """The length of the whole file in bytes, where the origin says so."""
    start: int
    """The first byte that comes: 0, or what was asked for."""

    def parts(self) -> AsyncIterator[bytes]:
        """Yield the bytes as they come; raises OriginError."""


@dataclass(frozen=True, slots=True)
class OriginPart:
    """A part of a file, which cannot be verified alone."""

    start: int
    """Its first byte in the file."""
    data: bytes
    size: int
    """How long the whole file is, in bytes, as its origin says."""


@dataclass(frozen=True, slots=True)
class RelayRequest:
    """What is passed on to an upstream as a client sent it."""

    url: str
    method: str = "GET"
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()


class OriginReply(Protocol):
    """An answer that is passed on as it comes."""

    status: int
    headers: list[tuple[str, str]]

    def parts(self) -> AsyncIterator[bytes]:
        """Yield the body as it was sent; raises OriginError."""


class PageSource(Protocol):
    """Gives the pages of upstreams."""

    async def page(
        self, upstream: Upstream, url: str, *, accept: str, known: OriginPage | None
    ) -> OriginPage:
        """Fetch a page; `known` is what to compare with. Raises OriginError."""


class OriginClient(PageSource, Protocol):
    """Asks origins; every URL passes `check_url` first, redirects too."""

    def file(
        self, upstream: Upstream, url: str, start: int = 0
    ) -> AbstractAsyncContextManager[OriginFile]:
        """Begin to fetch a file, from `start` on if it can; raises OriginError."""

    async def prepare(self, upstream: Upstream) -> None:
        """Find out where an upstream is, and make ready to ask it."""

    async def part(self, upstream: Upstream, url: str, wanted: str) -> OriginPart:
        """Fetch what a Range header names, PART_BYTES_MAX at most.

        Raises OriginError, also where the origin sends no parts.
        """

    async def size(self, upstream: Upstream, url: str, seconds: float) -> int | None:
        """Ask how long a file is, without fetching it; None if that is unknown.

        Raises OriginError where it cannot be had.
        """

    def relay(
        self, upstream: Upstream, request: RelayRequest
    ) -> AbstractAsyncContextManager[OriginReply]:
        """Pass a request on; raises OriginError."""


def check_url(
    url: str, upstream: Upstream, *, characters_max: int = URL_CHARACTERS_MAX
) -> None:
    """Raise ForbiddenUrlError for a URL that must not be fetched for an upstream.

    Names are checked where they are resolved, by `Reach`.
    """
    if len(url) > characters_max or not url.isprintable():
        raise ForbiddenUrlError("the URL is malformed")
    try:
        host, port = place_of(url)
        scheme = urlsplit(url).scheme
    except ValueError as error:
        raise ForbiddenUrlError("the URL is malformed") from error
    if scheme not in ("http", "https") or not host:
        raise ForbiddenUrlError("only http and https URLs are fetched")
    if (host, port) == upstream.place:
        return
    if port < 1024 and port not in _WEB_PORTS:
        raise ForbiddenUrlError("the URL names a port that no origin uses")


class Reach:
    """Which addresses may be connected to for one upstream: the rules above."""

    def __init__(self, upstream: Upstream, upstreams: Upstreams) -> None:
        self._upstream = upstream
        self._upstreams = upstreams

    def allowed(self, place: tuple[str, int], addresses: Iterable[str]) -> list[str]:
        """Return the addresses of a host and port that may be connected to.

        Raises ForbiddenUrlError where there is none.
        """
        if place == self._upstream.place:
            return list(addresses)
        refused = "no address was found"
        found = []
        for address in addresses:
            why = self._why_not(address, place)
            if why:
                refused = why
            else:
                found.append(address)
        if not found:
            raise ForbiddenUrlError(f"{place[0]}: {refused}")
        return found

    def _why_not(self, address: str, place: tuple[str, int]) -> str:
        """Return why an address may not be connected to, or ""."""
        address = str(reached(address))
        for one in self._upstreams.all():
            known = {
                str(reached(each)) for each in self._upstreams.addresses_of(one.place)
            }
            if one.place[0] != place[0] and address not in known:
                continue
            if _web(one.place[1]) != _web(place[1]):
                return "it is another port of an upstream's host"
            if one.name == self._upstream.name:
                return ""
        if is_public(address):
            return ""
        own = self._upstreams.addresses_of(self._upstream.place)
        parsed = ip_address(address.partition("%")[0])
        if not own or all(map(is_public, own)):
            return "it leads into a private network"
        if parsed.is_link_local or parsed.is_multicast or parsed.is_unspecified:
            return "it leads to an address that no origin has"
        if parsed.is_loopback and not all(reached(one).is_loopback for one in own):
            return "it leads to this machine"
        return ""


def _web(port: int) -> int:
    """Return one number for both ports of the web: 80 leads to 443."""
    return 443 if port in _WEB_PORTS else port


def without_credentials(url: str) -> str:
    """Return a URL fit for a log: no user, password, query or fragment."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{host}{port}{parts.path}"
