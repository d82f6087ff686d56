"""What a node is started with, as typed values; `table` describes each setting."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from node.settings.site import SiteSettings

DEFAULT_PORT = 4747
DEFAULT_LISTEN = ("0.0.0.0:4747", "[::]:4747")
DEFAULT_WEB = "127.0.0.1:4748"
PUBLIC_NETWORK = "caravan"

Sharing = Literal["all", "published", "none"]
"""What is offered: everything held, only what was published here, or nothing."""

Relay = Literal["off", "members", "all"]
"""For whom this node relays: nobody, members of its private network, or anybody."""

Rendezvous = Literal["off", "mainline"]
"""Where first contacts are looked for: nowhere, or in BitTorrent's Mainline DHT."""

LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["text", "json"]

Winner = Literal["upstream", "network"]
"""Whose a name is where an upstream and a followed publisher both have it."""

ECOSYSTEMS = {
    "pypi": "python",
    "npm": "npm",
    "cargo": "cargo",
    "opam": "opam",
    "debian": "debian",
}
"""The upstream of each package ecosystem, and its folder in `node/gateway`.

A new ecosystem is one more line here, and that folder.
"""


@dataclass(frozen=True, slots=True)
class UpstreamSettings:
    """An index that the gateway asks: "" switches it off, None means the tools' own.

    Nothing of a private upstream is announced, asked of peers or served to them. It is
    private where `share` is False, and, where `share` is None, if it needs a password
    or is in a private network.
    """

    url: str | None
    share: bool | None = None


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """How package managers are served.

    Without `stream`, nothing of a file leaves before all of it is verified. `names`
    says who wins where a name would otherwise be refused. With `lease`, the nodes of a
    site ask an origin once for all of them; with `member_pages`, members of a private
    network also give one another the pages of indexes, which no digest vouches for.
    """

    stream: bool = True
    lease: bool = True
    member_pages: bool = True
    names: Mapping[str, Winner] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that a node's owner may choose; `node.settings.load` reads it.

    Addresses are HOST:PORT texts with a numeric host; port 0 means any free one.
    `sharing_of` names single packages as PUBLISHER/NAME, `sharing` counts for the rest.
    `lan` announces this node on the local network and meets others there,
    `port_mapping` asks the router to forward its port, `relay` says for whom it
    relays, `rendezvous` where first contacts are looked for.
    `withdraw` says whether a security release silences what it replaces. The
    `closure_` numbers say how much one command fetches without being asked for more.
    """

    home: Path
    listen: tuple[str, ...] = DEFAULT_LISTEN
    web: str = DEFAULT_WEB
    contacts: tuple[str, ...] = ()
    network: str = PUBLIC_NETWORK
    secret_file: Path | None = None
    encryption: bool = True
    weak_digests: bool = False
    lan: bool = True
    port_mapping: bool = True
    relay: Relay = "members"
    rendezvous: Rendezvous = "off"
    sharing: Sharing = "all"
    sharing_of: Mapping[str, Sharing] = field(default_factory=dict)
    withdraw: bool = True
    closure_packages: int = 1_000
    closure_bytes: int = 20 * 1024**3
    closure_depth: int = 100
    store_bytes: int | None = None
    upload_bytes_per_second: int | None = None
    download_bytes_per_second: int | None = None
    upstreams: Mapping[str, UpstreamSettings] = field(default_factory=dict)
    gateway: GatewaySettings = field(default_factory=GatewaySettings)
    site: SiteSettings = field(default_factory=SiteSettings)
    log_level: LogLevel = "info"
    log_format: LogFormat = "text"
