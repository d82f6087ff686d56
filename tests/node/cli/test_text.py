"""What people read: sizes, durations, columns, bars."""

from __future__ import annotations

import io
import re

import pytest

from node.cli.progress import ProgressView
from node.cli.text import (
    clean,
    count,
    duration,
    facts,
    fit,
    remark,
    size,
    table,
    width,
    wrapped,
)


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
        (4.24, "4.2 s"),
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


def screen(monkeypatch, columns: int) -> Terminal:
    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", str(columns))
    return terminal


@pytest.mark.parametrize("columns", [40, 80])
def test_tables_fit_the_terminal_whatever_is_in_them(monkeypatch, columns):
    """Digests get shorter, columns go, the rest is cut; wide characters count."""
    terminal = screen(monkeypatch, columns)
    table(
        ("digest", "size", "pinned", "file"),
        [
            ("sha256:" + "ab" * 32, "1023.9 MiB", "pinned", "漢字" * 40),
            ("sha256:" + "cd" * 32, "1 B", "-", "a" * 200),
        ],
        optional=("pinned", "size"),
    )
    lines = terminal.getvalue().splitlines()
    assert len(lines) == 3
    assert all(width(line) <= columns for line in lines)
    assert lines[1].startswith("sha256:abababababab  ")
    assert "漢字" in lines[1]
    assert ("PINNED" in lines[0]) == (columns == 80)


def test_a_table_that_fits_is_left_alone(monkeypatch):
    terminal = screen(monkeypatch, 200)
    digest = "sha256:" + "ab" * 32
    table(("digest", "file"), [(digest, "f")], optional=("file",))
    assert terminal.getvalue() == f"DIGEST{' ' * 67}FILE\n{digest}  f\n"


@pytest.mark.parametrize(
    ("text", "columns", "shown"),
    [
        ("abc", 3, "abc"),
        ("abcd", 3, "ab…"),
        ("漢字", 3, "漢…"),
        ("e\u0301e", 2, "e\u0301e"),
    ],
)
def test_what_does_not_fit_ends_in_an_ellipsis(text, columns, shown):
    assert fit(text, columns) == shown
    assert width(shown) <= columns


@pytest.mark.parametrize("columns", [40, 80])
def test_bars_keep_to_their_lines_and_end_in_a_summary(monkeypatch, columns):
    """Twenty files of one name: a bar for each digest, and one for all of them."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(columns))
    terminal = Terminal()
    with ProgressView(terminal) as view:
        for number in range(20):
            for done in (0, 1000, 2048):
                view.show(
                    {
                        "label": "long name " * 9,
                        "key": f"sha256:{number}",
                        "done": done,
                        "total": 2048,
                        "unit": "bytes",
                    }
                )
    shown = terminal.getvalue()
    assert "20 of 20 files" in shown
    assert "20 files, 40.0 KiB in" in shown
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown).replace("\r", "\n").split("\n")
    assert max(map(width, lines)) <= columns


def test_a_file_that_came_at_once_has_no_summary(monkeypatch):
    """What is printed then says all of it."""
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()
    with ProgressView(terminal) as view:
        view.show({"label": "f", "done": 9, "total": 9, "unit": "bytes"})
    assert "1 file" not in terminal.getvalue()


def test_an_interrupted_download_has_no_summary(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()
    event = {"label": "f", "done": 5, "total": 9, "unit": "bytes"}

    def fetch() -> None:
        with ProgressView(terminal) as view:
            view.show(event)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch()
    assert "1 file" not in terminal.getvalue()


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


@pytest.mark.parametrize("columns", [80, 40])
def test_advice_is_wrapped_and_never_cut(monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    advice = (
        "open TCP port 4747 in the firewall of this machine, and of the router " * 3
    )
    shown = Terminal()
    monkeypatch.setattr("sys.stdout", shown)
    monkeypatch.setenv("NO_COLOR", "1")
    table(("check", "", "advice"), [("ports", "WRONG", advice)], wraps=True)
    lines = shown.getvalue().splitlines()
    assert all(len(line) <= columns for line in lines[1:])
    words = " ".join(lines[1:]).split()
    assert words == ["ports", "WRONG", *advice.split()]


def test_a_command_in_a_sentence_is_not_broken():
    sentence = "no node is running; start one with `caravan join --detach`, or ask"
    assert wrapped(sentence, 50).split("\n") == [
        "no node is running; start one with",
        "`caravan join --detach`, or ask",
    ]
    assert wrapped("x" * 90, 50) == "x" * 90


def test_a_sentence_is_one_line_where_no_person_looks(monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.setenv("TERM", "xterm")
    sentence = "a sentence that is longer than the terminal"
    for stream, lines in ((io.StringIO(), 1), (Terminal(), 3)):
        monkeypatch.setattr("sys.stderr", stream)
        remark(sentence)
        assert stream.getvalue().count("\n") == lines
        assert stream.getvalue().split() == sentence.split()
