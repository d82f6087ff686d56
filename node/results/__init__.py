"""What a node answers: one struct for each command of `node.commands`.

A result, encoded as JSON, is the document that `caravan --json` prints and that the API
returns, so a field that is renamed here changes the contract with scripts. Sizes are
bytes; spans are seconds; times of day are seconds since the epoch (UTC). Digests are
`sha256:<hex>`, node ids hex, addresses HOST:PORT.

No field is named like a method of `dict`: the command line reads results off their JSON
document by attribute, without loading this module (see `node.cli.answer`).
"""

from __future__ import annotations

from node.results.content import (
    FetchedArtifact,
    FetchResult,
    SharedArtifact,
    ShareResult,
    SourceEntry,
    TransferEntry,
    TransfersResult,
    UnshareResult,
)
from node.results.lockfiles import (
    AdoptResult,
    LeftOutEntry,
    LockedFile,
    MissingFile,
    OriginsResult,
    PrefetchedFile,
    PrefetchResult,
    SurveyedFile,
    SurveyResult,
)
from node.results.network import (
    InviteResult,
    LookupResult,
    MeetResult,
    PeerEntry,
    PeersResult,
    ProviderEntry,
)
from node.results.node import (
    DoctorResult,
    LeaveResult,
    LimitResult,
    LimitsStatus,
    NodeDescription,
    OpenResult,
    PlacementStatus,
    Reachability,
    ReadyResult,
    SourceTraffic,
    StatusResult,
    TrafficTotals,
    TransferStatus,
)
from node.results.releases import (
    AuditFinding,
    AuditResult,
    BroadcastResult,
    DelegateResult,
    DoubtEntry,
    EpochResult,
    FollowEntry,
    FollowResult,
    FollowsResult,
    PublishResult,
    ReplacedDependencyEntry,
    UnfollowResult,
    UpdateEntry,
    UpdatesResult,
)
from node.results.result import (
    Result,
)
from node.results.store import (
    CleanResult,
    HeldArtifact,
    HeldPackage,
    ListResult,
    PinResult,
    RemovedArtifact,
    UnpinResult,
    VerifiedArtifact,
    VerifyResult,
)

__all__ = [
    "AdoptResult",
    "AuditFinding",
    "AuditResult",
    "BroadcastResult",
    "CleanResult",
    "DelegateResult",
    "DoctorResult",
    "DoubtEntry",
    "EpochResult",
    "FetchResult",
    "FetchedArtifact",
    "FollowEntry",
    "FollowResult",
    "FollowsResult",
    "HeldArtifact",
    "HeldPackage",
    "InviteResult",
    "LeaveResult",
    "LeftOutEntry",
    "LimitResult",
    "LimitsStatus",
    "ListResult",
    "LockedFile",
    "LookupResult",
    "MeetResult",
    "MissingFile",
    "NodeDescription",
    "OpenResult",
    "OriginsResult",
    "PeerEntry",
    "PeersResult",
    "PinResult",
    "PlacementStatus",
    "PrefetchResult",
    "PrefetchedFile",
    "ProviderEntry",
    "PublishResult",
    "Reachability",
    "ReadyResult",
    "RemovedArtifact",
    "ReplacedDependencyEntry",
    "Result",
    "ShareResult",
    "SharedArtifact",
    "SourceEntry",
    "SourceTraffic",
    "StatusResult",
    "SurveyResult",
    "SurveyedFile",
    "TrafficTotals",
    "TransferEntry",
    "TransferStatus",
    "TransfersResult",
    "UnfollowResult",
    "UnpinResult",
    "UnshareResult",
    "UpdateEntry",
    "UpdatesResult",
    "VerifiedArtifact",
    "VerifyResult",
]
