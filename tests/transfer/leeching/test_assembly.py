"""An assembly with several manifests, driven step by step in seeded random order."""

from __future__ import annotations

import os
import queue
import random
import time

import pytest

from transfer import Peer
from transfer.content.digest import Digest
from transfer.content.manifest import Manifest
from transfer.leeching.assembly import Assembly
from transfer.leeching.outcome import WholeVerdict
from transfer.leeching.wanted import Wanted

DATA = os.urandom(2_000_000)
CHUNK = Manifest.of(DATA).chunk_size


def changed(*chunks: int) -> bytes:
    """Return the data with one byte of each of these chunks flipped."""
    data = bytearray(DATA)
    for index in chunks:
        data[index * CHUNK] ^= 1
    return bytes(data)


class Script:
    """Peers that send chunks when they are asked, in an order drawn by chance."""

    def __init__(self, context, seed: int) -> None:
        self.chance = random.Random(seed)
        self.hashed: queue.SimpleQueue = queue.SimpleQueue()
        self.assembly = Assembly(
            context,
            Wanted(Digest.of(DATA)),
            on_hashed=lambda hasher, whole: self.hashed.put((hasher, whole)),
            on_rival_whole=lambda: None,
        )
        self.peers: list = []
        self.fetched = 0

    def join(self, data: bytes) -> None:
        manifest = Manifest.of(data)
        peer = Peer("127.0.0.1", 4000 + len(self.peers), self.chance.randbytes(32))
        self.assembly.admit(manifest)
        state = self.assembly.join(peer, manifest=manifest, have=None, round_trip=0.0)
        slowness = self.chance.choice((1, 1, 30))
        self.peers.append((peer, state, data, slowness))

    def send_one(self) -> bool:
        """Let some peer that is asked for chunks send one; False if none is asked.

        Peers differ in speed, so that a rival may be whole before what leads.
        """
        order = sorted(self.peers, key=lambda one: self.chance.random() * one[3])
        for _peer, state, data, _slowness in order:
            picked = self.assembly.pick(state) or list(state.asked)
            if not picked:
                continue
            index = self.chance.choice(picked)
            claim = self.assembly.claim(state, index)
            if claim is not None:
                offset = state.manifest.offset(index)
                length = state.manifest.length(index)
                part = memoryview(data)[offset : offset + length]
                self.assembly.write(claim, offset, part)
                self.assembly.written(claim, state)
                self.fetched += length
            self.assembly.arrived(state, index, claim=claim, buffered=None)
            return True
        return False

    def run(self, late: list[bytes]) -> None:
        """Send chunks and settle wholes until one is committed."""
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            if late and self.chance.random() < 0.1:
                self.join(late.pop())
            if (better := self.assembly.better_lead()) is not None:
                self.assembly.promote(better)
            sent = self.send_one()
            try:
                hasher, whole = self.hashed.get(timeout=0 if sent else 0.5)
            except queue.Empty:
                assert sent or late, "nobody is asked for what is missing"
                continue
            if not self.assembly.is_followed_by(hasher):
                continue
            settled = self.assembly.settle(whole)
            if settled.verdict is WholeVerdict.COMMITTED:
                return
            liars = settled.liars
            self.peers = [one for one in self.peers if one[0] not in liars]
            if not self.peers and late:
                self.join(late.pop())
        raise AssertionError("it did not end")


@pytest.mark.parametrize("seed", range(40))
async def test_false_manifests_delay_and_never_stop(new_node, seed):
    """What only a refuted file held is still there for those that counted on it."""
    leecher = await new_node(encryption=False)
    script = Script(leecher.leecher._context, seed)
    false = [changed(0), changed(3), changed(6), changed(3, 6), DATA[:-1]]
    script.chance.shuffle(false)
    comers = [*false[: script.chance.randrange(2, 6)], DATA]
    script.chance.shuffle(comers)
    early = len(comers) - script.chance.choice((0, 0, 1, 2))
    for data in comers[:early]:
        script.join(data)
    script.run(comers[early:])
    script.assembly.close(discard=True)
    assert script.fetched <= len(DATA) + 8 * CHUNK


async def test_a_damaged_leading_file_is_made_good(new_node):
    """Also where rivals counted its chunks as brought."""
    leecher = await new_node(encryption=False)
    script = Script(leecher.leecher._context, 1)
    script.join(DATA)
    script.join(changed(7))
    while not script.assembly.is_complete:
        if (better := script.assembly.better_lead()) is not None:
            script.assembly.promote(better)
        assert script.send_one()
        lead = script.assembly.lead_file
        os.pwrite(lead.descriptor, b"damage", 2 * CHUNK)
    script.run([])
    script.assembly.close(discard=True)
