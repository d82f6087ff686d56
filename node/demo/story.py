"""The story, first part: a network forms, shares packages and loses two nodes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from node.demo.narrator import size_text
from node.demo.processes import NodeProcess, wait_until
from node.demo.stage import (
    UPLOAD_BYTES_PER_SECOND,
    Stage,
    must,
    sha256_of,
    sources_of,
    together,
)
from node.demo.wheels import TOP, UPDATED

SETTLE_SECONDS_MAX = 15.0


def join(stage: Stage) -> None:
    """Let all but the newcomer join, each through the same single contact."""
    others = stage.cast.nodes[1:-1]
    title = f"{len(others)} nodes join through one contact"
    with stage.narrator.step("join", title) as figures:
        first = stage.cast.bootstrap
        first.join()
        say = stage.narrator.say
        say(f"{first.name} starts alone at {first.address}")
        for node in others:
            node.start(first.address)
        for node in others:
            node.wait_ready()
        running = stage.cast.nodes[:-1]
        counts = wait_until(
            lambda: _contact_counts(running, at_least=len(running) // 2),
            SETTLE_SECONDS_MAX,
            "the nodes finding each other",
        )
        known = " to ".join(str(count) for count in sorted({min(counts), max(counts)}))
        say(f"each knows {known} others after it; nobody leads")
        say(
            f"each sends at most {size_text(UPLOAD_BYTES_PER_SECOND)} a second, as "
            "on a home connection"
        )
        figures.update(nodes=len(running), contacts_min=min(counts))


def publish(stage: Stage) -> None:
    """Sign three packages, each with its dependencies."""
    title = (
        f"{stage.cast.publisher.name} publishes real packages and their dependencies"
    )
    with stage.narrator.step("publish", title) as figures:
        for wheel in stage.wheels.first:
            needs = [stage.published.packages[name] for name in wheel.needs]
            document = stage.cast.publisher.ask(
                *("publish", str(wheel.path), "--name", wheel.name),
                *("--version", wheel.version),
                *(part for digest in needs for part in ("--depends", digest)),
            )
            stage.published.publisher = document["publisher"]
            stage.published.packages[wheel.name] = document["package"]
            words = f", needs {' and '.join(wheel.needs)}" if wheel.needs else ""
            stage.narrator.say(
                f"{wheel.name} {wheel.version}: {size_text(wheel.size)}{words}"
            )
        stage.narrator.say(
            f"signed by {stage.published.publisher[:16]}..., release 1 each"
        )
        figures.update(
            publisher=stage.published.publisher, packages=stage.published.packages
        )


def hold(stage: Stage) -> None:
    """Fetch a package by its name on some nodes, and so its dependencies."""
    holders = stage.cast.holders
    title = f"{len(holders)} nodes fetch {TOP} by name, with its dependencies"
    with stage.narrator.step("hold", title) as figures:
        target = stage.published.target(TOP)
        answers = [holders[0].ask("fetch", target)]
        answers += together(lambda node: node.ask("fetch", target), holders[1:])
        stage.cast.traveller.ask("fetch", stage.published.target(UPDATED))
        counted = sources_of(one for answer in answers for one in answer["artifacts"])
        from_publisher = counted.get(stage.cast.publisher.address, 0)
        total = sum(counted.values())
        stage.narrator.say(
            f"{size_text(total)} arrived and were verified: "
            f"{size_text(from_publisher)} from {stage.cast.publisher.name}, "
            f"{size_text(total - from_publisher)} from {holders[0].name}, "
            "which had it first and offered it on"
        )
        stage.narrator.say(
            f"{stage.cast.traveller.name} fetches only {UPDATED}; "
            "every node offers what it has"
        )
        for answer in answers:
            _check_complete(stage, answer)
        figures.update(bytes=total, bytes_from_publisher=from_publisher)


def look_up(stage: Stage) -> None:
    """Find the nodes that have a file, by the digest in a lockfile."""
    wheel = stage.wheels.named(TOP)
    digest = sha256_of(wheel.path)
    with stage.narrator.step("lookup", "Who has this SHA-256?") as figures:
        stage.narrator.say(f"{stage.cast.reader.name} knows only sha256:{digest}")
        expected = len(stage.cast.holders) + 1

        def found() -> dict[str, Any] | None:
            document = stage.cast.reader.ask("lookup", digest)
            return document if len(document["providers"]) >= expected else None

        document = wait_until(found, SETTLE_SECONDS_MAX, "finding all providers")
        who = [stage.cast.name_at(one["address"]) for one in document["providers"]]
        stage.narrator.say(
            f"{', '.join(sorted(who))}: found with {document['requests']} requests in "
            f"{document['seconds'] * 1000:.0f} ms"
        )
        figures.update(
            providers=len(who),
            requests=document["requests"],
            lookup_seconds=document["seconds"],
        )


def fetch(stage: Stage) -> None:
    """Fetch one file from every node that has it, at the same time."""
    wheel = stage.wheels.named(TOP)
    digest = sha256_of(wheel.path)
    title = f"{stage.cast.reader.name} fetches it from all of them at once"
    with stage.narrator.step("fetch", title) as figures:
        target = stage.folder / "out" / wheel.path.name
        document = stage.cast.reader.ask(
            *("fetch", digest, "-o", str(target)),
            show_progress=stage.narrator.on_terminal,
        )
        (artifact,) = document["artifacts"]
        _check_file(target, digest)
        sources = sources_of([artifact])
        for address, count in sorted(sources.items()):
            share = 100 * count / wheel.size
            stage.narrator.say(
                f"{stage.cast.name_at(address):10} {size_text(count):>8} {share:3.0f} %"
            )
        must(len(sources) > 1, "it came from one peer only")
        seconds = artifact["seconds"]
        alone = wheel.size / UPLOAD_BYTES_PER_SECOND
        stage.narrator.say(
            f"{size_text(wheel.size)} in {seconds:.1f} s, every chunk and the whole "
            f"file verified; one of them alone would take {alone:.1f} s"
        )
        figures.update(sources=len(sources), fetch_seconds=seconds)


def survive(stage: Stage) -> None:
    """Kill the two nodes that everything began with; the others do without."""
    first, second = stage.cast.bootstrap, stage.cast.publisher
    title = f"{first.name} and {second.name} are killed; the network goes on"
    with stage.narrator.step("survive", title) as figures:
        first.kill()
        second.kill()
        stage.narrator.say("SIGKILL to the bootstrap node and to the only publisher")
        started = time.monotonic()
        folder = stage.folder / "out" / "survivor"
        document = stage.cast.survivor.ask(
            "fetch", stage.published.target(TOP), "-o", f"{folder}/"
        )
        fetch_seconds = time.monotonic() - started
        _check_complete(stage, document)
        for wheel in stage.wheels.first:
            _check_file(folder / wheel.path.name, sha256_of(wheel.path))
        stage.narrator.say(
            f"{stage.cast.survivor.name} fetches {TOP} and all it needs from "
            f"{len(sources_of(document['artifacts']))} others in {fetch_seconds:.1f} s"
        )
        started = time.monotonic()
        stage.cast.newcomer.join(stage.cast.holders[0].address)
        contacts = _contact_counts([stage.cast.newcomer], at_least=1)
        must(contacts is not None, "the newcomer knows nobody")
        stage.narrator.say(
            f"{stage.cast.newcomer.name} joins through {stage.cast.holders[0].name} in "
            f"{time.monotonic() - started:.1f} s and knows {max(contacts or [0])} nodes"
        )
        figures.update(fetch_seconds=round(fetch_seconds, 2))


def _contact_counts(nodes: list[NodeProcess], at_least: int) -> list[int] | None:
    """Return how many contacts each node has; None if one has fewer than enough."""
    counts = together(lambda node: int(node.ask("status")["contacts"]), nodes)
    return counts if min(counts) >= at_least else None


def _check_complete(stage: Stage, document: dict[str, Any]) -> None:
    """See that a fetch brought the package and everything that it needs."""
    digests = {artifact["digest"] for artifact in document["artifacts"]}
    for wheel in stage.wheels.first:
        digest = f"sha256:{sha256_of(wheel.path)}"
        must(digest in digests, f"{wheel.name} is missing from what was fetched")


def _check_file(path: Path, digest: str) -> None:
    """See that a file is there with the right bytes, by our own SHA-256."""
    must(path.is_file(), f"{path.name} was not written")
    must(sha256_of(path) == digest, f"{path.name} has other bytes than were asked for")
