"""Releases: published, followed, and what is newer than what is held."""

from __future__ import annotations

import msgspec

from node.results.result import Result


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


class BroadcastResult(Result, frozen=True, kw_only=True):
    """How far an alert got."""

    name: str
    version: str
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


class UpdatesResult(Result, frozen=True, kw_only=True):
    """What is new among the names that are held or followed."""

    updates: list[UpdateEntry]
    applied: bool
    doubts: list[DoubtEntry]
    dependents: list[ReplacedDependencyEntry] = []
    """Packages in the cache whose dependencies were replaced by security releases."""


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
