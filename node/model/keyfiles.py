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

ENCRYPTED_MARK = b"ENCRYPTED PRIVATE KEY"


def public_bytes(key: Ed25519PrivateKey) -> bytes:
    """Return the 32 bytes of the public half of `key`."""
    return key.public_key().public_bytes_raw()


def to_pem(key: Ed25519PrivateKey, passphrase: str = "") -> bytes:
    """Return `key` as PEM, encrypted where a passphrase is given."""
    encryption: serialization.KeySerializationEncryption
    encryption = serialization.NoEncryption()
    if passphrase:
        encryption = serialization.BestAvailableEncryption(passphrase.encode())
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
    )


def from_pem(content: bytes, source: object, passphrase: str = "") -> Ed25519PrivateKey:
    """Read a key from PEM; NodeError names `source` and says what is wrong."""
    encrypted = ENCRYPTED_MARK in content
    if encrypted and not passphrase:
        raise NodeError(f"the key {source} is encrypted: its passphrase is needed")
    password = passphrase.encode() if encrypted else None
    try:
        key = serialization.load_pem_private_key(content, password)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        if encrypted:
            raise NodeError(f"this is not the passphrase of {source}") from error
        raise NodeError(f"{source} is not an Ed25519 private key") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise NodeError(f"{source} is not an Ed25519 private key")
    return key


def read_file(path: Path) -> bytes:
    """Read a key file; NodeError names it if that fails."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise NodeError(f"cannot read the key {path}: {error.strerror}") from error


def read_or_new_key(path: Path) -> Ed25519PrivateKey:
    """Read the key at `path`, made now if there is none."""
    if path.exists():
        return from_pem(read_file(path), path)
    key = Ed25519PrivateKey.generate()
    write_secret(path, to_pem(key))
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


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
