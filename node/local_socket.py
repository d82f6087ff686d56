"""The socket in the node's folder: the way to a node that nobody else can take.

A loopback port is no identity: after a crash any user of the machine can listen there.
The folder belongs to its owner (0700), the socket to its owner as well (0600), and the
command line asks the kernel who listens before it sends a token or a passphrase.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from node.errors import NodeError

SOCKET_FILE = "node.sock"
BACKLOG = 64
_PATH_BYTES_MAX = 107  # of sun_path, with its final zero (man 7 unix)
_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid


class NotOwnerError(OSError):
    """Another user listens on the socket of this folder."""


def listen_local(home: Path) -> socket.socket:
    """Listen on the socket in `home`, whose lock the caller holds; raise NodeError."""
    path = home / SOCKET_FILE
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path.unlink(missing_ok=True)  # left behind by a node that was killed
        # Linux takes the mode of the file from the socket: 0600 from its first moment.
        os.fchmod(made.fileno(), 0o600)
        with _short(path) as name:
            made.bind(name)
        path.chmod(0o600)
        made.listen(BACKLOG)
    except OSError as error:
        made.close()
        raise NodeError(f"cannot listen on {path}: {error.strerror}") from error
    return made


def connect_local(home: Path, seconds: float) -> socket.socket:
    """Connect to the node of `home`, and see that its owner runs it.

    Raise OSError where nobody listens, NotOwnerError where another user does.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(seconds)
        with _short(home / SOCKET_FILE) as name:
            connection.connect(name)
        _check_user(connection, home)
    except BaseException:
        connection.close()
        raise
    return connection


def _check_user(connection: socket.socket, home: Path) -> None:
    """Raise NotOwnerError unless root, this user or the folder's owner listens."""
    peer = _user_of(connection)
    if peer is not None and peer not in (0, os.getuid(), home.stat().st_uid):
        raise NotOwnerError(f"user {peer} listens on {home / SOCKET_FILE}")


def _user_of(connection: socket.socket) -> int | None:
    """Return the user id at the other end; None where the system does not tell."""
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None:
        return None
    size = _CREDENTIALS.size
    credentials = connection.getsockopt(socket.SOL_SOCKET, option, size)
    return int(_CREDENTIALS.unpack(credentials)[1])


@contextmanager
def _short(path: Path) -> Iterator[str]:
    """Give a name for `path` that fits into a socket address."""
    if len(os.fsencode(path)) <= _PATH_BYTES_MAX:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
