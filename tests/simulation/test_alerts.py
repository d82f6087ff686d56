"""A small share of the experiments `alert` and `absence`, from fixed seeds."""

from __future__ import annotations

from typing import Any

from tests.simulation.experiments import load, options_of
from tests.simulation.report import Progress


def figures(name: str, **chosen: Any) -> dict[str, Any]:
    result = load(name).run(options_of(name, **chosen), Progress(shown=False))
    assert result.failed == []
    found: dict[str, Any] = result.figures
    return found


def test_a_release_reaches_every_holder_who_is_there() -> None:
    """At once those who are online; the others as soon as they are back."""
    found = figures("alert", nodes=60, holders=24, offline=0.25, seed=3)
    assert found["online_told"] == 1.0
    assert found["returned_told"] == 1.0
    assert found["shown_twice"] == 0
    assert found["publisher_messages"] <= 100


def test_the_same_seed_gives_the_same_figures() -> None:
    """To the last digit, whatever else the machine does."""
    runs = [figures("alert", nodes=24, holders=8, seed=4) for _ in range(2)]
    assert runs[0] == runs[1]


def test_a_release_outlives_its_publisher() -> None:
    """Holders keep it alive while nodes leave and others come."""
    found = figures("absence", nodes=24, holders=4, hours=2.0, session=40.0)
    assert found["found"] == 1.0
