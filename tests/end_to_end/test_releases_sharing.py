"""What an owner keeps to himself, and waiting for news, with real processes."""

from __future__ import annotations

import json
import subprocess
import threading

import pytest

from node.demo.processes import CARAVAN, wait_until
from tests.end_to_end.caravan import Caravan, held_digests, random_file

pytestmark = pytest.mark.timeout(90)


def publish(node, file, name, version, *options):
    return node.ask(
        *("publish", str(file), "--name", name, "--version", version, *options)
    )


def providers(node, digest: str) -> set[str]:
    found = node.run("lookup", digest).document.get("providers", [])
    return {one["address"] for one in found}


def test_what_is_kept_back_silences_what_needs_it(caravan: Caravan, tmp_path):
    """A rule for one package in config.toml; the holder still hears of news."""
    publisher = caravan.join("publisher")
    base, base_digest = random_file(tmp_path / "base.bin", 50_000, seed=1)
    app, app_digest = random_file(tmp_path / "app.bin", 50_000, seed=2)
    needed = publish(publisher, base, "base", "1.0")
    made = publish(publisher, app, "app", "1.0", "--depends", needed["package"])
    holder = caravan.node("holder")
    holder.home.mkdir(parents=True)
    rule = f'[sharing]\n"{needed["publisher"]}/base" = "none"\n'
    (holder.home / "config.toml").write_text(rule)
    holder.join(publisher.address)
    holder.ask("fetch", f"{made['publisher']}/app")
    assert {f"sha256:{base_digest}", f"sha256:{app_digest}"} <= held_digests(holder)
    alone, digest = random_file(tmp_path / "alone.bin", 1_000, seed=3)
    holder.ask("share", str(alone))
    wait_until(
        lambda: holder.address in providers(publisher, digest), 30, "the announcement"
    )
    for silent in (base_digest, app_digest):
        assert holder.address not in providers(publisher, silent)

    watch = subprocess.Popen(
        [*CARAVAN, "--home", str(holder.home), "updates", "--watch", "--json"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert watch.stdout is not None
    lines: list[str] = []
    stdout = watch.stdout
    reader = threading.Thread(target=lambda: lines.append(stdout.readline()))
    reader.start()
    try:
        publish(publisher, alone, "app", "1.1", "--depends", needed["package"])
        publisher.ask("broadcast", "app")
        reader.join(40)
    finally:
        watch.kill()
        watch.wait()
        reader.join()
        stdout.close()
    news = json.loads(lines[0])
    assert (news["name"], news["held"], news["newest"]) == ("app", "1.0", "1.1")
