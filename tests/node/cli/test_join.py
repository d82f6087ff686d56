"""`join` runs a real node, in the foreground or not, and ends it cleanly."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
ANY_PORT = ("--listen", "127.0.0.1:0", "--web", "127.0.0.1:0")


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "node.cli.main", *arguments]


def environment(home: Path) -> dict[str, str]:
    kept = {
        name: text
        for name, text in os.environ.items()
        if not name.startswith("CARAVAN")
    }
    return kept | {"CARAVAN_HOME": str(home), "PYTHONPATH": str(ROOT)}


def caravan(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    ended = subprocess.run(
        command(*arguments), env=environment(home), capture_output=True, text=True,
        timeout=60,
    )  # fmt: skip
    assert "Traceback" not in ended.stderr
    return ended


@contextmanager
def joined(home: Path, *arguments: str):
    """Run a node in the foreground; yields its process and its ready line."""
    process = subprocess.Popen(
        command("join", *ANY_PORT, "--json", *arguments),
        env=environment(home), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, process.stderr.read() if process.stderr else ""
        yield process, json.loads(line)
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def ask_status(home: Path) -> Any:
    return json.loads(caravan(home, "status", "--json").stdout)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)]
)
def test_a_signal_ends_the_node_cleanly(tmp_path, number, code):
    with joined(tmp_path) as (process, ready):
        assert {"node_id", "address", "web"} <= set(ready)
        assert ask_status(tmp_path)["node_id"] == ready["node_id"]
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
        assert process.returncode == code
        assert out == ""
        assert err == ""
    assert not (tmp_path / "node.json").exists()
    assert caravan(tmp_path, "status").returncode == 3


def test_leave_ends_the_node_and_its_exit_code_is_0(tmp_path):
    with joined(tmp_path) as (process, _):
        assert caravan(tmp_path, "leave").returncode == 0
        process.communicate(timeout=30)
        assert process.returncode == 0


def test_two_nodes_on_one_folder_are_one_sentence(tmp_path):
    with joined(tmp_path):
        second = caravan(tmp_path, "join", *ANY_PORT, "--json")
    assert second.returncode == 1
    assert "another node is running" in second.stderr
    assert second.stderr.count("\n") == 1
    assert json.loads(second.stdout)["exit_code"] == 1


@pytest.mark.parametrize("option", ["--listen", "--web"])
def test_a_taken_port_is_one_sentence(tmp_path, option):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        places = {"--listen": "127.0.0.1:0", "--web": "127.0.0.1:0", option: address}
        arguments = [word for pair in places.items() for word in pair]
        ended = caravan(tmp_path, "join", *arguments)
    assert ended.returncode == 1
    assert "taken" in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_a_detached_node_outlives_the_command_that_started_it(tmp_path):
    ended = caravan(tmp_path, "join", *ANY_PORT, "--detach", "--json")
    try:
        ready = json.loads(ended.stdout)
        assert ended.returncode == 0
        assert ask_status(tmp_path)["address"] == ready["address"]
    finally:
        assert caravan(tmp_path, "leave").returncode == 0
    assert (tmp_path / "node.log").stat().st_mode & 0o777 == 0o600


def test_join_detach_is_done_where_the_node_runs_already(tmp_path):
    """So it can stand in a login script or a crontab."""
    with joined(tmp_path) as (_, ready):
        again = caravan(tmp_path, "join", *ANY_PORT, "--detach", "--json")
        words = caravan(tmp_path, "join", *ANY_PORT, "--detach")
    assert (again.returncode, words.returncode) == (0, 0)
    assert json.loads(again.stdout)["node_id"] == ready["node_id"]
    assert "already running" in words.stdout
    assert (tmp_path / "node.log").read_text().count("is ready at") == 1


def test_what_a_detached_node_fails_at_is_told_with_its_exit_code(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        arguments = ("join", "--listen", "127.0.0.1:0", "--web", address, "--detach")
        ended = caravan(tmp_path, *arguments, "--json")
    assert ended.returncode == 1
    assert "taken" in json.loads(ended.stdout)["error"]
    wrong = caravan(tmp_path, "join", "--web", "192.0.2.1:1", "--detach")
    assert wrong.returncode == 2
    assert not (tmp_path / "node.json").exists()


def test_fetch_writes_to_stdout_pipes_and_links(tmp_path):
    """`-o -` and a pipe get the bytes and nothing else; both stay what they are."""
    content = os.urandom(300_000)
    file, link, pipe = (tmp_path / name for name in ("file", "link", "pipe"))
    file.write_bytes(content)
    (tmp_path / "real").write_bytes(b"old")
    link.symlink_to("real")
    os.mkfifo(pipe)
    with joined(tmp_path):
        shared = json.loads(caravan(tmp_path, "share", str(file), "--json").stdout)
        digest = shared["artifacts"][0]["digest"]
        fetch = command("--home", str(tmp_path), "fetch", digest, "-o")
        for target in ("-", "/dev/stdout"):
            done = subprocess.run([*fetch, target], capture_output=True, timeout=30)
            assert (done.returncode, done.stdout) == (0, content)
        with (
            (tmp_path / "read").open("wb") as read,
            subprocess.Popen(["cat", str(pipe)], stdout=read),
        ):
            assert subprocess.run([*fetch, str(pipe)], timeout=30).returncode == 0
        assert subprocess.run([*fetch, str(link)], timeout=30).returncode == 0
        both = caravan(tmp_path, "fetch", digest, "-o", "-", "--json")
        assert both.returncode == 2
    assert (tmp_path / "read").read_bytes() == content
    assert pipe.is_fifo()
    assert link.is_symlink()
    assert (tmp_path / "real").read_bytes() == content


def test_without_contacts_it_says_how_others_join(tmp_path):
    ended = caravan(tmp_path, "join", *ANY_PORT, "--detach")
    try:
        address = ask_status(tmp_path)["address"]
        assert f"caravan join {address}" in ended.stdout
    finally:
        caravan(tmp_path, "leave")


def test_a_contact_that_does_not_answer_is_told_and_the_node_is_ready(tmp_path):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        contact = f"127.0.0.1:{silent.getsockname()[1]}"
        ended = caravan(tmp_path, "join", contact, *ANY_PORT, "--detach")
        caravan(tmp_path, "leave")
    assert ended.returncode == 0
    assert f"no answer from {contact} yet" in ended.stderr


def test_files_go_from_one_node_to_another(tmp_path):
    """The whole line, through two processes and this command line."""
    one, two = tmp_path / "one", tmp_path / "two"
    file = tmp_path / "file"
    file.write_bytes(os.urandom(300_000))
    with joined(one) as (_, ready), joined(two, ready["address"]) as (_, other):
        assert other["contacts"] == 1
        shared = json.loads(caravan(one, "share", str(file), "--json").stdout)
        digest = shared["artifacts"][0]["digest"]
        target = tmp_path / "fetched"
        fetched = caravan(two, "fetch", digest, "-o", str(target), "--json")
        artifact = json.loads(fetched.stdout)["artifacts"][0]
        assert target.read_bytes() == file.read_bytes()
        assert [one["address"] for one in artifact["sources"]] == [ready["address"]]
        absent = caravan(two, "lookup", "0" * 64, "--json")
        assert absent.returncode == 4
        malformed = caravan(two, "fetch", "sha256:zz")
        assert malformed.returncode == 2
        assert "sha256:<hex>" in malformed.stderr
