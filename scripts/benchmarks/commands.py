"""Whole commands, from their start to their exit, beside what a shell would do.

    scripts/bench commands [--size 512] [--files 3000] [--held 50000] [--rounds 3]
                           [--runs 10] [--json]

Two nodes on loopback, with TLS as by default, in memory; medians of some rounds. Then
the same commands with few and with many artifacts held, once all of them are announced:
no work of a command may grow with what is held. Their processor time, of the command
and of the node, also counts on a machine that has other work.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import resource
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from node.demo.processes import NodeProcess
from node.model.catalogue import Catalogue
from node.model.database import open_database
from scripts.benchmarks.parties import control
from scripts.benchmarks.report import Goal, Report, Row
from scripts.benchmarks.report import parser as make_parser
from tests.end_to_end.caravan import Caravan, caravan_in
from transfer import Digest, Manifest, Store
from transfer.content.hashing import Contents

MIB = 1024 * 1024
FEW = 50
GROUP = 64
SHORT_MIB = 64
WHOLE_BYTES = 200_000_000
WHOLE_CPU_GOAL = 1.2
ALIASES_SECONDS_MAX = 60.0
FETCH_GOAL, FETCH_SHORT_GOAL = 0.6, 0.4
"""Whole commands, by libtorrent's defaults from add to finished."""
IDLE_SECONDS = 0.02
"""A node that uses less of a second waits for work."""
NAMES = 3
"""By so many digests an artifact is announced."""


def main() -> None:
    parser = make_parser("commands", __doc__)
    parser.add_argument("--size", type=int, default=512, help="of one file, in MiB")
    parser.add_argument("--files", type=int, default=3000, help="of 1 KiB each")
    parser.add_argument("--held", type=int, default=50_000, help="artifacts held")
    parser.add_argument("--runs", type=int, default=10, help="with many held")
    parser.add_argument("--rounds", type=int, default=3, help="of whole commands")
    options = parser.parse_args()
    report = Report("commands", options.json)
    place = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with (
        tempfile.TemporaryDirectory(prefix="caravan-commands-", dir=place) as folder,
        caravan_in(Path(folder)) as caravan,
    ):
        rows = _files(caravan, options.size, options.files, options.rounds)
        report.section("Whole commands", rows)
        rows = _held(caravan, options.held, options.runs)
        report.section(f"With {options.held:,} artifacts held", rows)
    report.end()


def seconds(work: Callable[[], object]) -> float:
    """Return how long a call takes."""
    began = time.monotonic()
    work()
    return time.monotonic() - began


def new_file(path: Path, size: int) -> Path:
    """Write random bytes; 64 MiB of them over and over for a large file."""
    block = os.urandom(min(size, 64 * MIB))
    with path.open("wb") as file:
        for start in range(0, size, len(block)):
            file.write(block[: size - start])
    return path


def _files(caravan: Caravan, size: int, count: int, rounds: int) -> list[Row]:
    """Share and fetch large files, then many small ones."""
    seeder, leecher = caravan.network("seeder", "leecher")
    pair = Pair(seeder, leecher, caravan.folder)
    large = [pair.run(size * MIB) for _ in range(rounds)]
    short = [pair.run(SHORT_MIB * MIB) for _ in range(rounds)]
    rows = [
        Row(
            what=f"share {size} MiB",
            ours=statistics.median(one.share for one in large),
            unit="s",
            theirs=statistics.median(one.by_hand for one in large),
            beside="sha256sum and cp",
            goal=Goal(1.25),
        ),
        _fetch_row(f"fetch {size} MiB", large, FETCH_GOAL),
        _fetch_row(f"fetch {SHORT_MIB} MiB", short, FETCH_SHORT_GOAL),
        pair.processor(),
    ]
    return [*rows, *_small(pair, count, rounds), *_quick(pair.leecher, rounds)]


def _small(pair: Pair, count: int, rounds: int) -> list[Row]:
    """Share and fetch many small files at once, new ones in each round."""
    shares, fetches = [], []
    for _ in range(rounds):
        files = [new_file(pair.new_path(), 1024) for _ in range(count)]
        names = [str(path) for path in files]
        shares.append(seconds(partial(pair.seeder.ask, "share", *names)))
        digests = [str(Digest.of_file(path)) for path in files]
        fetches.append(seconds(partial(pair.leecher.ask, "fetch", *digests)))
        pair.settle()
    return [
        Row(
            what=f"{what} {count} files of 1 KiB",
            ours=statistics.median(times),
            unit="s",
            goal=Goal(most, ratio=False),
        )
        for what, times, most in (("share", shares, 1.5), ("fetch", fetches, 2.5))
    ]


