"""`caravan demo`: set up, play all steps, clean up."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from node.demo import attacks, news, story
from node.demo.narrator import Narrator, size_text
from node.demo.processes import ProcessError, signals_held
from node.demo.stage import NODES_MIN, Stage, cast_of
from node.demo.wheels import Wheels, get_wheels
from node.errors import NodeError, UsageError

WHEELS_VARIABLE = "CARAVAN_DEMO_WHEELS"

SECONDS_MAX = 58.0
"""How long the minimum of nodes may take; each one more adds SECONDS_PER_NODE."""

SECONDS_PER_NODE = 1.0

STEPS = (
    story.join,
    story.publish,
    story.hold,
    story.look_up,
    story.fetch,
    attacks.forged_release,
    attacks.wrong_bytes,
    story.survive,
    news.new_version,
    news.return_home,
)


def run(nodes: int, json_output: bool, wheels: Path | None = None) -> int:
    """Run the demo with `nodes` nodes; returns 0 if every step did what it shows.

    `wheels` is a folder that keeps the downloaded packages for the next time; without
    it (and without the variable CARAVAN_DEMO_WHEELS) they are downloaded for this run.
    """
    if nodes < NODES_MIN:
        raise UsageError(f"the demo needs at least {NODES_MIN} nodes")
    narrator = Narrator(json_output=json_output)
    with _interruptible(), tempfile.TemporaryDirectory(prefix="caravan-demo-") as name:
        folder = Path(name)
        cache = wheels or _cache() or folder / "wheels"
        narrator.title(f"Caravan: a network of {nodes} nodes on this machine")
        started = time.monotonic()
        found = get_wheels(cache, folder / "packed")
        set_up = time.monotonic() - started
        _introduce(narrator, found)
        packages = _packages(found)
        started = time.monotonic()
        stage = Stage(
            narrator=narrator,
            wheels=found,
            folder=folder,
            cast=cast_of(folder, nodes),
        )
        try:
            with _bounded(stage, SECONDS_MAX + SECONDS_PER_NODE * (nodes - NODES_MIN)):
                failure = _play(stage)
        finally:
            with signals_held():
                stage.cast.end()
        seconds = time.monotonic() - started
    summary = {
        "ok": failure is None,
        "error": failure,
        "nodes": nodes,
        "set_up_seconds": round(set_up, 1),
        "seconds": round(seconds, 1),
        "packages": packages,
        "origin": found.origin,
        "steps": narrator.steps,
    }
    narrator.summary(summary)
    return 0 if failure is None else NodeError.exit_code


def _play(stage: Stage) -> str | None:
    """Play all steps; returns what went wrong, None if nothing did."""
    for step in STEPS:
        try:
            step(stage)
        except (NodeError, OSError) as error:
            stage.narrator.failed(error)
            return str(error)
    return None


def _introduce(narrator: Narrator, wheels: Wheels) -> None:
    chain = " needs ".join(f"{one.name} {one.version}" for one in wheels.first[::-1])
    size = size_text(sum(wheel.size for wheel in wheels.first))
    narrator.say(f"{chain}: {size}, {wheels.origin}")


def _packages(wheels: Wheels) -> list[dict[str, Any]]:
    return [
        {
            "name": wheel.name,
            "version": wheel.version,
            "file": wheel.path.name,
            "size": wheel.size,
            "needs": list(wheel.needs),
        }
        for wheel in (*wheels.first, wheels.update)
    ]


def _cache() -> Path | None:
    named = os.environ.get(WHEELS_VARIABLE)
    return Path(named) if named else None


@contextmanager
def _bounded(stage: Stage, seconds: float) -> Iterator[None]:
    """Kill all nodes after `seconds`, so that whatever waits for one fails."""

    def give_up(_number: int, _frame: object) -> None:
        stage.cast.kill()
        raise ProcessError(f"the demo took longer than {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let SIGTERM end the demo as Ctrl-C does, so that it cleans up."""

    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
