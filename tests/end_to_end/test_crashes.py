"""SIGKILL in the middle of a fetch, a share, a clean: nothing corrupt is listed."""

from __future__ import annotations

import pytest

from tests.end_to_end.caravan import Caravan
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
