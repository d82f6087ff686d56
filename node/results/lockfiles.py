"""What a lockfile names: where it can be had, and what was fetched of it."""

from __future__ import annotations

import msgspec

from node.results.content import SharedArtifact, SourceEntry
from node.results.result import Result


class LockedFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file that a lockfile names."""

    name: str
    version: str
    file: str
    digest: str


class LeftOutEntry(msgspec.Struct, frozen=True, kw_only=True):
    """What a lockfile names without a digest, and why it was left out."""

    name: str
    version: str
    why: str


class PrefetchedFile(LockedFile, frozen=True, kw_only=True):
    """A locked file that is here now."""

    size: int
    path: str
    seconds: float
    sources: list[SourceEntry]


class MissingFile(LockedFile, frozen=True, kw_only=True):
    """A locked file that could not be had, and why."""

    error: str


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
