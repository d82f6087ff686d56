"""Each attack of `scripts/bench attacks`: honest use goes on, not much slower."""

from __future__ import annotations

import pytest

from scripts.benchmarks.attacks import SLOW_DOWN_MAX, rows_of
from tests.attacks.cases import ATTACKS
from tests.attacks.lab import Lab, Outcome
from tests.end_to_end.caravan import caravan_in


@pytest.mark.full
@pytest.mark.timeout(240)
@pytest.mark.parametrize("name", ATTACKS)
def test_honest_use_goes_on(name, tmp_path):
    """Every honest action succeeds, in at most twice the time."""
    with caravan_in(tmp_path) as caravan:
        outcome = ATTACKS[name].run(Lab(caravan))
    missed = [row.what for row in rows_of(ATTACKS[name], outcome) if not met(row)]
    assert missed == [], outcome


def met(row):
    return row.reached is not False


def test_success_and_slow_down_are_judged():
    outcome = Outcome(tried=100, done=98, attacked_seconds=5.0, quiet_seconds=2.0)
    success, time = rows_of(ATTACKS["silence"], outcome)
    assert (success.ours, success.reached) == (98.0, False)
    assert (time.ratio, time.reached) == (2.5, False)
    assert SLOW_DOWN_MAX == 2.0


def test_a_slow_down_that_nobody_notices_is_not_judged():
    outcome = Outcome(tried=1, done=1, attacked_seconds=0.3, quiet_seconds=0.1)
    success, time = rows_of(ATTACKS["silence"], outcome)
    assert success.reached
    assert time.reached is None
