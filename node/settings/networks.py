"""Private networks: who shares the secret can find and talk to each other.

A network's secret is 32 random bytes in `networks/NAME.secret` of the home folder,
readable by its owner only. It is made once and carried to the other members by hand;
there are no passphrases. For chats and the variables of a CI system it has a text form:
`caravan-secret-1-` and base64url of the name (a length and ASCII), the secret and four
bytes of SHA-256 over both, which find a slip of copying.
"""

from __future__ import annotations

import base64
import hashlib
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
TEXT_PREFIX = "caravan-secret-1-"
TEXT_BYTES_MAX = 512
CHECKSUM_BYTES = 4
_TEXT_PURPOSE = b"caravan secret text 1"

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
    secret = load_secret(path, settings.network)
    # Kept, so that the next start needs no flag.
    save_secret(settings.home, settings.network, secret)
    return Network(settings.network, secret)


def save_secret(home: Path, name: str, secret: bytes) -> Path:
    """Keep the secret of a network, readable by the owner only; returns its file.

    A secret that is there already is never replaced: NodeError where it differs.
    """
    path = secret_path(home, name)
    try:
        write_secret(path, secret)
    except FileExistsError:
        if load_secret(path, name) != secret:
            raise NodeError(
                f"{path} holds another secret: there are two networks called "
                f"{name!r}; join this one with another --home"
            ) from None
    except OSError as error:
        raise NodeError(f"cannot write {path}: {error.strerror}") from error
    return path


def secret_text(name: str, secret: bytes) -> str:
    """Return the text form of a network's secret, one line."""
    body = bytes([len(name)]) + name.encode("ascii") + secret
    packed = body + _checksum(body)
    return TEXT_PREFIX + base64.urlsafe_b64encode(packed).rstrip(b"=").decode()


def read_secret_text(text: str) -> tuple[str, bytes]:
    """Return the name and the secret of a text form; UsageError if it is none."""
    line = text.strip()
    try:
        encoded = line.removeprefix(TEXT_PREFIX)
        packed = base64.b64decode(
            encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True
        )
        body = packed[:-CHECKSUM_BYTES]
        name, secret = body[1 : 1 + body[0]].decode("ascii"), body[1 + body[0] :]
    except (ValueError, IndexError):
        name, secret = "", b""
    if len(secret) != SECRET_BYTES or secret_text(name, secret) != line:
        raise UsageError(
            "this network secret is incomplete or was changed; copy the whole line "
            f"again, from {TEXT_PREFIX} on"
        )
    return check_name(name), secret


def load_secret(path: Path, name: str | None = None) -> bytes:
    """Read a network's secret, 32 bytes or its text; NodeError names the file and why.

    Where `name` is given, a text form must be of that network.
    """
    try:
        with path.open("rb") as file:
            secret = file.read(TEXT_BYTES_MAX)
            mode = path.stat().st_mode
    except OSError as error:
        raise NodeError(
            f"cannot read the network's secret {path}: {error.strerror}"
        ) from error
    if secret.startswith(TEXT_PREFIX.encode()):
        of, secret = read_secret_text(secret.decode("ascii", "replace"))
        if name is not None and of != name:
            raise NodeError(f"{path} is the secret of the network {of!r}, not {name!r}")
    if len(secret) != SECRET_BYTES:
        raise NodeError(
            f"{path} is no network secret: one is exactly {SECRET_BYTES} bytes, "
            "as `caravan network new NAME` writes it, or the line that "
            "`caravan network secret NAME` prints"
        )
    if mode & _OTHERS:
        _log.warning("others can read %s; `chmod 600` keeps it secret", path)
    return secret


def _checksum(body: bytes) -> bytes:
    return hashlib.sha256(_TEXT_PURPOSE + body).digest()[:CHECKSUM_BYTES]
