"""The schedule decides without clock or I/O, so each rule is tried by itself."""

from __future__ import annotations

import random

import pytest

from transfer.content.manifest import Manifest
from transfer.leeching.picker import ChunkPicker
from transfer.limits import LeecherLimits

CHUNK = 256 * 1024
LIMITS = LeecherLimits()


def manifest_of(*chunks: str) -> Manifest:
    """Return a manifest whose chunk digests are told by letters."""
    digests = b"".join(letter.encode() * 32 for letter in chunks)
    return Manifest(CHUNK * len(chunks), CHUNK, digests)


def favouring(manifest: Manifest) -> ChunkPicker:
    schedule = ChunkPicker(LIMITS)
    schedule.favour(manifest, bytearray(manifest.count))
    return schedule


def finish(schedule, lane, index, now=0.0) -> None:
    assert schedule.claim(lane, index)
    assert schedule.written(lane, index)
    schedule.answered(lane, index, now)


ABCD = manifest_of("a", "b", "c", "d")


def test_a_lone_whole_peer_gives_chunks_in_order():
    """Lower indexes come first, so that the whole's digest can follow."""
    schedule = favouring(ABCD)
    lane = schedule.join("p", ABCD, None)
    taken = []
    while not schedule.complete:
        for index in schedule.pick(lane, 0.0):
            taken.append(index)
            finish(schedule, lane, index)
    assert taken == [0, 1, 2, 3]
    assert lane.bytes_given == schedule.bytes_done == 4 * CHUNK


def test_rare_chunks_come_first():
    """What fewer partial peers have is asked for earlier."""
    schedule = favouring(ABCD)
    schedule.join("q", ABCD, bytearray([1, 1, 0, 1]))
    schedule.join("r", ABCD, bytearray([1, 1, 0, 0]))
    lane = schedule.join("p", ABCD, None)
    assert schedule.pick(lane, 0.0)[0] == 2


def test_who_downloads_it_too_is_left_alone_while_who_has_it_is_swift():
    """A seeder at 250 MB/s is enough; once it is late, the others are asked."""
    wide = manifest_of(*"abcdefghijklmnop")
    schedule = favouring(wide)
    seeder = schedule.join("s", wide, None)
    fellow = schedule.join("f", wide, bytearray([1] * wide.count))
    assert schedule.has_work(fellow, 0.0)
    for now in (0.001, 0.002):
        finish(schedule, seeder, schedule.pick(seeder, now)[0], now + 0.001)
    assert not schedule.has_work(fellow, 0.003)
    assert schedule.pick(fellow, 0.003) == []
    assert schedule.pick(seeder, 0.003)
    late = 0.003 + 0.5
    assert schedule.has_work(fellow, late)
    assert schedule.pick(fellow, late)


def test_a_slow_seeder_spares_nobody():
    """At 1 MB/s whatever others have is worth asking for."""
    wide = manifest_of(*"abcdefghijklmnop")
    schedule = favouring(wide)
    seeder = schedule.join("s", wide, None)
    fellow = schedule.join("f", wide, bytearray([1] * wide.count))
    finish(schedule, seeder, schedule.pick(seeder, 0.0)[0], 0.25)
    assert schedule.pick(fellow, 0.26)


def test_no_chunk_is_asked_of_two_peers_while_others_are_left():
    """Nothing is sent twice without need."""
    schedule = favouring(ABCD)
    lanes = [schedule.join(name, ABCD, None) for name in "pqr"]
    asked = [index for lane in lanes for index in schedule.pick(lane, 0.0)]
    assert len(asked) == len(set(asked))


def test_a_partial_peer_is_asked_only_for_what_it_has():
    """And for more once it says that it has more."""
    schedule = favouring(ABCD)
    lane = schedule.join("p", ABCD, bytearray([0, 1, 0, 0]))
    assert schedule.pick(lane, 0.0) == [1]
    finish(schedule, lane, 1)
    assert not schedule.has_work(lane, 0.0)
    schedule.update(lane, bytearray([0, 1, 1, 0]))
    assert schedule.has_work(lane, 0.0)
    assert schedule.pick(lane, 0.0) == [2]


def test_what_a_lost_peer_owed_is_asked_of_others():
    """A peer that dies costs only what was asked of it."""
    schedule = favouring(manifest_of("a"))
    dead = schedule.join("p", manifest_of("a"), None)
    other = schedule.join("q", manifest_of("a"), None)
    assert schedule.pick(dead, 0.0) == [0]
    assert schedule.pick(other, 0.0) == []
    schedule.leave(dead)
    assert schedule.pick(other, 0.0) == [0]


def test_the_last_chunks_are_asked_twice_when_late():
    """Another source is asked, once, and never the same one."""
    schedule = favouring(manifest_of("a"))
    slow = schedule.join("p", schedule.favoured, None)
    same = schedule.join("p", schedule.favoured, None)
    other = schedule.join("q", schedule.favoured, None)
    third = schedule.join("r", schedule.favoured, None)
    assert schedule.pick(slow, 0.0) == [0]
    assert schedule.pick(other, 0.05) == []
    assert schedule.pick(same, 1.0) == []
    assert schedule.pick(other, 1.0) == [0]
    assert schedule.pick(third, 1.0) == []
    finish(schedule, other, 0)
    assert not schedule.claim(slow, 0)
    assert schedule.complete


