"""The node's folder: one node in each, and the file that says where it answers."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from node.errors import NodeError
from node.local_socket import SOCKET_FILE


def home_folder(flag: Path | None, environ: Mapping[str, str] = os.environ) -> Path:
    """Return the node's folder, absolute: flag, `CARAVAN_HOME`, or the platform's."""
    if flag is not None:
        return absolute(flag)
    if from_environment := environ.get("CARAVAN_HOME"):
        return absolute(from_environment)
    import platformdirs  # here: only this branch needs it, and it takes its time

    return Path(platformdirs.user_data_dir("caravan", appauthor=False))


def absolute(path: str | Path) -> Path:
    """Return an absolute path; `~` is a home folder, symbolic links stay."""
    return Path(os.path.abspath(os.path.expanduser(path)))  # noqa: PTH100, PTH111


class Home:
    """`$CARAVAN_HOME`, locked for as long as the node runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock: int | None = None

    def __enter__(self) -> Self:
        self.lock()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.unlock()

    def lock(self) -> None:
        """Take the folder; NodeError if it cannot be used or another node has it."""
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(
                self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
            )
        except OSError as error:
            raise NodeError(
                f"cannot use the folder {self.folder}: {error.strerror}"
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            raise NodeError(
                f"another node is running on {self.folder}; stop it with "
                "`caravan leave`, or choose another folder with --home"
            ) from error
        self._lock = descriptor

    def unlock(self) -> None:
        """Give the folder back and forget where the node answered."""
        if self._lock is not None:
            self._card.unlink(missing_ok=True)
            (self.folder / SOCKET_FILE).unlink(missing_ok=True)
            os.close(self._lock)
            self._lock = None

    def write_card(self, card: dict[str, Any]) -> None:
        """Write node.json, which only the owner can read: it holds the API's token."""
        fresh = self.folder / f".node.json.{os.urandom(8).hex()}"
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(card, file, indent=1)
        fresh.replace(self._card)

    @property
    def _card(self) -> Path:
        return self.folder / "node.json"
