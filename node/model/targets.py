"""What people name on the command line, read into one of four kinds of target."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from node.errors import UsageError, clause
from node.model.catalogue import Catalogue
from node.model.keys import PUBLISHER_CHARACTERS, parse_publisher
from node.model.names import is_name, is_version
from node.model.packages import SUFFIX
from node.model.paths import path_of
from node.model.trust_store import TrustStore
from transfer import Digest, DigestError


@dataclass(frozen=True, slots=True)
class DigestTarget:
    """Content, by its digest."""

    digest: Digest


@dataclass(frozen=True, slots=True)
class FileTarget:
    """A package file on this machine."""

    path: Path


@dataclass(frozen=True, slots=True)
class NameTarget:
    """A publisher's name; `version` None means the newest."""

    publisher: bytes
    name: str
    version: str | None = None


Target = DigestTarget | FileTarget | NameTarget

_SHORT_DIGEST = re.compile(r"(?:sha256:)?([0-9a-f]{12,63})")


def parse_target(text: str, catalogue: Catalogue, trust_store: TrustStore) -> Target:
    """Read a target; UsageError says which forms are read."""
    if text.endswith(SUFFIX):
        return FileTarget(path_of(text))
    try:
        return DigestTarget(parse_digest(text, catalogue))
    except DigestError as error:
        reason = clause(error)
    head, slash, rest = text.partition("/")
    publisher = _publisher(head, trust_store) if slash else None
    if publisher is not None:
        name, version = _split_version(rest)
        return NameTarget(publisher, name, version)
    if not _looks_like_digest(text) and is_name(_split_version(text)[0]):
        return _followed(text, catalogue, trust_store)
    raise UsageError(reason)


def parse_digest(text: str, catalogue: Catalogue) -> Digest:
    """Read a digest, or the first digits of one that is known here.

    Raise DigestError for anything else, UsageError where several begin so.
    """
    short = _SHORT_DIGEST.fullmatch(text)
    found = catalogue.digests_starting(f"sha256:{short[1]}") if short else []
    try:
        return Digest.parse(text)
    except DigestError:
        if len(found) == 1:
            return Digest.parse(found[0])
        if found:
            raise UsageError(
                f"{len(found)} digests begin with {text}: give more digits"
            ) from None
        raise


def parse_followed(text: str, trust_store: TrustStore) -> tuple[bytes, str]:
    """Read PUBLISHER/NAME; UsageError if it is anything else."""
    head, slash, name = text.partition("/")
    publisher = trust_store.publisher_of(head) if slash else None
    if slash and publisher is None:
        publisher = parse_publisher(head)
    if publisher is None or not is_name(name):
        raise UsageError(f"{text!r} is not PUBLISHER/NAME")
    return publisher, name


def _publisher(head: str, trust_store: TrustStore) -> bytes | None:
    nickname = trust_store.publisher_of(head)
    if nickname is not None:
        return nickname
    return parse_publisher(head) if len(head) == PUBLISHER_CHARACTERS else None


def _split_version(text: str) -> tuple[str, str | None]:
    """Split NAME@VERSION; the "@" that opens a scope belongs to the name."""
    name, at, version = text.rpartition("@")
    if not at or not name:
        name, version = text, ""
    if not is_name(name) or (version and not is_version(version)):
        raise UsageError(f"{text!r} is not NAME or NAME@VERSION")
    return name, version or None


def _looks_like_digest(text: str) -> bool:
    algorithm = text.partition(":")[0].partition("=")[0].partition("-")[0]
    bare = len(text) in (32, 40, 64, 128)
    hexadecimal = all(character in "0123456789abcdefABCDEF" for character in text)
    return algorithm in ("sha256", "sha512", "sha1", "md5", "ni") or (
        bare and hexadecimal
    )


def _followed(text: str, catalogue: Catalogue, trust_store: TrustStore) -> NameTarget:
    name, version = _split_version(text)
    publishers = {row.publisher for row in trust_store.follows() if row.name == name}
    publishers |= {owner for owner, held in catalogue.held_names() if held == name}
    if len(publishers) == 1:
        return NameTarget(publishers.pop(), name, version)
    if publishers:
        raise UsageError(
            f"{len(publishers)} publishers are known for {name!r}; say PUBLISHER/NAME"
        )
    raise UsageError(
        f"{text!r} is neither a digest, a {SUFFIX} file, PUBLISHER/NAME[@VERSION] "
        "nor a name that is followed here"
    )
