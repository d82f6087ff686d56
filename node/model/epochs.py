"""The epochs that a root key has given to release keys: a file beside the keys.

The key file of a release key usually leaves the machine of its root key, so what was
given cannot be counted from the files that are there. Each line of
`publishers/PUBLISHER.epochs` is an epoch, the end of the delegation (seconds since
1970) and the name of the release key.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from node.errors import NodeError


@dataclass(frozen=True, slots=True)
class GivenEpoch:
    """An epoch, and the release key that it was given to."""

    epoch: int
    not_after: int
    name: str


class GivenEpochs:
    """What the root keys of one home have given."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def of(self, publisher: str) -> list[GivenEpoch]:
        """Return what was given for a publisher (its text), the oldest first."""
        try:
            lines = self._path(publisher).read_text("utf-8").splitlines()
        except FileNotFoundError:
            return []
        except (OSError, ValueError) as error:
            raise NodeError(f"cannot read {self._path(publisher)}: {error}") from error
        return [self._parsed(publisher, line) for line in lines if line]

    def add(self, publisher: str, given: GivenEpoch) -> None:
        """Remember, durably, what is about to be given."""
        path = self._path(publisher)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        line = f"{given.epoch} {given.not_after} {given.name}\n"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(descriptor, line.encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _parsed(self, publisher: str, line: str) -> GivenEpoch:
        try:
            epoch, not_after, name = line.split(" ", 2)
            return GivenEpoch(int(epoch), int(not_after), name)
        except ValueError:
            # A line that a crash cut off would otherwise hide an epoch for good.
            raise NodeError(
                f"{self._path(publisher)} has a damaged line ({line!r}): remove it, "
                "and give --epoch a number above all that were ever given"
            ) from None

    def _path(self, publisher: str) -> Path:
        return self._folder / f"{publisher}.epochs"
