"""A file that a page of an upstream names: where it is and what its digests are."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from transfer import Digest, DigestError

_STRENGTH = {"sha256": 0, "sha512": 1, "blake2b-256": 2, "sha1": 3, "md5": 4}


@dataclass(frozen=True, slots=True)
class NamedFile:
    """A file that a page of an upstream named."""

    upstream: str
    project: str
    file: str
    url: str
    digests: tuple[Digest, ...]
    """What the page says its digests are; never empty, the strongest first."""
    size: int | None = None

    @property
    def strong(self) -> Digest:
        """The digest that it is looked up and verified by."""
        return self.digests[0]


def strongest_first(digests: Iterable[Digest]) -> tuple[Digest, ...]:
    """Return digests in the order in which they are trusted."""
    return tuple(sorted(digests, key=lambda one: _STRENGTH.get(one.algorithm, 9)))


def parse_digests(texts: Iterable[str]) -> tuple[Digest, ...]:
    """Return the digests among `texts`, the strongest first; others are skipped."""
    found = set()
    for text in texts:
        try:
            found.add(Digest.parse(text))
        except DigestError:
            continue
    return strongest_first(found)
