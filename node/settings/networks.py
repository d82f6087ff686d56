"""Private networks: who shares the secret can find and talk to each other.

A network's secret is 32 random bytes in `networks/NAME.secret` of the home folder,
readable by its owner only. It is made once and carried to the other members by hand;
there are no passphrases.
"""

from __future__ import annotations

import logging
import re
import secrets
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from node.errors import NodeError, UsageError
from node.model.keyfiles import write_secret
from node.settings import PUBLIC_NETWORK

if TYPE_CHECKING:
    from pathlib import Path

    from dht import Network
    from node.settings import Settings

SECRET_BYTES = 32
NAME_CHARACTERS_MAX = 64

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
_SUFFIX = ".secret"
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PrivateNetwork:
    """A private network whose secret is held here."""

    name: str
    secret_file: Path


def check_name(name: str) -> str:
    """Return `name` if it can name a private network; UsageError says why not."""
    if name == PUBLIC_NETWORK:
        raise UsageError(
            f"{PUBLIC_NETWORK!r} is the public network; choose another name"
        )
    if len(name) > NAME_CHARACTERS_MAX or _NAME.fullmatch(name) is None:
        raise UsageError(
            f"{name!r} cannot name a network: use up to {NAME_CHARACTERS_MAX} of "
            "a-z, 0-9, '.', '_' and '-', beginning with a letter or digit"
        )
    return name


def secret_path(home: Path, name: str) -> Path:
    """Return where the secret of the network `name` is kept."""
    return home / "networks" / f"{check_name(name)}{_SUFFIX}"


def new_network(home: Path, name: str) -> PrivateNetwork:
    """Make the secret of a new private network; an existing one is never replaced."""
    path = secret_path(home, name)
    try:
        write_secret(path, secrets.token_bytes(SECRET_BYTES))
    except FileExistsError as error:
        raise NodeError(
            f"there is a network {name!r} already; its secret was kept"
        ) from error
    except OSError as error:
        raise NodeError(f"cannot write {path}: {error.strerror}") from error
    return PrivateNetwork(name, path)


def list_networks(home: Path) -> list[PrivateNetwork]:
    """Return the private networks whose secret is in this home, by name."""
    folder = home / "networks"
    return [
        PrivateNetwork(path.stem, path)
        for path in sorted(folder.glob(f"*{_SUFFIX}"))
        if _NAME.fullmatch(path.stem) is not None
    ]


def load_network(settings: Settings) -> Network:
    """Return the network that `settings` name, with its secret if it is private."""
    from dht import Network

    if settings.network == PUBLIC_NETWORK:
        return Network(settings.network)
    path = settings.secret_file or secret_path(settings.home, settings.network)
    return Network(settings.network, load_secret(path))


def load_secret(path: Path) -> bytes:
    """Read the 32 bytes of a network's secret; NodeError names the file and why."""
    try:
        with path.open("rb") as file:
            secret = file.read(SECRET_BYTES + 1)
            mode = path.stat().st_mode
    except OSError as error:
        raise NodeError(
            f"cannot read the network's secret {path}: {error.strerror}"
        ) from error
    if len(secret) != SECRET_BYTES:
        raise NodeError(
            f"{path} is no network secret: one is exactly {SECRET_BYTES} bytes, "
            "as `caravan network new NAME` writes it"
        )
    if mode & _OTHERS:
        _log.warning("others can read %s; `chmod 600` keeps it secret", path)
    return secret
