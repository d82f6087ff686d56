"""opam files, read as lockfiles: the archives that they name."""

from __future__ import annotations

from node.gateway.locked import Locked, LockEntry
from node.gateway.opam.opam_file import archives_in


def read_opam_file(text: str) -> Locked:
    """Read the archives of an opam file, or of a locked one."""
    locked = Locked()
    for archive in archives_in(text):
        if archive.digests:
            locked.add(
                LockEntry("opam", archive.file, "", archive.digests, archive.file)
            )
        else:
            locked.skip(archive.file, "", "it has no checksum")
    return locked