def _quick(node: NodeProcess, rounds: int) -> list[Row]:
    """Commands that only ask the node, or nobody."""

    def median(work: Callable[[], object]) -> float:
        return 1000 * statistics.median(seconds(work) for _ in range(rounds))

    python = median(lambda: subprocess.run([sys.executable, "-c", "pass"], check=True))
    version = median(lambda: node.run("--version"))
    status = median(lambda: node.ask("status"))
    return [
        Row(
            what="--version, beyond python",
            ours=version - python,
            unit="ms",
            goal=Goal(45, ratio=False),
        ),
        Row(what="status", ours=status, unit="ms", goal=Goal(100, ratio=False)),
    ]


class Large(NamedTuple):
    """Seconds for one large file: by each command, and by others beside it."""

    by_hand: float
    share: float
    fetch: float
    libtorrent: float | None


class Pair:
    """A node that shares and one that fetches."""

    def __init__(self, seeder: NodeProcess, leecher: NodeProcess, folder: Path) -> None:
        self.seeder = seeder
        self.leecher = leecher
        self._folder = folder
        self._names = itertools.count()

    def new_path(self) -> Path:
        """Return a path at which nothing is."""
        return self._folder / f"file{next(self._names)}"

    def run(self, size: int) -> Large:
        """Share a file and fetch it right after; then do the same by other means."""
        file, copy = new_file(self.new_path(), size), self.new_path()

        def by_hand() -> None:
            subprocess.run(["sha256sum", file], check=True, stdout=subprocess.DEVNULL)
            shutil.copyfile(file, copy)

        hand = seconds(by_hand)
        copy.unlink()
        share = seconds(lambda: self.seeder.ask("share", str(file)))
        digest = str(Digest.of_file(file))
        fetch = seconds(lambda: self.leecher.ask("fetch", digest))
        self.settle()
        theirs = None
        if "libtorrent" not in control.absent_peers():
            theirs = _libtorrent_seconds(file)
        for node in (self.seeder, self.leecher):
            node.ask("unshare", digest, "--remove")
        file.unlink()
        return Large(hand, share, fetch, theirs)

    def processor(self) -> Row:
        """Fetch a file; count the node's processor time until its digests are known."""
        file = new_file(self.new_path(), WHOLE_BYTES)
        self.seeder.ask("share", str(file))
        digest = str(Digest.of_file(file))
        before = control.cpu_seconds(str(self.leecher.pid))
        self.leecher.ask("fetch", digest)
        self.settle()
        used = control.cpu_seconds(str(self.leecher.pid)) - before
        return Row(
            what=f"fetch {WHOLE_BYTES // 10**6} MB: the node's processor, all digests",
            ours=used,
            unit="s",
            goal=Goal(WHOLE_CPU_GOAL, ratio=False),
        )

    def settle(self) -> None:
        """Wait until both nodes know all digests of what they hold."""
        deadline = time.monotonic() + ALIASES_SECONDS_MAX
        while _lacks_aliases(self.seeder) or _lacks_aliases(self.leecher):
            if time.monotonic() > deadline:
                raise SystemExit("the nodes did not compute all digests in time")
            time.sleep(0.1)


def _fetch_row(what: str, all_: list[Large], bound: float) -> Row:
    """Compare fetches by one command with libtorrent, from add to finished."""
    theirs = [one.libtorrent for one in all_ if one.libtorrent is not None]
    return Row(
        what=what,
        ours=statistics.median(one.fetch for one in all_),
        unit="s",
        theirs=statistics.median(theirs) if theirs else None,
        beside="libtorrent" if theirs else "",
        goal=Goal(bound),
    )


def _lacks_aliases(node: NodeProcess) -> bool:
    with contextlib.closing(sqlite3.connect(node.home / "catalogue.sqlite")) as opened:
        lacking = opened.execute(
            "SELECT count(*) FROM transfer_artifacts WHERE md5 IS NULL"
        )
        return bool(lacking.fetchone()[0])


