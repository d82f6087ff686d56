"""A real node that may open 64 files, and a thousand connections at once."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from node.demo.processes import clean_environment
from tests.crowd import crowd
from transfer import Digest, Identity, Leecher, Peer, Store

DATA = os.urandom(700_000)
CLI = [sys.executable, "-m", "node.cli.main"]
LIMITED = ["sh", "-c", 'ulimit -n 64; exec "$@"', "sh"]


def ask(home, *command: str) -> dict:
    """Run one command against the node; it must succeed."""
    done = subprocess.run(
        [*CLI, "--home", str(home), *command, "--json"],
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.full
async def test_a_node_with_64_descriptors_lives_through_a_thousand_connections(
    tmp_path,
):
    """It says what to raise, answers commands meanwhile, and still serves after."""
    home, file = tmp_path / "home", tmp_path / "file"
    file.write_bytes(DATA)
    join = ["join", "--listen", "127.0.0.1:0", "--web", "127.0.0.1:0", "--json"]
    with subprocess.Popen(  # noqa: ASYNC220 (starting it does not block)
        [*LIMITED, *CLI, "--home", str(home), *join],
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            host, _, port = json.loads(process.stdout.readline())["address"].rpartition(
                ":"
            )
            ask(home, "share", str(file))
            there = crowd(int(port))
            assert ask(home, "status")["artifacts"] == 1
            for sock in there:
                sock.close()
            assert await fetched(Peer(host, int(port)), tmp_path / "other") == DATA
            ask(home, "leave")
            _, errors = process.communicate(timeout=20)
        finally:
            process.kill()
    assert len(there) > 64
    assert "ulimit -n" in errors
    assert "Traceback" not in errors
    assert process.returncode == 0


async def fetched(peer: Peer, folder) -> bytes:
    """Return the file as a stranger gets it."""
    store = Store(folder)
    leecher = Leecher(store, Identity(Ed25519PrivateKey.generate()))
    try:
        got = await leecher.download(Digest.of(DATA), [peer])
        return store.read(got.artifact)
    finally:
        await leecher.close()
        store.close()
