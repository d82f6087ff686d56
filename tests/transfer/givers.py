"""Seeders that give small files outright, each breaking the rules in its own way."""

from __future__ import annotations

import asyncio
import hashlib

from tests.transfer.hostile import Hostile
from transfer.connection import wire
from transfer.connection.channel import Channel


class Giver(Hostile):
    """An honest seeder of small files, which it gives outright; its kin do not."""

    def __init__(self, files: list[bytes]) -> None:
        super().__init__(files[0])
        self.files = {hashlib.sha256(data).digest(): data for data in files}
        self.asks: list[wire.Ask] = []
        self.spoilt = hashlib.sha256(files[len(files) // 2]).digest()

    async def _converse(self, channel: Channel) -> None:
        while True:
            match await channel.read_frame():
                case wire.Ask() as ask:
                    self.asks.append(ask)
                    await self.on_ask(channel, ask, self.files[ask.digest])
                case wire.Want() as want:
                    absent = wire.Absent(want.number, partial=False)
                    await channel.write(wire.encode(absent))
                case wire.Complaint() as complaint:
                    self.complaints.append(complaint.index)

    async def on_ask(self, channel: Channel, ask: wire.Ask, data: bytes) -> None:
        await channel.write(wire.encode(wire.Whole(ask.number, len(data))) + data)


class GivesWrongBytes(Giver):
    """Gives other bytes for one file of many."""

    async def on_ask(self, channel, ask, data):
        if ask.digest == self.spoilt:
            data = bytes([data[0] ^ 1]) + data[1:]
        await super().on_ask(channel, ask, data)


class CutsTheBatch(Giver):
    """Closes in the middle of one file of many."""

    async def on_ask(self, channel, ask, data):
        if ask.digest != self.spoilt:
            await super().on_ask(channel, ask, data)
        else:
            head = wire.encode(wire.Whole(ask.number, len(data)))
            await channel.write(head + data[: len(data) // 2])
            channel.abort()


class AnswersInOtherOrder(Giver):
    """Answers the second ask before the first."""

    async def on_ask(self, channel, ask, data):
        if len(self.asks) % 2:
            return
        for one in self.asks[:-3:-1]:
            await super().on_ask(channel, one, self.files[one.digest])


class GivesTwice(Giver):
    """Sends everything once more than it was asked for."""

    async def on_ask(self, channel, ask, data):
        await super().on_ask(channel, ask, data)
        await super().on_ask(channel, ask, data)


class SaysHaveBehind(Giver):
    """Says `have` for a download that has ended, right behind each answer."""

    async def on_ask(self, channel, ask, data):
        late = wire.Have(0, self.manifest.digest, whole=False, bitmap=b"")
        head = wire.encode(wire.Whole(ask.number, len(data)))
        await channel.write(head + data + wire.encode(late))


class SaysHaveAhead(Giver):
    """Says `have` for what nobody has asked for yet."""

    async def on_ask(self, channel, ask, data):
        early = wire.Have(2**32 - 1, self.manifest.digest, whole=False, bitmap=b"")
        head = wire.encode(wire.Whole(ask.number, len(data)))
        await channel.write(head + data + wire.encode(early))


class GivesTooMuch(Giver):
    """Gives more bytes than the leecher would take."""

    async def on_ask(self, channel, ask, data):
        await super().on_ask(channel, ask, data + bytes(ask.bytes_max))


class GivesForEver(Giver):
    """Answers, and then sends on without an end."""

    async def on_ask(self, channel, ask, data):
        await super().on_ask(channel, ask, data)
        while len(self.asks) >= len(self.files) // 2:
            await channel.write(bytes(65_536))


class AnnouncesAGiant(Giver):
    """Answers an ask with a frame of four gigabytes."""

    async def on_ask(self, channel, ask, data):
        await channel.write(b"\xff\xff\xff\xff")


class DripsAnAnswer(Giver):
    """Gives one file a byte at a time."""

    async def on_ask(self, channel, ask, data):
        await channel.write(wire.encode(wire.Whole(ask.number, len(data))))
        for place in range(len(data)):
            await channel.write(data[place : place + 1])
            await asyncio.sleep(0.1)


class TricklesAbsence(Giver):
    """Says of one file after the other that it does not have it, and takes its time."""

    async def on_ask(self, channel, ask, data):
        await asyncio.sleep(0.3)
        await channel.write(wire.encode(wire.Absent(ask.number, partial=False)))


class IgnoresAsks(Giver):
    """Says hello and never answers an ask."""

    async def on_ask(self, channel, ask, data):
        return


class BusyOnAsk(Giver):
    """Puts off whoever asks."""

    async def on_ask(self, channel, ask, data):
        await channel.write(wire.encode(wire.Busy(1)))


class GivesALargerOne(Giver):
    """Says that small files are large."""

    async def on_ask(self, channel, ask, data):
        await channel.write(wire.encode(wire.Larger(ask.number)))


GIVERS = [
    GivesWrongBytes,
    CutsTheBatch,
    AnswersInOtherOrder,
    GivesTwice,
    SaysHaveAhead,
    GivesTooMuch,
    GivesForEver,
    AnnouncesAGiant,
    DripsAnAnswer,
    IgnoresAsks,
    BusyOnAsk,
    GivesALargerOne,
]
