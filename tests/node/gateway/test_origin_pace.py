"""How long peers are alone, by what the origin is expected to take."""

from __future__ import annotations

import pytest

from node.gateway.origin_pace import OriginPace

MEBIBYTE = 1024 * 1024


def test_of_an_unknown_origin_nothing_is_expected():
    pace = OriginPace()
    assert pace.expected("pypi", 5) is None
    assert pace.head_start("pypi", 5, 0.2) == 0.2


def test_a_near_origin_is_not_waited_for_long():
    pace = OriginPace()
    pace.measure("pypi", 0.06, 1000)
    assert pace.head_start("pypi", 20_000, 0.2) == pytest.approx(0.03)
    assert pace.head_start("npm", 20_000, 0.2) == 0.2


def test_what_takes_an_origin_long_is_left_to_peers_first():
    pace = OriginPace()
    pace.measure("pypi", 0.05, 1000)
    pace.measure("pypi", 5.05, 10 * MEBIBYTE)
    assert pace.expected("pypi", 2 * MEBIBYTE) == pytest.approx(1.05)
    assert pace.head_start("pypi", 2 * MEBIBYTE, 0.2) == 0.2
    assert pace.head_start("pypi", None, 0.2) == pytest.approx(0.025)


def test_recent_answers_count_more():
    pace = OriginPace()
    for _ in range(30):
        pace.measure("pypi", 1.0, 1000)
    for _ in range(30):
        pace.measure("pypi", 0.1, 1000)
    assert pace.expected("pypi", 0) == pytest.approx(0.1, abs=0.01)


def test_an_answer_quicker_than_its_latency_gives_no_endless_rate():
    pace = OriginPace()
    pace.measure("pypi", 0.5, 1000)
    pace.measure("pypi", 0.1, 10 * MEBIBYTE)
    assert pace.expected("pypi", 10 * MEBIBYTE) == pytest.approx(0.55)
    pace.measure("npm", 0.0, 10 * MEBIBYTE)
    assert pace.expected("npm", MEBIBYTE) >= 0.0
