"""The upstreams: which index stands behind each of the gateway's routes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from node.settings import UpstreamSettings

DEFAULTS = {
    "cargo": "https://index.crates.io/",
    "npm": "https://registry.npmjs.org/",
    "opam": "https://opam.ocaml.org/",
}
"""What cargo, npm and opam themselves use; for pypi, pip on this machine is asked."""


@dataclass(frozen=True, slots=True)
class Upstream:
    """One index: its name among the settings and its URL, ending in a slash."""

    name: str
    url: str
    share: bool = True
    """False marks it private: nothing of it is announced or served to peers."""


class Upstreams:
    """All upstreams of a node, by name."""

    def __init__(self, settings: Mapping[str, UpstreamSettings]) -> None:
        self._upstreams: dict[str, Upstream] = {}
        self._hosts: set[str] = set()
        self._configured = frozenset(settings)
        for name, one in settings.items():
            self._add(name, one.url, share=one.share)

    def lacks(self, name: str) -> bool:
        """Tell whether the settings say nothing of an upstream, not even "none"."""
        return name not in self._configured and name not in self._upstreams

    def add_default(self, name: str, url: str) -> None:
        """Use `url` for an upstream of which the settings say nothing.

        One that needs a password is private.
        """
        if self.lacks(name):
            self._add(name, url, share=urlsplit(url).username is None)

    def get(self, name: str) -> Upstream | None:
        """Return the upstream of this name, or None where none is configured."""
        return self._upstreams.get(name)

    def all(self) -> list[Upstream]:
        """Return every upstream."""
        return list(self._upstreams.values())

    def trusts(self, host: str) -> bool:
        """Tell whether the owner's own configuration names a host."""
        return host in self._hosts

    def hosts(self) -> list[str]:
        """Return the hosts that the owner's own configuration names."""
        return sorted(self._hosts)

    def credentials(self, url: str) -> tuple[str, str] | None:
        """Return user and password of the upstream on whose server a URL is.

        Its files are often there too, named without them.
        """
        place = _place(url)
        for upstream in self._upstreams.values():
            parts = urlsplit(upstream.url)
            if parts.username is not None and _place(upstream.url) == place:
                return unquote(parts.username), unquote(parts.password or "")
        return None

    def needs_credential(self, name: str) -> bool:
        """Tell whether a private upstream is asked with a user name or a password."""
        upstream = self.get(name)
        if upstream is None or upstream.share:
            return False
        return urlsplit(upstream.url).username is not None

    def are_private(self, names: Iterable[str]) -> bool:
        """Tell whether there is one of these upstreams, and all are private."""
        shares = [one.share for name in names if (one := self.get(name)) is not None]
        return bool(shares) and not any(shares)

    def _add(self, name: str, url: str, *, share: bool) -> None:
        if url:
            self._upstreams[name] = Upstream(name, _folder(url), share)
            self._hosts.add(urlsplit(url).hostname or "")


def _place(url: str) -> tuple[str, str, int]:
    """Return the scheme, host and port that a URL leads to."""
    parts = urlsplit(url)
    usual = 443 if parts.scheme == "https" else 80
    return parts.scheme, parts.hostname or "", parts.port or usual


def _folder(url: str) -> str:
    return url if url.endswith("/") else url + "/"
