"""Files on their way: shared, taken back, fetched, and under way."""

from __future__ import annotations

import msgspec

from node.results.result import Result


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
