"""Who may use the site door, decided from plain values.

Other machines come through this door, so nothing rests on loopback: the client's
address must be in a network of the site, `Host` must be a name of this machine (a page
that rebinds its own name to it gets nothing), and where the site has a token, the
request must carry it.
"""

from __future__ import annotations

import base64
import binascii
import functools
import hmac
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING

from node.web.guard import Refusal

if TYPE_CHECKING:
    from collections.abc import Sequence
    from ipaddress import IPv4Network

_FETCHED_BY_ITSELF = ("", "none", "same-origin")


@dataclass(frozen=True, slots=True)
class SiteRequest:
    """What a request says of itself, and what the socket says of it."""

    client: str
    """The numeric address of the other end."""
    local: str
    """The numeric address that the client connected to."""
    host: str
    """The `Host` header, empty where there is none or more than one."""
    authorization: str = ""
    origin: str | None = None
    fetch_site: str = ""
    in_path: bool = False
    """Whether the token was in the path."""


@dataclass(frozen=True, slots=True)
class SiteGuard:
    """Checks requests against a site's networks, host names and token."""

    networks: Sequence[IPv4Network | IPv6Network]
    hosts: frozenset[str] = frozenset()
    token: str = field(default="", repr=False)

    @classmethod
    def of(
        cls, networks: Sequence[str], hosts: Sequence[str] = (), token: str = ""
    ) -> SiteGuard:
        """Make a guard of the settings' texts."""
        return cls(
            [ip_network(text) for text in networks],
            frozenset(name.lower() for name in hosts),
            token,
        )

    def check(self, asking: SiteRequest) -> None:
        """Raise Refusal unless this request may be answered."""
        if not self.is_client(asking.client):
            raise Refusal(403, "this address is in none of the site's networks", 6)
        if not self.is_own_host(asking.host, asking.local):
            raise Refusal(403, "this door does not answer for that host name", 6)
        if asking.origin is not None or (
            asking.fetch_site.strip().lower() not in _FETCHED_BY_ITSELF
        ):
            raise Refusal(403, "web pages may not use this door", 6)
        if self.token and not asking.in_path and not self.is_token(asking):
            raise Refusal(
                401,
                "expected the site's token, as a bearer token or as a password",
                6,
                WWW_Authenticate='Basic realm="caravan", charset="UTF-8"',
            )

    def is_client(self, client: str) -> bool:
        """Tell whether a numeric address is in one of the networks."""
        address = plain_address(client)
        return address is not None and any(address in one for one in self.networks)

    def is_own_host(self, host: str, local: str) -> bool:
        """Tell whether `Host` names this machine, with or without a port.

        The address that the client connected to is always its own.
        """
        name, _, port = host.lower().rpartition(":")
        if not port.isdigit() or host.endswith("]"):
            name = host.lower()
        if not name:
            return False
        if host.lower() in self.hosts or name in self.hosts:
            return True
        own, asked = plain_address(local), plain_address(name.strip("[]"))
        if own is None:
            return False
        return asked == own or (own.is_loopback and name == "localhost")

    def is_token(self, asking: SiteRequest) -> bool:
        """Compare what `Authorization` carries with the token, in constant time."""
        scheme, _, text = asking.authorization.strip().partition(" ")
        offered = text.strip()
        if scheme.lower() == "basic":
            try:
                decoded = base64.b64decode(offered, validate=True).decode("utf-8")
            except (binascii.Error, UnicodeDecodeError):
                return False
            offered = decoded.partition(":")[2]
        elif scheme.lower() != "bearer":
            return False
        given = offered.encode("utf-8", "surrogateescape")
        return hmac.compare_digest(given, self.token.encode())


@functools.lru_cache(maxsize=4096)
def plain_address(text: str) -> IPv4Address | IPv6Address | None:
    """Read an address; one of IPv4 that is mapped into IPv6 counts as itself."""
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address
