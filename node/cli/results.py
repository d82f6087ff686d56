"""What the commands answer that ask no node: keys, networks, package files, tools.

Like the structs of `node.results`, encoded as JSON they are what `--json` prints.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from node.model.packages import ArtifactEntry, Dependency


class KeyNewResult(msgspec.Struct, frozen=True, kw_only=True):
    """A publisher key that was made."""

    name: str
    publisher: str
    encrypted: bool


class KeyEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A publisher key; an encrypted root key hides its publisher.

    `kind` is "root" or "release"; a release key has an epoch and an end.
    """

    name: str
    publisher: str | None
    kind: str
    encrypted: bool
    epoch: int | None
    ends: float | None


class KeyShowResult(msgspec.Struct, frozen=True, kw_only=True):
    """The publisher keys of this user; `publisher` is that of the one asked for."""

    publisher: str | None
    keys: list[KeyEntry]


class KeyDelegateResult(msgspec.Struct, frozen=True, kw_only=True):
    """A release key; `stored` counts the nodes that know it, None if none was asked."""

    name: str
    publisher: str
    epoch: int
    ends: float
    stored: int | None
    revokes: list[str]
    """Release keys made here whose epochs end with it."""


class KeyExportResult(msgspec.Struct, frozen=True, kw_only=True):
    """A private key as PEM text."""

    name: str
    publisher: str | None
    private_key: str


class KeyImportResult(msgspec.Struct, frozen=True, kw_only=True):
    """A publisher key that was imported."""

    name: str
    publisher: str


class NetworkEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A private network and the file of its secret."""

    network: str
    secret_file: str


class NetworkSecretResult(msgspec.Struct, frozen=True, kw_only=True):
    """A private network and its secret as text."""

    network: str
    secret: str


class NetworkLeaveResult(msgspec.Struct, frozen=True, kw_only=True):
    """The network that was left; counts of files."""

    network: str
    kept_private: int
    offered: int


class NetworkListResult(msgspec.Struct, frozen=True, kw_only=True):
    """The private networks whose secret is here."""

    networks: list[NetworkEntry]


class ConnectResult(msgspec.Struct, frozen=True, kw_only=True):
    """The lines that point a package manager at this node, and where they belong."""

    tool: str
    file: str
    lines: str
    environment: dict[str, str]
    """Variables that do the same as the lines."""
    if_down: str
    notes: list[str]
    written: bool
    undone: bool


class ShowResult(msgspec.Struct, frozen=True, kw_only=True):
    """What a package file says; `signed_by` is "root" or "release"."""

    digest: str
    format: int
    publisher: str
    name: str
    version: str
    epoch: int
    sequence: int
    issued: str
    artifacts: list[ArtifactEntry]
    dependencies: list[Dependency]
    replaces: list[str]
    previous: str
    urgency: str
    note: str
    license: str
    home_page: str
    signed_by: str
