"""Ed25519 private keys as files: PEM (PKCS #8, RFC 5958), readable by their owner only.

A key file is written to a fresh name, synced and then linked to its own name, so a
crash leaves either no key or a whole one, and an existing key is never replaced.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from node.errors import NodeError


def public_bytes(key: Ed25519PrivateKey) -> bytes:
    """Return the 32 bytes of the public half of `key`."""
    return key.public_key().public_bytes_raw()


def read_key(path: Path) -> Ed25519PrivateKey:
    """Read a private key; raises NodeError, naming the file, if that fails."""
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise NodeError(f"cannot read the key {path}: {error.strerror}") from error
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise NodeError(f"{path} is not an Ed25519 private key") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise NodeError(f"{path} is not an Ed25519 private key")
    return key


def write_secret(path: Path, content: bytes) -> None:
    """Write a file that only its owner can read; FileExistsError if it is there."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        path.hardlink_to(fresh)
    finally:
        fresh.unlink()
    _sync_folder(path.parent)


def new_key(path: Path) -> Ed25519PrivateKey:
    """Make a key and write it to `path`; FileExistsError if there is one."""
    key = Ed25519PrivateKey.generate()
    write_secret(
        path,
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )
    return key


def read_or_new_key(path: Path) -> Ed25519PrivateKey:
    """Read the key at `path`, made now if there is none."""
    return read_key(path) if path.exists() else new_key(path)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
