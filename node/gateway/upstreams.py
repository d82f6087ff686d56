"""The upstreams of a node: which there are, which are private, and what is at them.

A private upstream is one whose files stay on this machine: they are not announced, not
asked of peers and not served to them. An upstream is private where its settings say
`share = false`; where they say nothing, if it needs a password or a certificate, or if
it is in a private network. As long as its address is not known it counts as private.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from urllib.parse import urlsplit, urlunsplit

from node.gateway.netrc_file import authorization_for
from node.gateway.upstream import Upstream, as_folder
from node.settings import ECOSYSTEMS, UpstreamSettings


class Upstreams:
    """All upstreams of a node, by name."""

    def __init__(self, settings: Mapping[str, UpstreamSettings]) -> None:
        self._settings = {**dict.fromkeys(ECOSYSTEMS, _OWN), **settings}
        self._upstreams: dict[str, Upstream] = {}
        self._addresses: dict[tuple[str, int], frozenset[str]] = {}
        self._is_public: dict[str, bool] = {}
        for name, said in self._settings.items():
            if said.url:
                self._add(Upstream(name, said.url, said.share))

    def setting(self, name: str) -> UpstreamSettings:
        """Return what the settings say of an upstream."""
        return self._settings[name]

    def configure(self, name: str, found: Upstream) -> None:
        """Take in an upstream with what its tools' own configuration says of it."""
        self._add(replace(found, name=name, share=self._settings[name].share))

    @property
    def names(self) -> list[str]:
        """The names of all upstreams that there can be, switched off or not."""
        return list(self._settings)

    def get(self, name: str) -> Upstream | None:
        """Return the upstream of this name, or None where there is none."""
        return self._upstreams.get(name)

    def all(self) -> list[Upstream]:
        """Return every upstream."""
        return list(self._upstreams.values())

    def found_at(self, place: tuple[str, int], addresses: Iterable[str]) -> None:
        """Note the addresses of a host and port at which an upstream is."""
        self._addresses[place] = frozenset(addresses)
        for one in self._upstreams.values():
            if one.place == place:
                self._is_public[one.name] = all(
                    is_public(address) for address in self._addresses[place]
                )

    def remember(self, name: str, *, public: bool) -> None:
        """Note where an upstream was when it was last found, until it is found now."""
        self._is_public.setdefault(name, public)

    def is_public(self, name: str) -> bool | None:
        """Tell whether an upstream has public addresses; None where nobody knows."""
        return self._is_public.get(name)

    def addresses_of(self, place: tuple[str, int]) -> frozenset[str]:
        """Return the addresses that an upstream's host and port were found at."""
        return self._addresses.get(place, frozenset())

    def is_private(self, name: str) -> bool:
        """Tell whether the files of an upstream must stay here."""
        upstream = self._upstreams.get(name)
        if upstream is None:
            return True
        if upstream.share is not None:
            return not upstream.share
        return upstream.has_secret or not self._is_public.get(name, False)

    def needs_credential(self, name: str) -> bool:
        """Tell whether a private upstream is asked with a secret of the owner's."""
        upstream = self._upstreams.get(name)
        if upstream is None or upstream.share:
            return False
        return upstream.has_secret

    def are_private(self, names: Iterable[str]) -> bool:
        """Tell whether there is one of these upstreams, and all are private."""
        known = [name for name in names if name in self._upstreams]
        return bool(known) and all(self.is_private(name) for name in known)

    def _add(self, upstream: Upstream) -> None:
        """Take in an upstream; what its URL holds of secrets is kept apart."""
        url = as_folder(upstream.url)
        parts = urlsplit(url)
        bare = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
        secret = upstream.authorization
        if parts.username is not None and not secret:
            secret = authorization_for(url)
        self._upstreams[upstream.name] = replace(
            upstream, url=bare, authorization=secret
        )
        try:
            self.found_at(upstream.place, [str(ip_address(upstream.place[0]))])
        except ValueError:
            return  # a name, whose addresses are noted when it is resolved


_OWN = UpstreamSettings(None)


_WRAPPING = tuple(
    map(IPv6Network, ("::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96", "::/96"))
)
_GLOBAL_UNICAST = IPv6Network("2000::/3")


def reached(address: str) -> IPv4Address | IPv6Address:
    """Return what is reached at an IP address; ValueError if it is none.

    That is an IPv4 address where IPv6 only wraps one: mapped, translated or compatible
    (RFC 4291, 2.5.5; RFC 6052; RFC 2765), or as 6to4 (RFC 3056).
    """
    parsed = ip_address(address.partition("%")[0])
    if isinstance(parsed, IPv4Address) or parsed.is_loopback or parsed.is_unspecified:
        return parsed
    if parsed.sixtofour is not None:
        return parsed.sixtofour
    if any(parsed in network for network in _WRAPPING):
        return IPv4Address(parsed.packed[-4:])
    return parsed


def is_public(address: str) -> bool:
    """Tell whether an IP address is a public one; ValueError if it is none."""
    found = reached(address)
    if isinstance(found, IPv6Address) and found not in _GLOBAL_UNICAST:
        return False
    return found.is_global and not found.is_multicast
