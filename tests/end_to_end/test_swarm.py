"""Ten nodes: a file is fetched while a seeder dies, and outlives all its seeders."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor

import pytest

from node.demo.processes import wait_until
from tests.end_to_end.caravan import (
    MEBIBYTE,
    Caravan,
    at_once,
    flip_byte,
    held_digests,
    random_file,
    source_addresses,
    stored_file,
    wait_for_contacts,
    wait_for_providers,
)

pytestmark = pytest.mark.timeout(180)

NAMES = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
SLOW_BYTES_PER_SECOND = 12 * MEBIBYTE
"""What a seeder may send, so that there is time to kill one while it sends."""


@pytest.fixture(scope="module")
def ten(shared: Caravan):
    """Ten nodes that joined through the first of them."""
    return shared.network(*NAMES)


def test_ten_nodes_know_each_other(ten):
    """A node that was named to nobody is known all the same."""
    wait_for_contacts(ten, 5)
    peers = ten[4].ask("peers")["contacts"]
    assert {one["address"] for one in peers} <= {node.address for node in ten}
    assert all(len(one["node_id"]) == 64 for one in peers)


def test_a_file_outlives_its_seeders(ten, shared, tmp_path):
    """It is fetched while one seeder is killed; the others stop; it is still there.

    The seeders send slowly, so the kill comes while the download is under way.
    """
    file, digest = random_file(tmp_path / "random.bin", 50 * MEBIBYTE)
    slow = {"CARAVAN_UPLOAD_BYTES_PER_SECOND": str(SLOW_BYTES_PER_SECOND)}
    seeders = [
        shared.join(f"seeder-{number}", ten[0].address, **slow) for number in range(3)
    ]
    at_once(lambda node: node.ask("share", str(file)), seeders)
    fourth, fifth = ten[3], ten[4]
    wait_for_providers(fourth, digest, {node.address for node in seeders})

    target = tmp_path / "fetched.bin"
    with ThreadPoolExecutor(1) as pool:
        fetch = pool.submit(fourth.run, "fetch", digest, "-o", str(target))
        wait_until(
            lambda: fetch.done() or any((fourth.home / "partial").iterdir()),
            30,
            "the download beginning",
        )
        seeders[0].kill()
        answer = fetch.result()
    assert answer.exit_code == 0, answer.said
    assert sha256(target) == digest
    assert source_addresses(answer.document) & {node.address for node in seeders[1:]}

    for seeder in seeders[1:]:
        assert seeder.stop() == 0
    again = tmp_path / "again.bin"
    document = fifth.ask("fetch", digest, "-o", str(again))
    assert sha256(again) == digest
    assert source_addresses(document) == {fourth.address}


def test_a_flipped_byte_in_one_store_does_no_harm(ten, tmp_path):
    """One seeder's disk has damaged the file; whoever fetches it gets it right."""
    file, digest = random_file(tmp_path / "flipped.bin", 3 * MEBIBYTE, seed=2)
    damaged, sound, leecher = ten[5], ten[6], ten[7]
    at_once(lambda node: node.ask("share", str(file)), [damaged, sound])
    wait_for_providers(leecher, digest, {damaged.address, sound.address})
    flip_byte(stored_file(damaged, digest), 2 * MEBIBYTE)

    target = tmp_path / "fetched.bin"
    document = leecher.ask("fetch", digest, "-o", str(target))
    assert sha256(target) == digest
    assert source_addresses(document) == {sound.address}


def test_a_damaged_file_is_set_aside_by_its_own_seeder(ten, tmp_path):
    """It is the only one who has it: nobody gets wrong bytes, and it stops offering."""
    file, digest = random_file(tmp_path / "damaged.bin", 3 * MEBIBYTE, seed=8)
    damaged, leecher = ten[5], ten[7]
    damaged.ask("share", str(file))
    wait_for_providers(leecher, digest, {damaged.address})
    flip_byte(stored_file(damaged, digest), 2 * MEBIBYTE)

    target = tmp_path / "fetched.bin"
    answer = leecher.run("fetch", digest, "-o", str(target))
    assert answer.exit_code in (4, 5), answer.said
    assert not target.exists()
    assert f"sha256:{digest}" not in held_digests(damaged)


def test_wrong_bytes_among_right_ones_are_not_kept(ten, shared, tmp_path):
    """A peer that sends corrupted chunks is dropped; the others give the file."""
    file, digest = random_file(tmp_path / "contested.bin", 8 * MEBIBYTE, seed=3)
    honest, leecher = ten[8], ten[9]
    honest.ask("share", str(file))
    liar = shared.liar("liar-among-others", file, ten[0].address)
    wait_for_providers(leecher, digest, {honest.address, liar.address})
    target = tmp_path / "fetched.bin"
    document = leecher.ask("fetch", digest, "-o", str(target))
    assert sha256(target) == digest
    assert source_addresses(document) == {honest.address}


def test_what_was_fetched_is_offered_at_once(ten, tmp_path):
    """Whoever has downloaded a file is found as one of its providers."""
    file, digest = random_file(tmp_path / "passed-on.bin", MEBIBYTE, seed=4)
    ten[0].ask("share", str(file))
    wait_for_providers(ten[1], digest, {ten[0].address})
    ten[1].ask("fetch", digest)
    wait_for_providers(ten[2], digest, {ten[0].address, ten[1].address})


def sha256(path):
    """Return the SHA-256 of a file, in hex."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