def _libtorrent_seconds(file: Path) -> float:
    with tempfile.TemporaryDirectory(dir=file.parent) as folder:
        torrent = Path(folder) / "torrent"
        control.make_torrent(file, torrent)
        with control.parties() as running:
            for role in ("seeder", "leecher"):
                place = Path(folder) / role
                place.mkdir()
                files = [str(file)] if role == "seeder" else []
                options = {"folder": str(place), "torrent": str(torrent)}
                running.append(control.Party("libtorrent", files=files, **options))
            seeding, fetching = running
            took: float = fetching.fetch(peers=[seeding.peer])["seconds"]
            return took


def _held(caravan: Caravan, many: int, runs: int) -> list[Row]:
    """Run the same commands with few and with many artifacts held."""
    times: dict[str, list[float]] = {}
    for name, count in (("few", FEW), ("many", many)):
        node = caravan.node(name)
        fill(node.home, count)
        began = time.monotonic()
        node.join()
        ready, used = time.monotonic() - began, node_seconds(node)
        _let_settle(node, NAMES * count)
        peak = peak_mib(node)
        for what, took in _commands(caravan, node, runs).items():
            times.setdefault(what, []).append(took)
        node.stop()
    rows = [
        Row(
            what="start",
            ours=ready,
            unit="s",
            goal=Goal(2.0, ratio=False),
            more={"processor s": used, "MiB when all is announced": peak},
        )
    ]
    return rows + [
        Row(
            what=what,
            ours=large,
            unit="s",
            theirs=small,
            beside=f"the same with {FEW}",
            goal=Goal(1.2),
        )
        for what, (small, large) in times.items()
    ]


def fill(
    home: Path, count: int, content: Callable[[int], bytes] = lambda n: b"%d" % n * 200
) -> None:
    """Put small artifacts into a store, as if they had been shared."""
    home.mkdir(parents=True, exist_ok=True)
    store = Store(home)
    for start in range(0, count, GROUP):
        entries = []
        for number in range(start, min(start + GROUP, count)):
            data = content(number)
            names = ("sha256", "sha512", "blake2b-256", "sha1", "md5")
            digests = {name: Digest.of(data, name) for name in names}
            entries.append((data, Contents(digests, Manifest.of(data))))
        store.add_group(entries)
    held = [str(one.digest) for one in store.artifacts()]
    store.close()
    database = open_database(home / "catalogue.sqlite")
    Catalogue(database).add_directs(held)
    database.close()


def _commands(caravan: Caravan, node: NodeProcess, runs: int) -> dict[str, float]:
    """Return the median time of each command."""
    number = iter(range(1_000_000))

    def share() -> None:
        path = new_file(caravan.folder / f"{node.home.name}{next(number)}", 1000)
        node.ask("share", str(path))
        node.ask("pin", str(Digest.of_file(path)))

    commands: dict[str, Callable[[], object]] = {
        "status": lambda: node.ask("status"),
        "share and pin one file": share,
        "updates": lambda: node.ask("updates"),
    }
    times = {}
    for what, work in commands.items():
        work()
        before = node_seconds(node) + _children_seconds()
        times[what] = statistics.median(seconds(work) for _ in range(runs))
        used = node_seconds(node) + _children_seconds() - before
        times[f"{what}, processor"] = used / runs
    return times


def _let_settle(node: NodeProcess, keys: int) -> None:
    """Wait until all keys are announced, and the node has nothing more to do."""
    while node.ask("status")["placement"]["offered"] < keys:
        time.sleep(0.5)
    used = -1.0
    while (now := node_seconds(node)) - used > IDLE_SECONDS:
        used = now
        time.sleep(1.0)


def node_seconds(node: NodeProcess) -> float:
    """Return the processor time of a node since it started."""
    text = Path(f"/proc/{node.pid}/stat").read_text("ascii")
    fields = text.rpartition(")")[2].split()
    ticks: int = os.sysconf("SC_CLK_TCK")
    return (int(fields[11]) + int(fields[12])) / ticks


def _children_seconds() -> float:
    """Return the processor time of the commands that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def peak_mib(node: NodeProcess) -> float:
    """Return the most memory that a node had at any time."""
    text = Path(f"/proc/{node.pid}/status").read_text("ascii")
    line = next(one for one in text.splitlines() if one.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    main()