def test_a_slow_peer_loses_its_turn_and_may_still_answer():
    """It rests, longer each time; a late answer is welcome."""
    schedule = favouring(ABCD)
    slow = schedule.join("p", ABCD, None)
    owed = schedule.pick(slow, 0.0)
    assert not schedule.reclaim(1.0)
    assert schedule.reclaim(3.0)
    assert not schedule.has_work(slow, 3.0)
    assert schedule.pick(slow, 3.5) == []
    other = schedule.join("q", ABCD, None)
    assert set(schedule.pick(other, 3.0)) <= set(range(4))
    finish(schedule, slow, owed[0], 4.0)
    assert slow.rest_until == 0.0


def test_agreeing_chunks_are_shared_between_manifests():
    """A lane of another manifest gives only what both name alike."""
    false = manifest_of("a", "x", "c", "d")
    schedule = favouring(false)
    liar = schedule.join("liar", false, None)
    honest = schedule.join("honest", ABCD, None)
    assert honest.mask == bytearray([1, 0, 1, 1])
    for lane in (honest, liar, honest, liar):
        for index in schedule.pick(lane, 0.0):
            finish(schedule, lane, index)
    assert schedule.complete
    closed = schedule.reject_favoured()
    assert closed == [liar]
    assert schedule.banned == {"liar"}
    assert schedule.candidate(0.0) == ABCD
    schedule.favour(ABCD, bytearray([1, 0, 1, 1]))
    assert schedule.pick(honest, 0.0) == [1]


def test_blame_for_a_manifest_falls_on_who_vouched_for_it():
    """A partial peer's connection is closed, but it is not banned."""
    schedule = favouring(ABCD)
    schedule.join("whole", ABCD, None)
    schedule.join("partial", ABCD, bytearray(4))
    assert len(schedule.reject_favoured()) == 2
    assert schedule.banned == {"whole"}


def test_the_manifest_of_the_most_sources_is_tried_next():
    """Several lanes of one source count once; partial peers do not count."""
    schedule = favouring(manifest_of("f"))
    two, one = manifest_of("a"), manifest_of("b")
    for source, manifest in (("p", two), ("q", two), ("r", one), ("r", one)):
        schedule.join(source, manifest, None)
    for source in "stuv":
        schedule.join(source, one, bytearray(1))
    assert schedule.candidate(0.0) == two


def test_it_is_stuck_when_nobody_awake_has_what_is_missing():
    """Then, and only then, another manifest is worth trying."""
    false = manifest_of("a", "x", "c", "d")
    schedule = favouring(false)
    liar = schedule.join("liar", false, None)
    schedule.join("honest", ABCD, None)
    assert not schedule.is_stuck(0.0)
    schedule.leave(liar)
    assert schedule.is_stuck(0.0)


def test_a_write_that_comes_after_a_switch_does_not_count():
    """Another manifest was favoured while the chunk was being written."""
    schedule = favouring(manifest_of("a"))
    lane = schedule.join("p", schedule.favoured, None)
    schedule.pick(lane, 0.0)
    assert schedule.claim(lane, 0)
    schedule.favour(manifest_of("b"), bytearray(1))
    assert not schedule.written(lane, 0)
    assert schedule.missing == 1


def test_a_busy_peer_rests():
    """What it dropped is asked of others meanwhile."""
    schedule = favouring(manifest_of("a"))
    busy = schedule.join("p", schedule.favoured, None)
    other = schedule.join("q", schedule.favoured, None)
    schedule.pick(busy, 0.0)
    schedule.drop_asked(busy, 5.0)
    assert schedule.pick(busy, 1.0) == []
    assert schedule.pick(other, 1.0) == [0]


def test_a_chunk_that_is_lacking_is_not_asked_again():
    """The same peer is not asked in a circle."""
    schedule = favouring(manifest_of("a"))
    lane = schedule.join("p", schedule.favoured, None)
    assert schedule.pick(lane, 0.0) == [0]
    schedule.lacking(lane, 0)
    assert schedule.pick(lane, 0.0) == []


def test_the_prefix_ends_at_the_first_gap():
    """Whatever else is there."""
    schedule = favouring(ABCD)
    lane = schedule.join("p", ABCD, None)
    schedule.pick(lane, 0.0)
    finish(schedule, lane, 1)
    assert schedule.prefix(0) == 0
    finish(schedule, lane, 0)
    assert schedule.prefix(0) == 2


def test_deep_paths_are_filled():
    """The longer the round trip, the more chunks are asked for at once."""
    manifest = Manifest(100 * CHUNK, CHUNK, bytes(32 * 100))
    schedule = favouring(manifest)
    lane = schedule.join("p", manifest, None)
    lane.round_trip, lane.chunk_seconds = 0.1, 0.01
    assert len(schedule.pick(lane, 0.0)) == 22


@pytest.mark.parametrize("seed", range(20))
def test_any_crowd_brings_everything_once(seed):
    """Peers come, go, gain and lose chunks at random; the file gets whole."""
    rng = random.Random(seed)
    manifest = Manifest(40 * CHUNK, CHUNK, rng.randbytes(32 * 40))
    schedule = favouring(manifest)
    lanes = [schedule.join(0, manifest, None)]
    now, writes = 0.0, 0
    while not schedule.complete:
        now += rng.random()
        if rng.random() < 0.2:
            have = bytearray(rng.choices([0, 1], k=40))
            lanes.append(schedule.join(rng.random(), manifest, have))
        if len(lanes) > 1 and rng.random() < 0.1:
            schedule.leave(lanes.pop())
        schedule.reclaim(now)
        for lane in lanes:
            schedule.pick(lane, now)
            for index in list(lane.asked):
                if rng.random() < 0.5:
                    if schedule.claim(lane, index):
                        writes += schedule.written(lane, index)
                    schedule.answered(lane, index, now)
    assert writes == 40
