"""What a node answers: one struct for each command of `node.commands`.

A result, encoded as JSON, is the document that `caravan --json` prints and that the API
returns, so a field that is renamed here changes the contract with scripts. Sizes are
bytes; spans are seconds; times of day are seconds since the epoch (UTC). Digests are
`sha256:<hex>`, node ids hex, addresses HOST:PORT.

No field is named like a method of `dict`: the command line reads results off their JSON
document by attribute, without loading this module (see `node.cli.answer`).
"""

from __future__ import annotations

import msgspec

from node.background import Failing
from node.doctor import Check
from transfer import LeecherStats, SeederStats


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What one command answers."""


class NodeDescription(Result, frozen=True, kw_only=True):
    """Who and where a node is; `site` is its site door, if that is open."""

    node_id: str
    address: str
    web: str
    site: str | None


class TransferStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What the transfer layer does and has done since the node started."""

    seeder: SeederStats
    leecher: LeecherStats


class SourceTraffic(msgspec.Struct, kw_only=True):
    """Files and bytes that package managers were given from one source."""

    files: int = 0
    bytes: int = 0


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


class PeerEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A contact in the routing table."""

    node_id: str
    address: str
    rtt_ms: float | None
    age_seconds: float


class PeersResult(Result, frozen=True, kw_only=True):
    """The contacts of the node."""

    contacts: list[PeerEntry]
    reachability: Reachability | None = None


class InviteResult(Result, frozen=True, kw_only=True):
    """A line that joins, and until when it is taken."""

    invitation: str
    expires: int


class MeetResult(Result, frozen=True, kw_only=True):
    """How many of the contacts answered; the node goes on trying the others."""

    asked: int
    answered: int


class DoctorResult(Result, frozen=True, kw_only=True):
    """What may be wrong around the node."""

    checks: list[Check]
    reachability: Reachability | None = None


class ProviderEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A node that offers a digest, and how it is reached (see `Reachability`)."""

    node_id: str
    address: str
    reach: str = "unknown"


class LookupResult(Result, frozen=True, kw_only=True):
    """Who offers a digest, and what finding them cost."""

    digest: str
    providers: list[ProviderEntry]
    seconds: float
    requests: int


class SharedArtifact(msgspec.Struct, frozen=True, kw_only=True):
    """A file that is offered now; `file` is a path, or a name where none is known."""

    file: str
    digest: str
    size: int


class ShareResult(Result, frozen=True, kw_only=True):
    """What was copied and is offered; `folder` is the digest of a folder's list."""

    artifacts: list[SharedArtifact]
    folder: str | None = None


class UnshareResult(Result, frozen=True, kw_only=True):
    """What is not offered any more, and whether it left the store."""

    artifacts: list[SharedArtifact]
    removed: bool


class SourceEntry(msgspec.Struct, frozen=True, kw_only=True):
    """Where bytes came from: a peer's address, or the URL of an origin."""

    address: str
    bytes: int


class FetchedArtifact(msgspec.Struct, frozen=True, kw_only=True):
    """A file that is here now; without sources it was here before."""

    digest: str
    file: str
    size: int
    path: str
    seconds: float
    sources: list[SourceEntry]


class FetchResult(Result, frozen=True, kw_only=True):
    """What was asked for, first, then all that it needs."""

    artifacts: list[FetchedArtifact]


class LockedFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file that a lockfile names."""

    name: str
    version: str
    file: str
    digest: str


class PrefetchedFile(LockedFile, frozen=True, kw_only=True):
    """A locked file that is here now."""

    size: int
    path: str
    seconds: float
    sources: list[SourceEntry]


class MissingFile(LockedFile, frozen=True, kw_only=True):
    """A locked file that could not be had, and why."""

    error: str


class LeftOutEntry(msgspec.Struct, frozen=True, kw_only=True):
    """What a lockfile names without a digest, and why it was left out."""

    name: str
    version: str
    why: str


class PrefetchResult(Result, frozen=True, kw_only=True):
    """What a lockfile names, as far as it could be had."""

    artifacts: list[PrefetchedFile]
    missing: list[MissingFile]
    left_out: list[LeftOutEntry]


class SurveyedFile(LockedFile, frozen=True, kw_only=True):
    """Where a locked file can be had: "held", "peers", "origin" or "nowhere"."""

    state: str
    peers: int


class SurveyResult(Result, frozen=True, kw_only=True):
    """Where what a lockfile names can be had."""

    entries: list[SurveyedFile]
    counts: dict[str, int]
    left_out: list[LeftOutEntry]


class AdoptResult(Result, frozen=True, kw_only=True):
    """Which files on this machine's disk are offered now, of how many."""

    artifacts: list[SharedArtifact]
    looked_at: int


class OriginsResult(Result, frozen=True, kw_only=True):
    """The URLs at upstreams for paths of the gateway; "" where it is not known."""

    urls: list[str]


class PublishResult(Result, frozen=True, kw_only=True):
    """A new release: its package file, and how far its alert got."""

    package: str
    package_file: str
    publisher: str
    name: str
    version: str
    sequence: int
    replaces: int
    holders: int
    followers: int
    audience: int
    alerted: int
    unreachable: int


