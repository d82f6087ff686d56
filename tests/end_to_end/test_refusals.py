"""Bad input and what it gets: one sentence and the exit code that was promised."""

from __future__ import annotations

import hashlib
import json
import socket
import time

import pytest

from tests.end_to_end.caravan import (
    Caravan,
    held_digests,
    random_file,
    wait_for_providers,
)

pytestmark = pytest.mark.timeout(90)

NOWHERE = hashlib.sha256(b"nobody has this").hexdigest()


@pytest.fixture(scope="module")
def pair(shared: Caravan):
    """Two nodes that know each other."""
    return shared.network("first", "second")


def one_sentence(said: str) -> bool:
    """Tell whether a command said one line of words, and no traceback."""
    return len(said.splitlines()) == 1 and "Traceback" not in said and len(said) > 20


@pytest.mark.parametrize(
    "digest", ["sha256:xyz", "sha256:" + "0" * 63, "12345", "", "sha256-AAAA"]
)
@pytest.mark.parametrize("command", ["lookup", "fetch"])
def test_a_malformed_digest_is_a_usage_error(pair, command, digest):
    answer = pair[0].run(command, digest)
    assert answer.exit_code == 2
    assert one_sentence(answer.said)
    assert answer.document["exit_code"] == 2


def test_a_malformed_digest_says_which_forms_are_read(pair):
    assert "sha256:" in pair[0].run("lookup", "sha256:xyz").said


@pytest.mark.parametrize(
    "arguments",
    [
        ("status",),
        ("peers",),
        ("list",),
        ("updates",),
        ("leave",),
        ("lookup", NOWHERE),
        ("fetch", NOWHERE),
    ],
)
def test_without_a_node_it_says_how_to_start_one(caravan, arguments):
    answer = caravan.node("nobody").run(*arguments)
    assert answer.exit_code == 3
    assert one_sentence(answer.said)
    assert "caravan join" in answer.said


def test_what_nobody_offers_ends_soon(pair, tmp_path):
    """It ends with the lookup, and writes nothing."""
    target = tmp_path / "nothing.bin"
    started = time.monotonic()
    answer = pair[0].run("fetch", NOWHERE, "-o", str(target))
    assert answer.exit_code == 4
    assert time.monotonic() - started < 20
    assert one_sentence(answer.said)
    assert not target.exists()
    assert pair[0].run("lookup", NOWHERE).exit_code == 4


def test_wrong_bytes_from_every_peer_are_refused(pair, shared, tmp_path):
    """Exit code 5, nothing written where it was asked for, nothing in the store."""
    file, digest = random_file(tmp_path / "poisoned.bin", 700_000, seed=5)
    liars = [
        shared.liar(f"liar-{number}", file, pair[0].address) for number in range(2)
    ]
    wait_for_providers(pair[1], digest, {liar.address for liar in liars})
    target = tmp_path / "fetched.bin"
    target.write_text("what was here before")
    answer = pair[1].run("fetch", digest, "-o", str(target))
    assert answer.exit_code == 5, answer.said
    assert one_sentence(answer.said)
    assert target.read_text() == "what was here before"
    assert f"sha256:{digest}" not in held_digests(pair[1])


def test_a_weak_digest_is_not_looked_up_among_strangers(pair):
    assert pair[0].run("lookup", hashlib.md5(b"x").hexdigest()).exit_code == 6


def test_an_unreadable_package_file_is_refused(pair, tmp_path):
    forged = tmp_path / "forged.caravan"
    forged.write_text(json.dumps({"payload": "", "payloadType": "x", "signatures": []}))
    answer = pair[0].run("fetch", str(forged))
    assert answer.exit_code in (1, 6)
    assert one_sentence(answer.said)


def test_a_file_that_is_not_there_is_named(pair, tmp_path):
    answer = pair[0].run("share", str(tmp_path / "missing.bin"))
    assert answer.exit_code == 1
    assert one_sentence(answer.said)
    assert "missing.bin" in answer.said


def test_a_taken_port_is_one_sentence(caravan):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        listen = ("--listen", f"127.0.0.1:{port}", "--web", "127.0.0.1:0")
        answer = caravan.node("late").run("join", *listen)
    assert answer.exit_code == 1
    assert one_sentence(answer.said)
    assert str(port) in answer.said


def test_a_taken_web_port_is_one_sentence(caravan):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        web = ("--listen", "127.0.0.1:0", "--web", f"127.0.0.1:{port}")
        answer = caravan.node("late").run("join", *web)
    assert answer.exit_code == 1
    assert one_sentence(answer.said)
    assert str(port) in answer.said


def test_a_second_node_on_one_folder_is_refused(pair):
    """The first one goes on as if nothing had happened."""
    free = ("--listen", "127.0.0.1:0", "--web", "127.0.0.1:0")
    answer = pair[0].run("join", *free)
    assert answer.exit_code == 1
    assert one_sentence(answer.said)
    assert pair[0].ask("status")["address"] == pair[0].address


@pytest.mark.parametrize(
    "content",
    [
        "web = 5",
        "web = [",
        "no_such_setting = 1",
        'listen = "everywhere"',
        "\udcff",
    ],
)
def test_an_unreadable_config_is_one_sentence(caravan, content):
    node = caravan.node("misconfigured")
    node.home.mkdir()
    config = node.home / "config.toml"
    config.write_bytes(content.encode("utf-8", "surrogateescape"))
    answer = node.run("join")
    assert answer.exit_code == 1
    assert one_sentence(answer.said)
    assert "config.toml" in answer.said


def test_a_config_that_is_a_folder_is_one_sentence(caravan):
    node = caravan.node("misconfigured")
    (node.home / "config.toml").mkdir(parents=True)
    answer = node.run("join")
    assert answer.exit_code == 1
    assert one_sentence(answer.said)


def test_an_unknown_command_is_a_usage_error(caravan):
    assert caravan.node("nobody").run("frobnicate").exit_code == 2
