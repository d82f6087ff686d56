"""Origins: where an upstream's pages and files are, and what may be asked of them.

A URL is fetched only where a configured upstream named it, so the gateway is no open
proxy. A page could still name a machine of the owner's own network; such a host is
refused unless the owner's configuration names it as an upstream.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Protocol
from urllib.parse import urlsplit

from node.gateway.limits import URL_CHARACTERS_MAX


class OriginError(Exception):
    """The origin gave no usable answer; the message is one sentence."""


class MissingError(OriginError):
    """The origin says that it has no such thing (404 or 410)."""


class DownError(OriginError):
    """The origin cannot be reached at all, so nothing else of it can either."""


class SilentError(DownError):
    """The origin does not answer, and asking it again costs seconds."""


@dataclass(frozen=True, slots=True)
class OriginPage:
    """A page as an upstream sent it; `url` is where redirects ended."""

    body: bytes
    content_type: str
    etag: str
    url: str
    unchanged: bool = False


class OriginFile(Protocol):
    """A file that an origin has begun to send."""

    size: int | None
    """Its length in bytes, where the origin says so."""

    def parts(self) -> AsyncIterator[bytes]:
        """Yield the bytes as they come; raises OriginError."""


class OriginClient(Protocol):
    """Asks origins; every URL passes `check_url` first, redirects too."""

    async def page(
        self, url: str, *, accept: str, etag: str, seconds: float
    ) -> OriginPage:
        """Fetch a page within `seconds`; raises MissingError or OriginError."""

    def file(self, url: str) -> AbstractAsyncContextManager[OriginFile]:
        """Begin to fetch a file; raises MissingError or OriginError."""

    async def size(self, url: str, seconds: float) -> int | None:
        """Ask how long a file is, without fetching it; None if that is unknown."""


def check_url(url: str, trusts: Callable[[str], bool]) -> None:
    """Raise OriginError for a URL that must not be fetched.

    Names are checked where they are resolved, by `may_connect`.
    """
    if len(url) > URL_CHARACTERS_MAX or not url.isprintable():
        raise OriginError("the URL is malformed")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise OriginError("the URL is malformed") from error
    if parts.scheme not in ("http", "https") or not host:
        raise OriginError("only http and https URLs are fetched")
    if trusts(host):
        return
    if port is not None and port < 1024 and port not in (80, 443):
        raise OriginError("the URL names a port that no origin uses")
    try:
        is_public = may_connect(host)
    except ValueError:
        return  # a name, checked when it is resolved
    if not is_public:
        raise OriginError("the URL leads into a private network")


def may_connect(address: str) -> bool:
    """Tell whether an IP address is a public one; ValueError if it is none."""
    parsed = ip_address(address.partition("%")[0])
    mapped = getattr(parsed, "ipv4_mapped", None)
    return bool((mapped or parsed).is_global) and not parsed.is_multicast


def without_credentials(url: str) -> str:
    """Return a URL fit for a log: no user, password, query or fragment."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{host}{port}{parts.path}"
