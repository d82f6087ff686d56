"""Killed nodes, damaged files and full stores: nothing corrupt is ever listed."""

from __future__ import annotations

import pytest

from node.demo.processes import wait_until
from tests.end_to_end.caravan import (
    MEBIBYTE,
    SETTLE_SECONDS_MAX,
    Caravan,
    flip_byte,
    held_digests,
    random_file,
    stored_file,
)
from tests.end_to_end.crashes import CHUNK_BYTES, CONNECTIONS_MAX, KINDS, Crashes

pytestmark = pytest.mark.timeout(180)


def test_a_node_killed_at_random_moments_stays_whole(caravan: Caravan) -> None:
    """Twice for each kind of work, always at the same seeded moments."""
    crashes = Crashes(caravan, seed=11)
    for kind in KINDS * 2:
        crashes.kill_once(kind)
    assert crashes.tally.kills == 2 * len(KINDS)
    assert crashes.tally.corrupt == []
    assert crashes.tally.again_bytes_max <= CONNECTIONS_MAX * CHUNK_BYTES


def test_a_flipped_byte_is_set_aside_and_fetched_again(caravan: Caravan) -> None:
    """Found when the file is asked for; the copy is whole again soon after."""
    first, second, third = caravan.network("first", "second", "third")
    file, digest = random_file(caravan.folder / "payload", MEBIBYTE + 77)
    first.ask("share", str(file))
    second.ask("fetch", digest)
    flip_byte(stored_file(second, digest), 300_000)
    assert third.run("fetch", digest).exit_code == 0
    # Whichever of the two was asked: verifying finds what is still damaged.
    second.ask("verify")
    wait_until(
        lambda: f"sha256:{digest}" in held_digests(second),
        SETTLE_SECONDS_MAX,
        "the damaged copy being fetched again",
    )
    assert stored_file(second, digest).read_bytes() == file.read_bytes()
    assert list((second.home / "quarantine").iterdir())


def test_the_store_never_grows_beyond_its_cap(caravan: Caravan) -> None:
    """The oldest goes, a pin never; where only pins are left one sentence says so."""
    node = caravan.join("node", CARAVAN_STORE_BYTES=str(3 * MEBIBYTE))
    digests = []
    for number in range(4):
        file, digest = random_file(caravan.folder / "payload", MEBIBYTE, seed=number)
        node.ask("share", str(file))
        digests.append(f"sha256:{digest}")
        if number == 0:
            node.ask("pin", digests[0])
    assert held_digests(node) == {digests[0], *digests[2:]}
    node.ask("pin", *digests[2:])
    file, _ = random_file(caravan.folder / "payload", MEBIBYTE, seed=9)
    refused = node.run("share", str(file))
    assert refused.exit_code == 1
    assert "store_bytes" in refused.said + str(refused.document)
    assert node.ask("status")["bytes_held"] <= 3 * MEBIBYTE
