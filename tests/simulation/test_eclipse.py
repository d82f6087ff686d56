"""Eclipse, with attackers who were there first: most lookups still succeed."""

from __future__ import annotations

import pytest

from tests.simulation.test_experiments import run


@pytest.mark.parametrize("spread", [0, 15])
def test_attackers_who_were_there_first_do_not_hide_a_key(spread: int) -> None:
    """45 in ten /24s, next to the key or also spread over the buckets towards it."""
    figures = run(
        "eclipse",
        nodes=250,
        attackers=45,
        groups=10,
        keys=2,
        lookups=20,
        first=1,
        spread=spread,
    )
    assert figures["found"] >= 0.5
