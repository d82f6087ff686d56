"""The handshake of a connection: magic, TLS, hello, network proof.

Both halves run on the event loop, under a deadline that their callers set.
"""

from __future__ import annotations

import contextlib
import hmac
import secrets
import socket
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING

from transfer.connection import wire
from transfer.connection.channel import Channel
from transfer.connection.tls import certificate_key
from transfer.errors import (
    IdentityError,
    NetworkProofError,
    PeerError,
    PeerRefusedError,
    WireError,
)
from transfer.limits import (
    HELLO_FRAME_BYTES_MAX,
    MAGIC_BYTES,
    REPLY_FRAME_BYTES_MAX,
    REQUEST_FRAME_BYTES_MAX,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from transfer.connection.tls import Identity


class OpeningReceived(Exception):  # noqa: N818 (it is no error)
    """A connection began as none with the seeder does; its socket is handed on."""

    def __init__(self, magic: bytes, token: bytes, sock: socket.socket) -> None:
        super().__init__("The connection is for somebody else here.")
        self.magic = magic
        self.token = token
        self.sock = sock


@dataclass(frozen=True, slots=True)
class Terms:
    """On what terms a node speaks with others."""

    identity: Identity
    network_secret: bytes | None = None
    encryption: bool = True
    """False allows plaintext; a connection has it where both ends allow it."""

    def hello(self, proof: bytes = b"") -> wire.Hello:
        """Return a hello with a fresh nonce."""
        return wire.Hello(
            wire.VERSION, self.identity.public_key, secrets.token_bytes(32), proof
        )


async def greet_seeder(
    sock: socket.socket, terms: Terms, expected_key: bytes | None, *, tls: bool
) -> Channel:
    """Shake hands as the leecher over a connected socket.

    Closes the socket and raises PeerError or OSError if it fails.
    """
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    channel = Channel(sock, HELLO_FRAME_BYTES_MAX)
    with _closed_on_failure(channel):
        await channel.write(wire.MAGIC_TLS if tls else wire.MAGIC_PLAINTEXT)
        certified = None
        if tls:
            await channel.start_tls(terms.identity.leecher_context, seeder=False)
            certified = certificate_key(channel.certificate())
            if expected_key is not None and certified != expected_key:
                raise IdentityError
        await _leecher_hello(channel, terms, certified or expected_key)
    channel.frame_bytes_max = REPLY_FRAME_BYTES_MAX
    return channel


async def _leecher_hello(
    channel: Channel, terms: Terms, seeder_key: bytes | None
) -> None:
    ours = terms.hello()
    await channel.write(wire.encode(ours))
    theirs = await _read_hello(channel)
    if seeder_key is not None and theirs.public_key != seeder_key:
        raise IdentityError("The peer says hello with another key than its own.")
    if terms.network_secret is None:
        if theirs.proof:
            raise NetworkProofError("The peer is in a private network.")
        return
    expected = wire.network_proof(
        terms.network_secret, seeder=True, leecher_hello=ours, seeder_hello=theirs
    )
    if not hmac.compare_digest(expected, theirs.proof):
        raise NetworkProofError
    proof = wire.network_proof(
        terms.network_secret, seeder=False, leecher_hello=ours, seeder_hello=theirs
    )
    await channel.write(wire.encode(wire.Proof(proof)))


async def _no_step() -> None:
    """Do nothing between the steps of a handshake."""


async def greet_leecher(
    sock: socket.socket,
    terms: Terms,
    on_step: Callable[[], Awaitable[None]] = _no_step,
) -> tuple[Channel, wire.Hello]:
    """Shake hands as the seeder; return what the leecher said along with the channel.

    `on_step` is awaited after the magic, before TLS costs anything, and after TLS.
    Closes the socket and raises PeerError or OSError if it fails. Raises
    `OpeningReceived`, with the open socket, where another magic began the connection.
    """
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    channel = Channel(sock, HELLO_FRAME_BYTES_MAX)
    with _closed_on_failure(channel):
        hello = await _seeder_handshake(channel, terms, on_step)
    channel.frame_bytes_max = REQUEST_FRAME_BYTES_MAX
    return channel, hello


async def _seeder_handshake(
    channel: Channel, terms: Terms, on_step: Callable[[], Awaitable[None]]
) -> wire.Hello:
    # The magic alone is read, byte for byte: what follows belongs to TLS.
    magic = await channel.read_magic(MAGIC_BYTES)
    if magic == wire.MAGIC_TLS:
        await on_step()
        await channel.start_tls(terms.identity.seeder_context, seeder=True)
        await on_step()
    elif magic in wire.OPENING_BYTES:
        token = await channel.read_magic(wire.OPENING_BYTES[magic])
        raise OpeningReceived(magic, token, channel.detach())
    elif magic != wire.MAGIC_PLAINTEXT:
        raise WireError("The peer does not speak this protocol.")
    elif terms.encryption:
        await channel.write(wire.encode(wire.Bye("encryption is required")))
        raise PeerRefusedError("The peer asked for plaintext.")
    theirs = await _read_hello(channel)
    ours = terms.hello()
    if terms.network_secret is None:
        await channel.write(wire.encode(ours))
        return theirs
    ours = wire.Hello(
        ours.version,
        ours.public_key,
        ours.nonce,
        wire.network_proof(
            terms.network_secret, seeder=True, leecher_hello=theirs, seeder_hello=ours
        ),
    )
    await channel.write(wire.encode(ours))
    answer = await channel.read_frame()
    expected = wire.network_proof(
        terms.network_secret, seeder=False, leecher_hello=theirs, seeder_hello=ours
    )
    if not isinstance(answer, wire.Proof) or not hmac.compare_digest(
        expected, answer.proof
    ):
        await channel.write(wire.encode(wire.Bye("this is a private network")))
        raise NetworkProofError
    return theirs


async def _read_hello(channel: Channel) -> wire.Hello:
    message = await channel.read_frame()
    if isinstance(message, wire.Bye):
        raise PeerRefusedError(f"The peer refused: {message.reason!r}.")
    if not isinstance(message, wire.Hello):
        raise WireError("The peer did not say hello.")
    if message.version != wire.VERSION:
        raise WireError("The peer speaks another version of the protocol.")
    return message


@contextlib.contextmanager
def _closed_on_failure(channel: Channel) -> Iterator[None]:
    """Close `channel` if a handshake fails; its socket stays open for an opening."""
    try:
        yield
    except OpeningReceived:
        raise
    except ssl.SSLError as error:
        channel.close()
        raise PeerError(f"TLS with the peer failed: {error.reason}.") from error
    except BaseException:
        channel.close()
        raise
