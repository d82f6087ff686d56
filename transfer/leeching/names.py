"""File names as hints: what a peer calls what it gave.

A name decides nothing. It is a label for content that was verified by its digest, so
any peer may be asked, and what it says is not compared with what others say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from transfer.connection import wire
from transfer.errors import PeerError, WireError
from transfer.limits import ASKS_AT_ONCE_MAX

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transfer.connection.peer import Peer
    from transfer.content.digest import Digest
    from transfer.leeching.connection_pool import Connection, ConnectionPool


async def names_of(
    connections: ConnectionPool, peer: Peer, digests: Sequence[Digest]
) -> dict[Digest, str]:
    """Return the file names that a peer knows for digests, as far as it answers.

    Each is printable ASCII, of at most 200 characters, without a slash.
    """
    found: dict[Digest, str] = {}
    try:
        connection = await connections.open(peer)
    except (PeerError, OSError):
        return found
    try:
        await _ask(connection, digests, found)
    except (PeerError, OSError):
        connection.channel.close()
    except BaseException:
        connection.channel.close()
        raise
    else:
        connections.release(connection)
    return found


async def _ask(
    connection: Connection, digests: Sequence[Digest], found: dict[Digest, str]
) -> None:
    asks = [
        wire.NameOf(next(connection.numbers), one.algorithm, one.raw) for one in digests
    ]
    sent = 0
    for place, (ask, digest) in enumerate(zip(asks, digests, strict=True)):
        # Half of what may be unanswered at a time, so that the peer never waits. So
        # few fit into the buffers of both ends: neither waits for the other to read.
        if sent - place <= ASKS_AT_ONCE_MAX // 2:
            part = asks[sent : place + ASKS_AT_ONCE_MAX]
            await connection.channel.write(b"".join(map(wire.encode, part)))
            sent += len(part)
        message = await connection.channel.read_frame()
        while isinstance(message, wire.Have | wire.PeerExchange) and (
            message.number < asks[0].number
        ):
            message = await connection.channel.read_frame()
        if not isinstance(message, wire.Named) or message.number != ask.number:
            raise WireError("The seeder did not answer what was asked.")
        if message.name:
            found[digest] = message.name
