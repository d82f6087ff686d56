"""Invitations: one line with all that another machine needs to join a network.

The line is `caravan-invitation-1-` and base64url of: an expiry in Unix seconds (4
bytes), the network's name (a length and UTF-8), its secret (a length, 0 or 32, and the
bytes), up to five contacts (each a node key, 4 or 6, an IP address and a port), and
four bytes of SHA-256 over all of it, which find a slip of copying. Numbers are big
endian.

The line of a private network holds its secret: anyone with the line is a member. The
expiry bounds for how long `caravan join` takes the line, and not the secret itself,
which is as old as the network.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import ipaddress
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dht import Address, Contact
from node.errors import RefusedError, UsageError
from node.settings import PUBLIC_NETWORK
from node.settings.networks import check_name, save_secret
from node.settings.remembered import check_network

if TYPE_CHECKING:
    from pathlib import Path

PREFIX = "caravan-invitation-1-"
CONTACTS_MAX = 5
LINE_CHARACTERS_MAX = 1024
_SECRET_BYTES = 32
_KEY_BYTES = 32
_CHECKSUM_BYTES = 4
_PURPOSE = b"caravan invitation 1"


@dataclass(frozen=True, slots=True)
class Invitation:
    """What an invitation says."""

    network: str
    secret: bytes | None
    expires: int
    """Unix seconds."""
    contacts: tuple[Contact, ...]

    @property
    def line(self) -> str:
        """The invitation as one line of text."""
        name, secret = self.network.encode(), self.secret or b""
        body = (
            struct.pack("!IB", self.expires, len(name))
            + name
            + bytes([len(secret)])
            + secret
            + bytes([len(self.contacts)])
            + b"".join(contact.packed for contact in self.contacts)
        )
        packed = body + _checksum(body)
        return PREFIX + base64.urlsafe_b64encode(packed).rstrip(b"=").decode()


def read_invitation(text: str, now: float) -> Invitation:
    """Read an invitation; UsageError if it is none, RefusedError if it has ended."""
    line = text.strip()
    if not line.startswith(PREFIX):
        raise UsageError(
            "this invitation is of another version of Caravan; ask for a new one"
        )
    if len(line) > LINE_CHARACTERS_MAX:
        raise _broken()
    encoded = line.removeprefix(PREFIX)
    try:
        packed = base64.b64decode(
            encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True
        )
        invitation = _unpack(packed)
    except (binascii.Error, ValueError, struct.error, IndexError) as error:
        raise _broken() from error
    if invitation.line != line:
        raise _broken()
    if now >= invitation.expires:
        raise RefusedError("this invitation has expired; ask for a new one")
    return invitation


def accept(home: Path, invitation: Invitation) -> None:
    """Keep the secret of an invitation, readable by the owner only.

    A secret that is there already is never replaced: NodeError where it differs.
    """
    check_network(home, invitation.network)
    if invitation.secret is None:
        return
    save_secret(home, invitation.network, invitation.secret)


def _unpack(packed: bytes) -> Invitation:
    body, checksum = packed[:-_CHECKSUM_BYTES], packed[-_CHECKSUM_BYTES:]
    if checksum != _checksum(body):
        raise ValueError("checksum")
    expires, length = struct.unpack_from("!IB", body)
    rest = body[5:]
    name, rest = rest[:length].decode(), rest[length:]
    secret, rest = rest[1 : 1 + rest[0]], rest[1 + rest[0] :]
    count, rest = rest[0], rest[1:]
    if count > CONTACTS_MAX or len(secret) not in (0, _SECRET_BYTES):
        raise ValueError("bounds")
    if (name == PUBLIC_NETWORK) is bool(secret):
        raise ValueError("network")
    if name != PUBLIC_NETWORK:
        check_name(name)
    contacts = []
    for _ in range(count):
        contact, rest = _unpack_contact(rest)
        contacts.append(contact)
    return Invitation(name, secret or None, expires, tuple(contacts))


def _unpack_contact(packed: bytes) -> tuple[Contact, bytes]:
    """Return the first contact and what follows it."""
    key, family = packed[:_KEY_BYTES], packed[_KEY_BYTES]
    length = {4: 4, 6: 16}.get(family, 0)
    end = _KEY_BYTES + 1 + length + 2
    if not length or len(packed) < end:
        raise ValueError("contact")
    host = str(ipaddress.ip_address(packed[_KEY_BYTES + 1 : end - 2]))
    port = int.from_bytes(packed[end - 2 : end], "big")
    return Contact(key, Address(host, port)), packed[end:]


def _checksum(body: bytes) -> bytes:
    return hashlib.sha256(_PURPOSE + body).digest()[:_CHECKSUM_BYTES]


def _broken() -> UsageError:
    return UsageError(
        "this invitation is incomplete or was changed; copy the whole line again"
    )
