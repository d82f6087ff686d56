"""How benchmarks report: ratios, goals, tables that line up, one JSON document."""

from __future__ import annotations

import json

import pytest

from scripts.benchmarks.report import Goal, Report, Row, figure, table


def row(**values):
    return Row(**{"what": "fetch", "ours": 2.0, "unit": "s"} | values)


@pytest.mark.parametrize(
    ("goal", "reached"),
    [
        (Goal(0.5), True),
        (Goal(0.49), False),
        (Goal(2, ratio=False), True),
        (Goal(1.9, ratio=False), False),
        (Goal(0.5, at_least=True), True),
        (Goal(0.51, at_least=True), False),
        (None, None),
    ],
)
def test_a_goal_is_reached_or_not(goal, reached):
    assert row(theirs=4.0, goal=goal).reached is reached


def test_a_ratio_needs_something_beside_it():
    assert row(goal=Goal(0.5)).ratio is None
    assert row(goal=Goal(0.5)).reached is None


def test_a_table_lines_up_and_has_no_empty_columns():
    lines = table(
        [
            row(theirs=4.0, beside="curl", goal=Goal(0.6), more={"CPU s": 1.25}),
            row(what="a longer name", ours=0.5),
        ]
    ).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert "curl" in lines[2]
    assert "<= 0.6 x" in lines[2]
    assert "1.25" in lines[2]
    assert "theirs" not in table([row()])


def test_people_get_tables_as_they_are_made(capsys):
    Report("transfer", as_json=False).section("64 MiB", [row()], "five runs")
    said = capsys.readouterr().out
    assert "64 MiB" in said
    assert "| fetch" in said
    assert "five runs" in said


def test_programs_get_one_document(capsys):
    report = Report("transfer", as_json=True)
    report.note("libtorrent is absent")
    report.section("64 MiB", [row(theirs=4.0, goal=Goal(0.4))])
    report.end()
    said = capsys.readouterr()
    document = json.loads(said.out)
    (found,) = document["sections"][0]["rows"]
    assert (found["ratio"], found["reached"]) == (0.5, False)
    assert document["benchmark"] == "transfer"
    assert "libtorrent" in said.err


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.1234, "0.123"), (1.005, "1"), (12.34, "12.3"), (98765.4, "98,765")],
)
def test_figures_have_three_digits(value, text):
    assert figure(value) == text
