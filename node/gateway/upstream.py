"""One upstream: an index that stands behind routes of the gateway."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

_USUAL_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Proxies:
    """The proxies that an upstream's tools are configured with, beside environment."""

    http: str = ""
    https: str = ""
    bypassed: str = ""
    """Hosts that are asked without one, as in NO_PROXY."""


@dataclass(frozen=True, slots=True)
class Upstream:
    """One index: its name among the settings and its URL, ending in a slash."""

    name: str
    url: str
    share: bool | None = None
    """Whether its files go to peers; None where that follows from where it is."""
    authorization: str = field(default="", repr=False)
    """The Authorization header that its own host is sent, or ""."""
    ca_files: tuple[Path, ...] = ()
    """Certificate authorities that are trusted beside those of the system."""
    client_certificate: Path | None = None
    proxies: Proxies = field(default=Proxies(), repr=False)

    @property
    def place(self) -> tuple[str, int]:
        """The host and port that it is at."""
        return place_of(self.url)

    @property
    def has_secret(self) -> bool:
        """Whether it is asked with a password, token or certificate."""
        secret = self.authorization or self.client_certificate
        return bool(secret) or urlsplit(self.url).username is not None


def place_of(url: str) -> tuple[str, int]:
    """Return the host, in lower case, and the port that a URL leads to; ValueError."""
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or _USUAL_PORTS.get(parts.scheme, 0)


def without_user(url: str) -> str:
    """Return a URL without the user and password in it."""
    parts = urlsplit(url)
    bare = parts.netloc.rpartition("@")[2]
    return url if bare == parts.netloc else url.replace(parts.netloc, bare, 1)


def identity_of(url: str) -> str:
    """Return what is the same for all spellings of an upstream's URL.

    Scheme and host in one case, the port named, no credentials (RFC 3986, 6.2).
    """
    try:
        parts, (host, port) = urlsplit(url), place_of(url)
    except ValueError:
        return url
    host = host.rstrip(".")
    with contextlib.suppress(UnicodeError):
        host = host if host.isascii() else host.encode("idna").decode()
    with contextlib.suppress(ValueError):
        host = str(ip_address(host))
    query = f"?{parts.query}" if parts.query else ""
    return f"{parts.scheme}://{host}:{port}{as_folder(parts.path)}{query}"


def as_folder(url: str) -> str:
    """Return a URL that ends in a slash."""
    return url if url.endswith("/") else url + "/"
