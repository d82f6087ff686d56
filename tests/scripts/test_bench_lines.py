"""The lines of the benchmark of links: what they allow, and their names."""

from __future__ import annotations

import pytest

from scripts.benchmarks.parties.lines import Line, is_allowed


def test_a_line_allows_its_rate_without_the_headers():
    """Of 1,514 bytes 1,448 are the file's; two round trips come before."""
    line = Line(20, 30, congestion="reno")
    assert line.least_seconds(20_000_000) == pytest.approx(8.365 + 0.06, abs=0.001)


def test_a_smaller_mtu_costs_more_headers():
    wide, narrow = Line(20, 30), Line(20, 30, mtu=1280)
    assert narrow.least_seconds(10**7) > wide.least_seconds(10**7)


def test_a_line_without_a_bound_allows_anything():
    assert Line().least_seconds(10**9) is None
    assert str(Line()) == "no bound"


def test_a_line_is_named_by_what_is_special():
    assert str(Line(20, 150, 5, "reno", 1280)) == (
        "20 Mbit/s, 150 ms, 5 % loss, RENO, MTU 1280"
    )


def test_every_system_has_its_own_congestion_control():
    assert is_allowed("")
    assert not is_allowed("nonesuch")
