"""What the node keeps: listed, pinned, removed and hashed again."""

from __future__ import annotations

import msgspec

from node.results.result import Result


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
