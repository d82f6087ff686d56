"""One whole node with very many small files, in a network of many.

    scripts/bench million [--files 1000000] [--nodes 200] [--processes 2] [--filled]
                          [--json]

The files lie in folders of ten thousand, each of which is shared by one command. Then
the node starts anew in another network, in which nobody keeps anything of it: so the
start, the announcement of all that is held, and the memory are those of the whole. The
other nodes are nodes of the DHT alone, in `--processes` processes. With `--filled` the
store is filled from outside, which takes a tenth of the time, and nothing is shared.
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from dht import Network, provider_key
from scripts.benchmarks.commands import fill, node_seconds, peak_mib, seconds
from scripts.benchmarks.parties.dht_network import DhtNetwork
from scripts.benchmarks.report import Goal, Report, Row
from scripts.benchmarks.report import parser as make_parser
from tests.end_to_end.caravan import Caravan, caravan_in

if TYPE_CHECKING:
    import argparse

    from node.demo.processes import NodeProcess

FOLDER_FILES = 10_000
SOURCES = "/dev/shm"
"""In memory, so that only the store is written."""
FILE_BYTES = 1024
NAMES = 3
"""By so many digests an artifact is announced."""
LOOKUPS = 100
RUNS = 5
MINUTES_10 = 600.0
START_SECONDS = 5.0
MEMORY_MB = 500.0
PATIENCE_SECONDS = 3600.0


def main() -> None:
    parser = make_parser("million", __doc__)
    parser.add_argument("--files", type=int, default=1_000_000)
    parser.add_argument("--nodes", type=int, default=200)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--filled", action="store_true")
    options = parser.parse_args()
    report = Report("million", options.json)
    with (
        tempfile.TemporaryDirectory(prefix="caravan-million-") as folder,
        caravan_in(Path(folder)) as caravan,
    ):
        rows = [] if options.filled else _shared(caravan, options)
        rows += _announced(caravan, options)
        report.section(f"One node with {options.files:,} files", rows)
    report.end()


def _shared(caravan: Caravan, options: argparse.Namespace) -> list[Row]:
    """Share all folders, one after the other, while the node announces them."""
    times = []
    with DhtNetwork(options.nodes - 1, options.processes) as network:
        node = caravan.join("node", network.address)
        for start in range(0, options.files, FOLDER_FILES):
            numbers = range(start, min(start + FOLDER_FILES, options.files))
            folder = Path(tempfile.mkdtemp(dir=SOURCES))
            for number in numbers:
                (folder / f"f{number}").write_bytes(content_of(number))
            share = ("share", str(folder))
            times.append(seconds(lambda share=share: node.ask(*share, seconds=900)))  # type: ignore[misc]
            shutil.rmtree(folder)
            print(f"shared {start + len(numbers):,}", times[-1], peak_mib(node))
        peak = peak_mib(node)
        node.stop(60)
    return [
        Row(
            what="shared, by commands of one folder",
            ours=sum(times),
            unit="s",
            goal=Goal(MINUTES_10 * options.files / 1_000_000, ratio=False),
            more={"first folder s": times[0], "last folder s": times[-1]},
        ),
        Row(
            what="memory, at most, while sharing",
            ours=peak * 1024 * 1024 / 1e6,
            unit="MB",
            goal=Goal(MEMORY_MB, ratio=False),
        ),
    ]


def _announced(caravan: Caravan, options: argparse.Namespace) -> list[Row]:
    """Start with everything, announce it, and run commands."""
    node = caravan.node("node")
    if options.filled:
        fill(node.home, options.files, content_of)
    with DhtNetwork(options.nodes - 1, options.processes) as network:
        began = time.monotonic()
        node.join(network.address)
        ready = time.monotonic() - began
        names = _until_placed(node, began, options.files)
        named = names["sha256"]
        used, peak = node_seconds(node), peak_mib(node)
        rng = random.Random("million")
        numbers = [rng.randrange(options.files) for _ in range(LOOKUPS)]
        found = network.ask({"keys": [key_of(one).hex() for one in numbers]})
        rows = _commands(caravan, node)
        node.stop(60)
    goal = Goal(MINUTES_10, ratio=False)
    return [
        Row(
            what="start, until ready",
            ours=ready,
            unit="s",
            goal=Goal(START_SECONDS, ratio=False),
        ),
        Row(what="as many keys placed as files", ours=named, unit="s", goal=goal),
        Row(what="all names placed", ours=names["all"], unit="s", goal=goal),
        Row(what="processor of the node for that", ours=used, unit="s"),
        Row(
            what="memory, at most, once all is announced",
            ours=peak * 1024 * 1024 / 1e6,
            unit="MB",
            goal=Goal(MEMORY_MB, ratio=False),
        ),
        Row(
            what="found, of those looked up",
            ours=found["found"] / LOOKUPS,
            unit="",
            goal=Goal(1, ratio=False, at_least=True),
        ),
        Row(
            what="kept by the fullest keeper", ours=found["kept_bytes"] / 1e6, unit="MB"
        ),
        *rows,
    ]


def _until_placed(node: NodeProcess, began: float, files: int) -> dict[str, float]:
    """Wait until all is placed; return when the first name and all names were."""
    took: dict[str, float] = {}
    while "all" not in took:
        placement = node.ask("status")["placement"]
        now = time.monotonic() - began
        print(f"{now:.0f} s: {placement}", peak_mib(node), flush=True)
        if placement["placed"] >= files:
            took.setdefault("sha256", now)
        if placement["placed"] >= NAMES * files or now > PATIENCE_SECONDS:
            took.setdefault("sha256", now)
            took["all"] = now
        time.sleep(2.0)
    return took


def _commands(caravan: Caravan, node: NodeProcess) -> list[Row]:
    """Return how long commands take beside all that is held."""
    number = iter(range(1_000_000))

    def share() -> None:
        path = caravan.folder / f"one{next(number)}"
        path.write_bytes(os.urandom(1000))
        node.ask("share", str(path))
        node.ask("pin", "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest())

    works = {
        "status": lambda: node.ask("status"),
        "share and pin one file": share,
        "updates": lambda: node.ask("updates"),
    }
    return [
        Row(
            what=what,
            ours=statistics.median(seconds(work) for _ in range(RUNS)),
            unit="s",
        )
        for what, work in works.items()
    ]


def content_of(number: int) -> bytes:
    """Return the bytes of a file, which no other has."""
    return b"%d\n" % number + hashlib.shake_128(b"%d" % number).digest(FILE_BYTES - 16)


def key_of(number: int) -> bytes:
    """Return the key under which a file is announced by its SHA-256."""
    return provider_key(
        Network(), "sha256", hashlib.sha256(content_of(number)).digest()
    )


if __name__ == "__main__":
    main()
