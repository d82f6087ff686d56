"""Seeders that break the rules, each in its own way, over plaintext."""

from __future__ import annotations

import asyncio
import secrets
import socket

from transfer import Manifest, Peer
from transfer.connection import wire
from transfer.connection.channel import Channel
from transfer.limits import MAGIC_BYTES, REQUEST_FRAME_BYTES_MAX


class Hostile:
    """An honest seeder of some bytes; its kin override one step each."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.manifest = Manifest.of(data)
        self.public_key = secrets.token_bytes(32)
        self.connections = 0
        self.bytes_sent = 0
        self.chunks_asked: list[int] = []
        self.complaints: list[int] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setblocking(False)
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def peer(self) -> Peer:
        return Peer("127.0.0.1", self._listener.getsockname()[1], self.public_key)

    async def __aenter__(self):
        self._spawn(self._accept())
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._listener.close()

    def _spawn(self, work) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)

    async def _accept(self) -> None:
        while True:
            sock, _ = await asyncio.get_running_loop().sock_accept(self._listener)
            self.connections += 1
            self._spawn(self._serve(Channel(sock, REQUEST_FRAME_BYTES_MAX)))

    async def _serve(self, channel: Channel) -> None:
        try:
            await channel.read_magic(MAGIC_BYTES)
            await channel.read_frame()
            hello = wire.Hello(1, self.public_key, secrets.token_bytes(32), b"")
            await channel.write(wire.encode(hello))
            await self._converse(channel)
        finally:
            channel.close()

    async def _converse(self, channel: Channel) -> None:
        while True:
            match await channel.read_frame():
                case wire.Want() as want:
                    await self.on_want(channel, want)
                case wire.Ask() as ask:
                    await self.on_ask(channel, ask)
                case wire.Get() as get:
                    self.chunks_asked.append(get.index)
                    await self.on_get(channel, get)
                case wire.Complaint() as complaint:
                    self.complaints.append(complaint.index)

    async def on_ask(self, channel: Channel, ask: wire.Ask) -> None:
        await channel.write(wire.encode(wire.Larger(ask.number)))

    async def on_want(self, channel: Channel, want: wire.Want) -> None:
        listing = wire.Listing(want.number, self.manifest.encode())
        have = wire.Have(want.number, self.manifest.digest, whole=True, bitmap=b"")
        frames = wire.encode(have)
        if want.manifest != self.manifest.digest:
            frames = wire.encode(listing) + frames
        await channel.write(frames)

    async def on_get(self, channel: Channel, get: wire.Get) -> None:
        await self.send_rest(channel, get)

    def chunk(self, index: int) -> bytes:
        start = self.manifest.offset(index)
        return self.data[start : start + self.manifest.length(index)]

    async def send_rest(self, channel: Channel, get: wire.Get) -> None:
        """Send a chunk from where it is asked for."""
        await self.send_chunk(channel, get, self.chunk(get.index)[get.start :])

    async def send_chunk(self, channel: Channel, get: wire.Get, data: bytes) -> None:
        head = wire.Chunk(get.number, get.index, len(data))
        self.bytes_sent += len(data)
        await channel.write(wire.encode(head) + data)


class BadChunk(Hostile):
    """Sends every chunk with one byte flipped."""

    async def on_get(self, channel, get):
        data = bytearray(self.chunk(get.index))
        data[0] ^= 1
        await self.send_chunk(channel, get, bytes(data))


class OtherChunk(Hostile):
    """Sends the chunk of another place."""

    async def on_get(self, channel, get):
        other = (get.index + 1) % self.manifest.count
        await self.send_chunk(channel, get, self.chunk(other))


class WrongLength(Hostile):
    """Announces a chunk that is too short."""

    async def on_get(self, channel, get):
        await self.send_chunk(channel, get, self.chunk(get.index)[:-1])


class EndlessData(Hostile):
    """Announces a chunk and sends for ever."""

    async def on_get(self, channel, get):
        while True:
            await self.send_chunk(channel, get, self.chunk(get.index))


class Unasked(Hostile):
    """Sends a message that no seeder sends."""

    async def on_get(self, channel, get):
        await channel.write(wire.encode(wire.Get(get.number, get.index, 0)))


class GiantLength(Hostile):
    """Announces a frame of four gigabytes."""

    async def on_want(self, channel, want):
        await channel.write(b"\xff\xff\xff\xff")


class Garbage(Hostile):
    """Answers with bytes that are no frame."""

    async def on_want(self, channel, want):
        await channel.write(b"\x00\x00\x00\x05\xc1\xc1\xc1\xc1\xc1")


class Truncated(Hostile):
    """Closes in the middle of a chunk."""

    async def on_get(self, channel, get):
        data = self.chunk(get.index)[get.start :]
        head = wire.Chunk(get.number, get.index, len(data))
        await channel.write(wire.encode(head) + data[: len(data) // 2])
        channel.abort()


class TruncatedFrame(Hostile):
    """Announces a frame and closes in the middle of it."""

    async def on_want(self, channel, want):
        have = wire.Have(want.number, self.manifest.digest, whole=True, bitmap=b"")
        frame = wire.encode(have)
        await channel.write(frame[: len(frame) // 2])
        channel.abort()


class Silent(Hostile):
    """Accepts connections and never says a word."""

    async def _serve(self, channel: Channel) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            channel.close()


class SilentOnWant(Hostile):
    """Says hello and then nothing."""

    async def on_want(self, channel, want):
        await asyncio.Event().wait()


class SilentOnGet(Hostile):
    """Claims everything and sends nothing."""

    async def on_get(self, channel, get):
        return


class AlwaysBusy(Hostile):
    """Puts everybody off, for ever."""

    async def on_want(self, channel, want):
        await channel.write(wire.encode(wire.Busy(0)))


class BusyOnGet(Hostile):
    """Promises, and is busy then."""

    async def on_get(self, channel, get):
        await channel.write(wire.encode(wire.Busy(1)))


class NeverHasIt(Hostile):
    """Was announced, but has nothing."""

    async def on_want(self, channel, want):
        await channel.write(wire.encode(wire.Absent(want.number, partial=False)))


class LacksChunks(Hostile):
    """Claims everything and lacks each chunk."""

    async def on_get(self, channel, get):
        await channel.write(wire.encode(wire.Lacking(get.number, get.index)))


class SendsRedirect(Hostile):
    """Has everything and, for every chunk, sends to others, for ever."""

    async def on_get(self, channel, get):
        given = b"\x00" * (-(-self.manifest.count // 8))
        await channel.write(wire.encode(wire.Redirect(get.number, get.index, given)))


class FalseManifest(Hostile):
    """Names a manifest of other bytes and sends those."""

    def __init__(self, data: bytes, *, places=(0,)) -> None:
        changed = bytearray(data)
        for place in places:
            changed[place] ^= 1
        super().__init__(bytes(changed))


class WrongSize(Hostile):
    """Names a manifest of other bytes and of another size."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data + b"more")


