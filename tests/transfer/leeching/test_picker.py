"""The picker decides without clock or I/O, so each rule is tried by itself."""

from __future__ import annotations

import random
import time

import pytest

from transfer.content.manifest import Manifest
from transfer.leeching.picker import ChunkPicker, PeerState
from transfer.limits import LeecherLimits

CHUNK = 256 * 1024
LIMITS = LeecherLimits()


def manifest_of(*chunks: str) -> Manifest:
    """Return a manifest whose chunk digests are named by letters."""
    digests = b"".join(letter.encode() * 32 for letter in chunks)
    return Manifest(CHUNK * len(chunks), CHUNK, digests)


def picking(manifest: Manifest) -> ChunkPicker:
    return ChunkPicker(manifest, LIMITS)


def join(picker, source, have=None) -> PeerState:
    """Add a peer that has these chunks, or all."""
    whole = have is None
    held = bytearray(b"\x01" * picker.manifest.count) if whole else have
    return picker.join(PeerState(source, picker.manifest, whole, held))


def finish(picker, peer, index, now=0.0) -> None:
    assert picker.claim(index)
    assert picker.written(index)
    picker.answered(peer, index, now)


ABCD = manifest_of("a", "b", "c", "d")


def test_a_lone_whole_peer_gives_chunks_in_order():
    """Lower indexes come first, so that the whole's digest can follow."""
    picker = picking(ABCD)
    peer = join(picker, "p")
    taken = []
    while not picker.complete:
        for index in picker.pick(peer, 0.0):
            taken.append(index)
            finish(picker, peer, index)
    assert taken == [0, 1, 2, 3]
    assert picker.bytes_done == 4 * CHUNK


def test_rare_chunks_come_first():
    """What fewer partial peers have is asked for earlier."""
    picker = picking(ABCD)
    join(picker, "q", bytearray([1, 1, 0, 1]))
    join(picker, "r", bytearray([1, 1, 0, 0]))
    peer = join(picker, "p")
    assert picker.pick(peer, 0.0)[0] == 2


def test_who_downloads_it_too_is_left_alone_while_who_has_it_is_swift():
    """A seeder at 250 MB/s is enough; once it is late, the others are asked."""
    wide = manifest_of(*"abcdefghijklmnop")
    picker = picking(wide)
    seeder = join(picker, "s")
    fellow = join(picker, "f", bytearray([1] * wide.count))
    assert picker.has_work(fellow, 0.0)
    for now in (0.001, 0.002):
        finish(picker, seeder, picker.pick(seeder, now)[0], now + 0.001)
    assert not picker.has_work(fellow, 0.003)
    assert picker.pick(fellow, 0.003) == []
    assert picker.pick(seeder, 0.003)
    late = 0.003 + 0.5
    assert picker.has_work(fellow, late)
    assert picker.pick(fellow, late)


def test_a_slow_seeder_spares_nobody():
    """At 1 MB/s whatever others have is worth asking for."""
    wide = manifest_of(*"abcdefghijklmnop")
    picker = picking(wide)
    seeder = join(picker, "s")
    fellow = join(picker, "f", bytearray([1] * wide.count))
    finish(picker, seeder, picker.pick(seeder, 0.0)[0], 0.25)
    assert picker.pick(fellow, 0.26)


def test_no_chunk_is_asked_of_two_peers_while_others_are_left():
    """Nothing is sent twice without need."""
    picker = picking(ABCD)
    peers = [join(picker, name) for name in "pqr"]
    asked = [index for peer in peers for index in picker.pick(peer, 0.0)]
    assert len(asked) == len(set(asked))


def test_a_partial_peer_is_asked_only_for_what_it_has():
    """And for more once it says that it has more."""
    picker = picking(ABCD)
    peer = join(picker, "p", bytearray([0, 1, 0, 0]))
    assert picker.pick(peer, 0.0) == [1]
    finish(picker, peer, 1)
    assert not picker.has_work(peer, 0.0)
    picker.update(peer, bytearray([0, 1, 1, 0]))
    assert picker.has_work(peer, 0.0)
    assert picker.pick(peer, 0.0) == [2]


def test_what_a_lost_peer_owed_is_asked_of_others():
    """A peer that dies costs only what was asked of it."""
    picker = picking(manifest_of("a"))
    dead = join(picker, "p")
    other = join(picker, "q")
    assert picker.pick(dead, 0.0) == [0]
    assert picker.pick(other, 0.0) == []
    picker.leave(dead)
    assert picker.pick(other, 0.0) == [0]


def test_the_last_chunks_are_asked_twice_when_late():
    """Another source is asked, once, and never the same one."""
    picker = picking(manifest_of("a"))
    slow = join(picker, "p")
    same = join(picker, "p")
    other = join(picker, "q")
    third = join(picker, "r")
    assert picker.pick(slow, 0.0) == [0]
    assert picker.pick(other, 0.05) == []
    assert picker.pick(same, 1.0) == []
    assert picker.pick(other, 1.0) == [0]
    assert picker.pick(third, 1.0) == []
    finish(picker, other, 0)
    assert not picker.claim(0)
    assert picker.complete


