"""The node itself: who it is, what it does, and how well."""

from __future__ import annotations

import msgspec

from node.background import Failing
from node.doctor import Check
from node.results.result import Result
from transfer import LeecherStats, SeederStats


class NodeDescription(Result, frozen=True, kw_only=True):
    """Who and where a node is; `site` is its site door, if that is open."""

    node_id: str
    address: str
    web: str
    site: str | None


class ReadyResult(Result, frozen=True, kw_only=True):
    """A node that has just become ready; `listen` is where it was told to listen."""

    node_id: str
    address: str
    web: str
    site: str | None
    contacts: int
    listen: list[str]
    network: str
    store_bytes: int | None = None
    """How much the store keeps at most; said by the first start of a home."""


class SourceTraffic(msgspec.Struct, kw_only=True):
    """Files and bytes that package managers were given from one source."""

    files: int = 0
    bytes: int = 0


class TransferStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What the transfer layer does and has done since the node started."""

    seeder: SeederStats
    leecher: LeecherStats


class TrafficTotals(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes of artifacts sent to and received from peers, and saved to the origins.

    What is called "ever" counts all runs of this folder's nodes. Saved are the bytes
    for package managers that came from the store or from peers.
    """

    sent: int
    received: int
    sent_ever: int
    received_ever: int
    saved: int = 0
    saved_ever: int = 0
    gateway_ever: dict[str, SourceTraffic] = {}
    """What package managers were given over all runs, by its source."""


class LimitsStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The limits that are set; None where there is none.

    `full` says why something found no room, as long as that is so.
    """

    store_bytes: int | None
    full: str | None = None
    upload_bytes_per_second: int | None
    download_bytes_per_second: int | None


class Reachability(msgspec.Struct, frozen=True, kw_only=True):
    """How others reach this node, by their own word (see docs/reach.md).

    `udp` and `tcp` are "reachable", "mapped" (through a port that the router forwards),
    "punched", "relayed", "unreachable" or "unknown". `by` are the IP addresses whose
    word it is, `since` when it was found, `mapping` the protocol of the port mapping.
    """

    udp: str
    tcp: str
    since: float | None
    by: list[str]
    address: str | None
    mapping: str | None
    note: str


class PlacementStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How well others can find what the node offers; see `dht.PlacementReport`.

    Every artifact is offered under a key for each of its names. `placed` keys are
    stored by at least half of the nodes that should, `unplaced` ones by none.
    """

    offered: int
    placed: int
    unplaced: int
    oldest_seconds: float | None
    behind_seconds: float | None


class StatusResult(Result, frozen=True, kw_only=True):
    """What the node is and does."""

    node_id: str
    address: str
    web: str
    site: str | None
    contacts: int
    artifacts: int
    bytes_held: int
    downloads: int
    uploads: int
    transfer: TransferStatus
    dht: dict[str, int]
    gateway: dict[str, SourceTraffic] = {}
    """What package managers were given: "store", "peers" or "origin"."""
    reachability: Reachability | None = None
    placement: PlacementStatus | None = None
    failing: list[Failing] = []
    """The loops in the background whose last round failed, and is tried again."""
    version: str
    network: str
    home: str
    log: str
    uptime_seconds: float
    totals: TrafficTotals
    limits: LimitsStatus


class DoctorResult(Result, frozen=True, kw_only=True):
    """What may be wrong around the node."""

    checks: list[Check]
    reachability: Reachability | None = None


class LimitResult(Result, frozen=True, kw_only=True):
    """The rates that hold now, in bytes per second; None is no limit."""

    upload_bytes_per_second: int | None
    download_bytes_per_second: int | None


class OpenResult(Result, frozen=True, kw_only=True):
    """A link to the dashboard; it works once, within a minute."""

    url: str


class LeaveResult(Result, frozen=True, kw_only=True):
    """The node stops."""

    left: bool = True
