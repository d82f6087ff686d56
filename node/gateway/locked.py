"""What a lockfile says: the files that it names, and what it left out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from node.gateway import limits
from transfer import Digest


@dataclass(frozen=True, slots=True)
class LockEntry:
    """One file that a lockfile names."""

    ecosystem: str
    name: str
    version: str
    digests: tuple[Digest, ...]
    """Of one and the same file, the strongest first; never empty."""
    file: str = ""
    size: int | None = None
    here: bool = True
    """False where the lockfile says that it is for another platform."""

    @property
    def digest(self) -> Digest:
        """The digest that it is looked up by."""
        return self.digests[0]


@dataclass(frozen=True, slots=True)
class LeftOut:
    """What a lockfile names without a digest that can be verified."""

    name: str
    version: str
    why: str


@dataclass(frozen=True, slots=True)
class Locked:
    """What a lockfile says."""

    files: list[LockEntry] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)

    def add(self, entry: LockEntry) -> None:
        """Take in a file; ValueError where there are too many."""
        self._check()
        self.files.append(entry)

    def _check(self) -> None:
        if len(self.files) + len(self.left_out) >= limits.LOCKFILE_LINES_MAX:
            raise ValueError(
                f"it names more than {limits.LOCKFILE_LINES_MAX:,} files; split it"
            )

    def skip(self, name: str, version: str, why: str) -> None:
        """Leave something out, and say why; ValueError where there are too many."""
        self._check()
        self.left_out.append(LeftOut(name, version, why))


LockfileReader = Callable[[str], Locked]
"""Reads a lockfile's text; raises ValueError, TypeError, KeyError or AttributeError."""