def test_a_slow_peer_loses_its_turn_and_may_still_answer():
    """It rests, longer each time; a late answer is welcome."""
    picker = picking(ABCD)
    slow = join(picker, "p")
    owed = picker.pick(slow, 0.0)
    assert not picker.snub_slow(1.0)
    assert picker.snub_slow(3.0)
    assert not picker.has_work(slow, 3.0)
    assert picker.pick(slow, 3.5) == []
    other = join(picker, "q")
    assert set(picker.pick(other, 3.0)) <= set(range(4))
    finish(picker, slow, owed[0], 4.0)
    assert slow.snubbed_until == 0.0


def test_a_busy_peer_rests():
    """What it dropped is asked of others meanwhile."""
    picker = picking(manifest_of("a"))
    busy = join(picker, "p")
    other = join(picker, "q")
    picker.pick(busy, 0.0)
    picker.drop_asked(busy, 5.0)
    assert picker.pick(busy, 1.0) == []
    assert picker.pick(other, 1.0) == [0]


def test_a_chunk_that_is_lacking_is_not_asked_again():
    """The same peer is not asked in a circle."""
    picker = picking(manifest_of("a"))
    peer = join(picker, "p")
    assert picker.pick(peer, 0.0) == [0]
    picker.lacking(peer, 0)
    assert picker.pick(peer, 0.0) == []


def test_deep_paths_are_filled():
    """The longer the round trip, the more chunks are asked for at once."""
    manifest = Manifest(100 * CHUNK, CHUNK, bytes(32 * 100))
    picker = picking(manifest)
    peer = join(picker, "p")
    peer.round_trip, peer.chunk_seconds = 0.1, 0.02
    assert len(picker.pick(peer, 0.0)) == 42


def test_a_path_with_repairs_is_filled_too():
    """A round trip is three times what the greeting showed; depth still grows."""
    picker = picking(Manifest(200 * CHUNK, CHUNK, bytes(32 * 200)))
    peer = join(picker, "p")
    peer.round_trip = 0.1
    depth = 2
    for _ in range(8):
        peer.chunk_seconds = 3 * peer.round_trip / depth
        depth = peer.pipeline_depth(LIMITS, 200)
    assert depth > 12


def test_a_slow_path_does_not_run_dry():
    """One chunk at a time, and the next two round trips before its end."""
    picker = picking(manifest_of(*"abcdefgh"))
    peer = join(picker, "p")
    peer.round_trip, peer.chunk_seconds = 0.03, 1.2
    (first,) = picker.pick(peer, 0.0)
    assert picker.pick(peer, 0.1) == []
    assert peer.ending_bytes(CHUNK) == pytest.approx(CHUNK * 0.06 / 1.2, abs=1)
    peer.is_ending = True
    (second,) = picker.pick(peer, 1.1)
    finish(picker, peer, first, 1.2)
    assert picker.pick(peer, 1.2) == []
    assert list(peer.asked) == [second]


def test_a_fast_peer_is_asked_ahead_anyway():
    peer = join(picking(ABCD), "p")
    peer.round_trip, peer.chunk_seconds = 0.03, 0.02
    assert peer.ending_bytes(CHUNK) == 0


@pytest.mark.parametrize("seed", range(20))
def test_any_crowd_brings_everything_once(seed):
    """Peers come, go, gain and lose chunks at random; the file gets whole."""
    rng = random.Random(seed)
    manifest = Manifest(40 * CHUNK, CHUNK, rng.randbytes(32 * 40))
    picker = picking(manifest)
    peers = [join(picker, 0)]
    now, writes = 0.0, 0
    while not picker.complete:
        now += rng.random()
        if rng.random() < 0.2:
            have = bytearray(rng.choices([0, 1], k=40))
            peers.append(join(picker, rng.random(), have))
        if len(peers) > 1 and rng.random() < 0.1:
            picker.leave(peers.pop())
        picker.snub_slow(now)
        for peer in peers:
            picker.pick(peer, now)
            for index in list(peer.asked):
                if rng.random() < 0.5:
                    if picker.claim(index):
                        writes += picker.written(index)
                    picker.answered(peer, index, now)
    assert writes == 40


def test_idle_peers_of_a_large_file_cost_little():
    """With 16,384 chunks, 64 peers that have nothing new are looked at in no time."""
    manifest = Manifest(16_384 * 4 * CHUNK, 4 * CHUNK, bytes(32 * 16_384))
    picker = picking(manifest)
    idle = [join(picker, number, bytearray(16_384)) for number in range(64)]
    began = time.process_time()
    for _ in range(10):
        assert not any(picker.has_work(peer, 0.0) for peer in idle)
    assert time.process_time() - began < 0.5


def test_a_large_file_is_picked_in_linear_time():
    """Chunk by chunk, from a seeder and from a leecher that has every other one."""
    manifest = Manifest(16_384 * 4 * CHUNK, 4 * CHUNK, bytes(32 * 16_384))
    picker = picking(manifest)
    seeder = join(picker, "s")
    leecher = join(picker, "l", bytearray([1, 0] * 8192))
    began = time.process_time()
    now = 0.0
    while not picker.complete:
        now += 0.01
        for peer in (leecher, seeder):
            for index in picker.pick(peer, now):
                finish(picker, peer, index, now + 0.005)
    assert time.process_time() - began < 5.0
