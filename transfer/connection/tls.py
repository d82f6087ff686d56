"""Who a node is on a transfer connection: the TLS certificate of its node key.

The certificate is self-signed and the same at every start; nobody checks its
names or dates. What counts is its Ed25519 key: TLS 1.3 proves that the seeder
holds it, and the leecher compares it with the key that was promised.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import ssl
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.x509.oid import NameOID

from transfer.errors import IdentityError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_NOT_BEFORE = datetime.datetime(2008, 1, 1, tzinfo=datetime.UTC)
_NOT_AFTER = datetime.datetime(9999, 12, 31, 23, 59, 59, tzinfo=datetime.UTC)
_CERTIFICATE_BYTES_MAX = 2048


class Identity:
    """A node key with the TLS contexts for both ends of a connection."""

    def __init__(self, node_key: Ed25519PrivateKey) -> None:
        self.public_key = node_key.public_key().public_bytes_raw()
        self.seeder_context = _seeder_context(node_key)
        self.leecher_context = _leecher_context()


def certificate_key(certificate: bytes | None) -> bytes:
    """Return the Ed25519 key of a certificate in DER; raise IdentityError."""
    if certificate is None or len(certificate) > _CERTIFICATE_BYTES_MAX:
        raise IdentityError("The peer's certificate is missing or too long.")
    try:
        key = x509.load_der_x509_certificate(certificate).public_key()
    except Exception as error:  # the parser has no one family of errors
        raise IdentityError("The peer's certificate cannot be read.") from error
    if not isinstance(key, Ed25519PublicKey):
        raise IdentityError("The peer's certificate has no Ed25519 key.")
    return key.public_bytes_raw()


def _seeder_context(node_key: Ed25519PrivateKey) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.num_tickets = 0  # every connection proves the key anew
    pem = _certificate(node_key) + node_key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    with _as_file(pem) as path:
        context.load_cert_chain(path)
    return context


def _leecher_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # its key is compared after the handshake
    return context


def _certificate(node_key: Ed25519PrivateKey) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "caravan node")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(node_key.public_key())
        .serial_number(1)
        .not_valid_before(_NOT_BEFORE)
        .not_valid_after(_NOT_AFTER)
        .sign(node_key, None)
    )
    return certificate.public_bytes(serialization.Encoding.PEM)


@contextlib.contextmanager
def _as_file(data: bytes) -> Iterator[str]:
    """Give `data` a path for a moment: in memory where the system can.

    The ssl module reads keys from files only, and the node key should not
    touch a disk that it does not live on.
    """
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("caravan", os.MFD_CLOEXEC)
        try:
            os.write(descriptor, data)
            yield f"/proc/self/fd/{descriptor}"
        finally:
            os.close(descriptor)
        return
    descriptor, path = tempfile.mkstemp()
    try:
        os.write(descriptor, data)
        yield path
    finally:
        os.close(descriptor)
        Path(path).unlink()
