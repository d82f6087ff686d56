"""Asking a seeder for an artifact: `want`, and the answers to it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from transfer.connection import wire
from transfer.content import bitmap
from transfer.content.manifest import Manifest, chunk_digest
from transfer.errors import (
    AbsentError,
    BadChunkError,
    FalseManifestError,
    ManifestError,
    PeerBusyError,
    PeerError,
    PeerGoneError,
    WireError,
)
from transfer.limits import EAGER_BYTES_MAX

if TYPE_CHECKING:
    from transfer.content.digest import Digest
    from transfer.leeching.connection_pool import Connection
    from transfer.limits import LeecherLimits


@dataclass(frozen=True, slots=True, eq=False)
class Offered:
    """What a seeder says that it has."""

    connection: Connection
    number: int
    manifest: Manifest
    have: bytearray | None
    """None for the whole."""
    data: bytes | None
    """A small artifact that came along at once, sound by its manifest."""


class Asking:
    """How one download asks: what it knows, and what it will not believe."""

    def __init__(
        self,
        digest: Digest,
        size: int | None,
        size_max: int | None,
        manifest_digest: bytes | None,
        limits: LeecherLimits,
        port: int,
    ) -> None:
        self.manifest: Manifest | None = None
        """The manifest that the file is being put together after."""
        self._digest = digest
        self._size = size
        self._size_max = size_max
        self._manifest_digest = manifest_digest
        self._limits = limits
        self._port = port
        self._eager_out = False

    async def ask(self, connection: Connection) -> Offered | None:
        """Ask once; None where the peer serves only who knows its manifest.

        Raises PeerRefusedError, FalseManifestError, another PeerError or OSError.
        """
        eager = self._take_eager()
        try:
            async with asyncio.timeout(self._limits.answer_seconds):
                return await self._ask(connection, eager)
        finally:
            if eager:
                self._eager_out = False

    def _take_eager(self) -> int:
        """Let one peer at a time send a small artifact at once."""
        large = self._size is not None and self._size > EAGER_BYTES_MAX
        if self._eager_out or large or self.manifest is not None:
            return 0
        self._eager_out = True
        return EAGER_BYTES_MAX

    async def _ask(self, connection: Connection, eager: int) -> Offered | None:
        known = self.manifest
        number = next(connection.numbers)
        want = wire.Want(
            number,
            self._digest.algorithm,
            self._digest.raw,
            b"" if known is None else known.digest,
            eager,
            self._port,
        )
        channel = connection.channel
        await channel.write(wire.encode(want))
        manifest = known
        message = await channel.read_frame()
        while (
            isinstance(message, wire.Have | wire.PeerExchange)
            and message.number < number
        ):
            message = await channel.read_frame()  # of an earlier download
        if isinstance(message, wire.Listing):
            manifest = self._believable(message.encoded)
            message = await channel.read_frame()
        if isinstance(message, wire.Absent) and message.partial and known is None:
            return None
        if not isinstance(message, wire.Have) or message.number != number:
            raise _refusal(message)
        if manifest is None or message.manifest != manifest.digest:
            raise WireError("The seeder has chunks of a manifest that it did not give.")
        if message.whole:
            data = await self._read_eagerly(connection, number, manifest, eager)
            return Offered(connection, number, manifest, None, data)
        if manifest is not known:
            raise WireError("The seeder vouches for what it does not have.")
        have = bitmap.unpack(message.bitmap, manifest.count)
        return Offered(connection, number, manifest, have, None)

    def _believable(self, encoded: bytes) -> Manifest:
        """Read a manifest that may be true, as far as one can know."""
        try:
            manifest = Manifest.decode(encoded)
        except ManifestError as error:
            raise FalseManifestError(str(error)) from error
        if self._size is not None and manifest.size != self._size:
            raise FalseManifestError
        if self._size_max is not None and manifest.size > self._size_max:
            raise FalseManifestError("a manifest of more than may be wanted here")
        if self._manifest_digest not in (None, manifest.digest):
            raise FalseManifestError
        return manifest

    async def _read_eagerly(
        self, connection: Connection, number: int, manifest: Manifest, eager: int
    ) -> bytes | None:
        if manifest.size == 0:
            return b""
        if manifest.count != 1 or manifest.size > eager:
            return None
        message = await connection.channel.read_frame()
        if message != wire.Chunk(number, 0, manifest.size):
            raise WireError("The seeder did not send the chunk that was due.")
        data = await connection.channel.read_exactly(manifest.size)
        if chunk_digest(data) != manifest.chunk(0):
            raise BadChunkError(number, 0)
        return data


def _refusal(message: wire.AnyMessage) -> PeerError:
    """Return the error that tells why there was no answer as hoped for."""
    match message:
        case wire.Absent():
            return AbsentError()
        case wire.Busy():
            return PeerBusyError(message.seconds)
        case wire.Bye():
            return PeerGoneError()
        case _:
            return WireError("The seeder did not answer what was asked.")