class ReplayedChunk(Hostile):
    """Sends chunks of another file, of the right length."""

    async def on_get(self, channel, get):
        data = secrets.token_bytes(self.manifest.length(get.index))
        await self.send_chunk(channel, get, data)


class ByteByByte(Hostile):
    """Announces a chunk and sends a byte now and then."""

    async def on_get(self, channel, get):
        head = wire.Chunk(get.number, get.index, self.manifest.length(get.index))
        await channel.write(wire.encode(head))
        while True:
            await channel.write(b"x")
            await asyncio.sleep(0.2)


class WrongCertificate(Hostile):
    """Says hello with another key than the one it was announced under."""

    @property
    def peer(self) -> Peer:
        honest = super().peer
        return Peer(honest.host, honest.port, secrets.token_bytes(32))


class Disconnecting(Hostile):
    """Breaks off after so many bytes of whatever it has to say."""

    def __init__(self, data: bytes, left: int = 0) -> None:
        super().__init__(data)
        self.left = left

    async def _serve(self, channel: Channel) -> None:
        write, left = channel.write, self.left

        async def write_some(data: bytes) -> None:
            nonlocal left
            await write(data[:left])
            left -= len(data)
            if left <= 0:
                channel.abort()

        channel.write = write_some  # type: ignore[method-assign]
        await super()._serve(channel)


LIARS = [
    BadChunk,
    OtherChunk,
    ReplayedChunk,
    WrongLength,
    Unasked,
    GiantLength,
    Garbage,
]
LOAFERS = [
    Truncated,
    TruncatedFrame,
    Silent,
    SendsRedirect,
    SilentOnWant,
    SilentOnGet,
    AlwaysBusy,
    BusyOnGet,
    NeverHasIt,
    LacksChunks,
    ByteByByte,
    WrongCertificate,
    Disconnecting,
]
FORGERS = [FalseManifest, WrongSize]
