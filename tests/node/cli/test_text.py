"""What people read: sizes, durations, columns, bars."""

from __future__ import annotations

import io

import pytest

from node.cli.progress import ProgressView
from node.cli.text import clean, count, duration, facts, size, table


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1536, "1.5 KiB"),
     (50 * 2**20, "50.0 MiB"), (2**30 - 1, "1.0 GiB"), (2**60, "1048576.0 TiB")],
)  # fmt: skip
def test_sizes_are_written_with_a_unit(number, text):
    assert size(number) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.123, "0.12 s"),
        (42.4, "42 s"),
        (90, "2 min"),
        (7200, "2 h"),
        (864000, "10 days"),
    ],
)
def test_durations_are_written_with_a_unit(seconds, text):
    assert duration(seconds) == text


def test_one_is_not_many():
    assert count(1, "peer") == "1 peer"
    assert count(2, "peer") == "2 peers"


def test_what_could_drive_a_terminal_is_shown_instead():
    assert clean("a\x1b[2Jb\n") == "a\\x1b[2Jb\\x0a"
    assert clean("größe 漢字") == "größe 漢字"


def test_a_person_sees_aligned_columns_under_a_header(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    monkeypatch.setenv("NO_COLOR", "1")
    table(("name", "size"), [("a", 1), ("longer", 22)])
    facts([("a", 1), ("long name", 2)])
    assert terminal.getvalue() == (
        "NAME    SIZE\na       1\nlonger  22\na:         1\nlong name: 2\n"
    )


def test_an_empty_table_prints_nothing(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    table(("name",), [])
    assert terminal.getvalue() == ""


def test_bars_are_drawn_for_people_only(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    pipe, terminal = io.StringIO(), Terminal()
    for stream in (pipe, terminal):
        with ProgressView(stream) as view:
            for done in (0, 512, 1024):
                view.show(
                    {
                        "label": "[b]file\x07",
                        "done": done,
                        "total": 1024,
                        "unit": "bytes",
                    }
                )
            view.show({"label": "k", "done": 3, "total": None, "unit": "nodes"})
    assert pipe.getvalue() == ""
    assert "[b]file\\x07" in terminal.getvalue()
    assert "1.0 KiB of 1.0 KiB" in terminal.getvalue()
    assert "3 nodes" in terminal.getvalue()


def test_bars_that_are_done_make_room(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()
    with ProgressView(terminal) as view:
        for number in range(30):
            for done in (0, 1):
                view.show(
                    {"label": f"{number}", "done": done, "total": 1, "unit": "chunks"}
                )
        assert view._bars is not None
        assert len(view._bars._bars) == 10
