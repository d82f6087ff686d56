"""Write artifacts where `fetch -o` says, and destroy nothing on the way.

1. A regular file that is named itself is replaced atomically, and keeps its mode and
   owner. A symbolic link is followed first, as `cp` does; one that leads nowhere is
   refused.
2. A device or pipe is never replaced: bytes are written through it.
3. In a folder, names come from packages and indexes, not from the user. So a file that
   exists is overwritten only if `fetch` wrote it and it has not changed since, if it
   is the same file already, or with `force`. All names are checked before the first
   one is written, and a name that was free is taken without replacing what appears
   there meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import secrets
import select
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from node.errors import NodeError, clause
from node.model.written_files import WrittenFiles
from transfer import Artifact, Store, StoreError, TransferError

COPY_BYTES = 1024 * 1024
STALLED_SECONDS_MAX = 30.0
"""How long a pipe may take no bytes."""


@dataclass(frozen=True, slots=True)
class NamedArtifact:
    """An artifact that is held, and the plain file name that it has for people."""

    artifact: Artifact
    name: str


class OutputWriter:
    """Writes held artifacts outside the store."""

    def __init__(self, store: Store, written: WrittenFiles) -> None:
        self._store = store
        self._written = written

    async def is_file_name(self, output: str) -> bool:
        """Tell whether `output` names a file: no folder, and no slash at its end."""
        is_folder = output.endswith(os.sep) or await asyncio.to_thread(
            os.path.isdir, output
        )
        return not is_folder

    async def write_file(self, artifact: Artifact, target: Path) -> Path:
        """Write one artifact to the path that the user named; return it."""
        with _sentences(target):
            await asyncio.to_thread(self._write_named, artifact, target)
        return target

    async def folders_with(self, digests: Iterable[str]) -> list[Path]:
        """Return the folders in which files that `fetch` wrote still are."""
        paths = [path for one in digests for path in self._written.paths(one)]
        there = await asyncio.to_thread(lambda: [one for one in paths if one.is_file()])
        return sorted({path.parent for path in there})

    async def write_folder(
        self, files: Sequence[NamedArtifact], folder: Path, *, force: bool
    ) -> list[Path]:
        """Write artifacts below `folder` by their names; return their paths."""
        if await asyncio.to_thread(_is_file, folder):
            raise NodeError(f"{folder} is a file; expected a folder for several files")
        paths = [folder / name for name in _distinct_names(files)]
        artifacts = dict(zip(paths, (one.artifact for one in files), strict=True))
        before = self._written.digests(artifacts)
        with _sentences(folder):
            await asyncio.to_thread(
                self._write_all, artifacts, before=before, force=force
            )
        self._written.remember(
            {path: str(one.digest) for path, one in artifacts.items()}
        )
        return paths

    def _write_all(
        self,
        artifacts: Mapping[Path, Artifact],
        *,
        before: Mapping[Path, str],
        force: bool,
    ) -> None:
        for path in artifacts:
            _check_way(path)
        free = {path for path in artifacts if not os.path.lexists(path)}
        for path in artifacts.keys() - free:
            harmless = {before.get(path), str(artifacts[path].digest)}
            if not (force or _has_digest(path, harmless)):
                raise NodeError(
                    f"{path} exists, and `caravan fetch` did not write it; nothing was "
                    "written. Choose another folder, or overwrite it with --force"
                )
        for path, artifact in artifacts.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            if path in free:
                self._write_new(artifact, path)
            else:
                self._write_named(artifact, path)

    def _write_named(self, artifact: Artifact, target: Path) -> None:
        """Write to a path that may exist, whatever it is."""
        real = Path(os.path.realpath(target))
        try:
            found = real.stat()
        except FileNotFoundError:
            if target.is_symlink():
                raise NodeError(
                    f"{target} is a symbolic link to {real}, which does not exist"
                ) from None
            target.parent.mkdir(parents=True, exist_ok=True)
            self._write_new(artifact, target)
            return
        if stat.S_ISDIR(found.st_mode):
            raise NodeError(f"{target} is a folder; expected a file")
        if stat.S_ISREG(found.st_mode):
            self._replace(artifact, real, found)
        else:
            self._write_through(artifact, real)

    def _write_new(self, artifact: Artifact, target: Path) -> None:
        """Give a fresh copy the name `target`, unless that appeared meanwhile."""
        with self._fresh_copy(artifact, target) as fresh:
            try:
                os.link(fresh, target)
            except FileExistsError:
                raise
            except OSError:
                # A file system without hard links: the check above has to do.
                fresh.rename(target)

    def _replace(self, artifact: Artifact, target: Path, found: os.stat_result) -> None:
        with self._fresh_copy(artifact, target) as fresh:
            with contextlib.suppress(OSError):
                os.chown(fresh, found.st_uid, found.st_gid)
            fresh.chmod(stat.S_IMODE(found.st_mode))
            fresh.replace(target)

    @contextlib.contextmanager
    def _fresh_copy(self, artifact: Artifact, target: Path) -> Iterator[Path]:
        """Make a durable copy beside `target`; what is left of it is removed."""
        fresh = target.with_name(f".caravan-{secrets.token_hex(8)}.new")
        try:
            try:
                self._store.export(artifact, fresh)
            except StoreError as error:
                # The name that the user knows, not the one it has for a moment.
                raise NodeError(
                    clause(error).replace(str(fresh), str(target))
                ) from error
            yield fresh
        finally:
            fresh.unlink(missing_ok=True)

    def _write_through(self, artifact: Artifact, target: Path) -> None:
        """Write to a device or pipe as `cp` does, but wait for no pipe's reader."""
        source = self._store.open_checked(artifact)
        try:
            sink = os.open(target, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
            try:
                offset = 0
                while part := os.pread(source, COPY_BYTES, offset):
                    _write_fully(sink, part)
                    offset += len(part)
            finally:
                os.close(sink)
        finally:
            os.close(source)


def _check_way(path: Path) -> None:
    """Raise NodeError where a file stands for a folder, or a folder for the file."""
    if path.is_dir():
        raise NodeError(f"{path} is a folder; expected a file. Nothing was written")
    nearest = next(one for one in path.parents if os.path.lexists(one))
    if not nearest.is_dir():
        raise NodeError(f"{nearest} is no folder; expected one. Nothing was written")


def _write_fully(sink: int, part: bytes) -> None:
    view = memoryview(part)
    while view:
        try:
            view = view[os.write(sink, view) :]
        except BlockingIOError:
            waiting = select.poll()
            waiting.register(sink, select.POLLOUT)
            if not waiting.poll(STALLED_SECONDS_MAX * 1000):
                raise NodeError(
                    f"the reader of the pipe took nothing for {STALLED_SECONDS_MAX:.0f}"
                    " s"
                ) from None


def _is_file(path: Path) -> bool:
    return path.exists() and not path.is_dir()


def _has_digest(path: Path, digests: set[str | None]) -> bool:
    """Tell whether a regular file has one of these digests."""
    if path.is_symlink() or not path.is_file():
        return False
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    return f"sha256:{found}" in digests


def _distinct_names(files: Sequence[NamedArtifact]) -> list[str]:
    """Return a plain file name for each, its own or with a part of its digest."""
    names: list[str] = []
    owners: dict[str, str] = {}
    for one in files:
        digest = one.artifact.digest.hex
        name = one.name or digest
        if owners.setdefault(name.casefold(), digest) != digest:
            name = f"{digest[:12]}-{name}"
        names.append(name)
    return names


@contextlib.contextmanager
def _sentences(target: Path) -> Iterator[None]:
    """Turn what goes wrong while writing into one sentence."""
    try:
        yield
    except StoreError as error:
        raise NodeError(clause(error)) from error
    except TransferError as error:
        raise NodeError(f"cannot write to {target}: {error}") from error
    except OSError as error:
        where = error.filename or target
        raise NodeError(f"cannot write to {where}: {error.strerror}") from error