class DelegateResult(Result, frozen=True, kw_only=True):
    """A delegation that the network knows now; `stored` counts its keepers."""

    publisher: str
    epoch: int
    stored: int
    signed_anew: list[str]


class EpochResult(Result, frozen=True, kw_only=True):
    """The highest epoch known of a publisher; 0 where it has never delegated."""

    publisher: str
    epoch: int


class BroadcastResult(Result, frozen=True, kw_only=True):
    """How far an alert got."""

    name: str
    version: str
    holders: int
    followers: int
    audience: int
    alerted: int
    unreachable: int


class FollowResult(Result, frozen=True, kw_only=True):
    """A name that is followed now, and its newest version if one is known."""

    publisher: str
    name: str
    auto: str
    nickname: str | None
    newest: str | None


class FollowEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A name that is followed; `newest` is the newest version known of it."""

    publisher: str
    nickname: str | None
    name: str
    auto: str
    newest: str | None


class FollowsResult(Result, frozen=True, kw_only=True):
    """What is followed."""

    follows: list[FollowEntry]


class UnfollowResult(Result, frozen=True, kw_only=True):
    """A name that is not followed any more."""

    publisher: str
    name: str


class UpdateEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A release that is newer than what is held; `digest` is its package file's."""

    publisher: str
    nickname: str | None = None
    name: str
    held: str | None
    newest: str
    urgency: str
    note: str
    digest: str
    confirmed: int
    confirmed_at: int
    paths: list[str] = []
    """Where its files were written, if they were."""


class DoubtEntry(msgspec.Struct, frozen=True, kw_only=True):
    """Why the newest release of a name may not be the newest, or not be right."""

    publisher: str
    nickname: str | None = None
    name: str
    why: str
    id: str


class ReplacedDependencyEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A package in the cache that depends on what a security release replaced.

    The package keeps working. `package`, `dependency` and `replaced_by_digest` are
    digests; the last one is of the package file of the release.
    """

    publisher: str
    name: str
    version: str
    package: str
    dependency: str
    dependency_name: str
    replaced_by: str
    replaced_by_publisher: str
    replaced_by_digest: str
    note: str


class AuditFinding(msgspec.Struct, frozen=True, kw_only=True):
    """A file that a security release replaced; `given` if peers may still have it.

    `advisory` is the digest of the release's package file, and `fixed` its version.
    """

    digest: str
    file: str
    purl: str
    advisory: str
    publisher: str
    name: str
    fixed: str
    note: str
    held: bool
    given: bool


class AuditResult(Result, frozen=True, kw_only=True):
    """What security releases replaced of what is held, or of what a lockfile names."""

    found: list[AuditFinding]
    dependents: list[ReplacedDependencyEntry]


class UpdatesResult(Result, frozen=True, kw_only=True):
    """What is new among the names that are held or followed."""

    updates: list[UpdateEntry]
    applied: bool
    doubts: list[DoubtEntry]
    dependents: list[ReplacedDependencyEntry] = []
    """Packages in the cache whose dependencies were replaced by security releases."""


class HeldArtifact(msgspec.Struct, frozen=True, kw_only=True):
    """A file in the cache; `file` is its name, "" where none is known."""

    digest: str
    size: int
    file: str
    kind: str
    packages: list[str]
    pinned: bool
    private: bool = False
    """Kept on disk, and offered to nobody."""
    added_at: float


class HeldPackage(msgspec.Struct, frozen=True, kw_only=True):
    """A package in the cache, with the digests of its files and dependencies."""

    digest: str
    publisher: str
    name: str
    version: str
    own: bool
    pinned: bool
    artifacts: list[str]
    dependencies: list[str]


class ListResult(Result, frozen=True, kw_only=True):
    """What the cache holds."""

    artifacts: list[HeldArtifact]
    packages: list[HeldPackage]
    count: int
    bytes_held: int


class PinResult(Result, frozen=True, kw_only=True):
    """What is pinned now."""

    pinned: list[str]


class UnpinResult(Result, frozen=True, kw_only=True):
    """What is not pinned any more."""

    unpinned: list[str]


class RemovedArtifact(msgspec.Struct, frozen=True, kw_only=True):
    """A file that left the cache; `file` is its name, "" where none is known."""

    digest: str
    size: int
    file: str


class CleanResult(Result, frozen=True, kw_only=True):
    """What left the cache, or would leave it, and what is left.

    `removed` and `kept` count files, `bytes` is freed; `count`, `bytes_freed` and
    `bytes_held` are their names of version 0.1.
    """

    artifacts: list[RemovedArtifact]
    removed: int
    bytes: int
    kept: int
    count: int
    bytes_freed: int
    bytes_held: int
    dry_run: bool


class VerifiedArtifact(msgspec.Struct, frozen=True, kw_only=True):
    """A file that was hashed again; one that is not sound was set aside."""

    digest: str
    size: int
    sound: bool


class VerifyResult(Result, frozen=True, kw_only=True):
    """What was hashed again."""

    artifacts: list[VerifiedArtifact]
    count: int
    damaged: int
    bytes_checked: int


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


class TransferEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A file on its way; `total` is null until its size is known."""

    direction: str
    digest: str
    done: int
    total: int | None
    peers: list[SourceEntry]


class TransfersResult(Result, frozen=True, kw_only=True):
    """What is under way, in bytes."""

    transfers: list[TransferEntry]


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
