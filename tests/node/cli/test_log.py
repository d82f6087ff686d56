"""The log is bounded while the node runs, one line for each event."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading

import pytest

from node.cli import node_log
from node.cli.node_log import JsonFormatter, LineFormatter, NodeLogFile
from tests.node.cli.terminals import ROOT, caravan, environment


def record(message: str, error: BaseException | None = None) -> logging.LogRecord:
    info = (type(error), error, error.__traceback__) if error else None
    return logging.LogRecord("part", logging.WARNING, "f.py", 1, message, (), info)


def raised() -> BaseException:
    try:
        int("two\nlines", 8)
    except ValueError as error:
        return error
    raise AssertionError


def test_the_file_is_bounded_while_it_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(node_log, "LOG_BYTES_MAX", 10_000)
    handler = NodeLogFile(tmp_path / "node.log")
    for number in range(5000):
        handler.emit(record(f"line {number}"))
    handler.close()
    sizes = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    assert set(sizes) == {"node.log", "node.log.1"}
    assert max(sizes.values()) <= 10_000
    assert (tmp_path / "node.log").read_text().endswith("line 4999\n")
    assert (tmp_path / "node.log").stat().st_mode & 0o777 == 0o600


def test_what_goes_to_stderr_is_turned_with_the_file(tmp_path):
    """Otherwise a file that was turned twice would grow without a name."""
    program = f"""
import os, sys, logging
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from node.cli import node_log
node_log.LOG_BYTES_MAX = 1000
log = node_log.NodeLogFile(Path({str(tmp_path / "node.log")!r}), takes_stderr=True)
for number in range(100):
    log.emit(logging.LogRecord("p", 30, "f", 1, "x" * 50, (), None))
os.write(2, b"the end")
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=30)
    assert (tmp_path / "node.log").read_text().endswith("the end")


@pytest.mark.parametrize("error", [None, raised()])
def test_a_record_is_one_line_with_its_time(error):
    line = LineFormatter(node_log.LINE_FORMAT).format(record("bad\x1b\nname", error))
    assert "\n" not in line
    assert "\x1b" not in line
    assert line[10] == "T"
    assert "Z WARNING part: bad" in line
    assert ("ValueError: " in line) == (error is not None)


def test_json_lines_have_the_same_facts():
    document = json.loads(JsonFormatter().format(record("words")))
    assert document.keys() == {"time", "level", "logger", "message"}
    assert document["message"] == "words"


async def test_the_newest_lines_are_printed_without_a_node(tmp_path):
    (tmp_path / "node.log.1").write_text("one\n")
    (tmp_path / "node.log").write_text("two\nthree\n")
    assert (await caravan(tmp_path, "log", "-n", "2")).out == "two\nthree\n"
    document = (await caravan(tmp_path, "log", "--json")).document
    assert document["lines"] == ["one", "two", "three"]


async def test_without_a_log_it_says_so(tmp_path):
    ended = await caravan(tmp_path, "log")
    assert ended.code == 1
    assert "node.log does not exist" in ended.err


def test_following_goes_on_after_the_file_was_turned(tmp_path):
    path = tmp_path / "node.log"
    path.write_text("before\n")
    with subprocess.Popen(
        [sys.executable, "-m", "node.cli.main", "log", "-f"],
        env=environment(tmp_path),
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        watchdog = threading.Timer(20, process.kill)
        watchdog.start()
        first = process.stdout.readline()
        with path.open("a") as file:
            file.write("last of the old\n")
        path.rename(tmp_path / "node.log.1")
        path.write_text("first of the new\n")
        more = [process.stdout.readline() for _ in range(2)]
        process.terminate()
        watchdog.cancel()
    assert first == "before\n"
    assert more == ["last of the old\n", "first of the new\n"]
