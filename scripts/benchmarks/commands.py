"""Whole commands, from their start to their exit, beside what a shell would do.

    scripts/bench commands [--size 512] [--files 3000] [--held 50000] [--runs 10]
                           [--json]

Two nodes on loopback, with TLS as by default. Then the same commands with few and with
many artifacts held, once all of them are announced: no work of a command may grow with
what is held. Their processor time, of the command and of the node, also counts on a
machine that has other work.
"""

from __future__ import annotations

import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

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
IDLE_SECONDS, IDLE_CPU_SECONDS = 1.5, 0.05
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
    parser.add_argument("--runs", type=int, default=10)
    options = parser.parse_args()
    report = Report("commands", options.json)
    with (
        tempfile.TemporaryDirectory(prefix="caravan-commands-") as folder,
        caravan_in(Path(folder)) as caravan,
    ):
        rows = _files(caravan, options.size, options.files)
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


def _files(caravan: Caravan, size: int, count: int) -> list[Row]:
    """Share and fetch one large file, then many small ones."""
    seeder, leecher = caravan.network("seeder", "leecher")
    folder = caravan.folder
    large = new_file(folder / "large", size * MIB)

    def by_hand() -> None:
        subprocess.run(["sha256sum", large], check=True, stdout=subprocess.DEVNULL)
        shutil.copyfile(large, folder / "copy")

    beside = seconds(by_hand)
    share = seconds(lambda: seeder.ask("share", str(large)))
    fetches = [
        _fetch(seeder, leecher, new_file(folder / f"file{mib}", mib * MIB), bound)
        for mib, bound in ((size, FETCH_GOAL), (SHORT_MIB, FETCH_SHORT_GOAL))
    ]
    fetches.append(_processor(seeder, leecher, new_file(folder / "whole", WHOLE_BYTES)))
    small = [new_file(folder / f"small{one}", 1024) for one in range(count)]
    names = [str(path) for path in small]
    share_small = seconds(lambda: seeder.ask("share", *names))
    digests = [str(Digest.of_file(path)) for path in small]
    fetch_small = seconds(lambda: leecher.ask("fetch", *digests))
    version = seconds(lambda: leecher.run("--version"))
    python = seconds(lambda: subprocess.run([sys.executable, "-c", "pass"], check=True))
    status = seconds(lambda: leecher.ask("status"))
    return [
        Row(
            what=f"share {size} MiB",
            ours=share,
            unit="s",
            theirs=beside,
            beside="sha256sum and cp",
            goal=Goal(1.25),
        ),
        *fetches,
        Row(
            what=f"share {count} files of 1 KiB",
            ours=share_small,
            unit="s",
            goal=Goal(1.5, ratio=False),
        ),
        Row(
            what=f"fetch {count} files of 1 KiB",
            ours=fetch_small,
            unit="s",
            goal=Goal(2.5, ratio=False),
        ),
        Row(
            what="--version, beyond python",
            ours=(version - python) * 1000,
            unit="ms",
            goal=Goal(45, ratio=False),
        ),
        Row(
            what="status",
            ours=status * 1000,
            unit="ms",
            goal=Goal(100, ratio=False),
        ),
    ]


def _fetch(seeder: NodeProcess, leecher: NodeProcess, file: Path, bound: float) -> Row:
    """Fetch a file by one command, and by libtorrent from add to finished."""
    seeder.ask("share", str(file))
    digest = str(Digest.of_file(file))
    ours = seconds(lambda: leecher.ask("fetch", digest))
    theirs = None
    if "libtorrent" not in control.absent_peers():
        theirs = _libtorrent_seconds(file)
    return Row(
        what=f"fetch {file.stat().st_size // MIB} MiB",
        ours=ours,
        unit="s",
        theirs=theirs,
        beside="libtorrent" if theirs else "",
        goal=Goal(bound),
    )


def _processor(seeder: NodeProcess, leecher: NodeProcess, file: Path) -> Row:
    """Fetch a file, and count the node's processor time until all digests are known."""
    seeder.ask("share", str(file))
    digest = str(Digest.of_file(file))
    before = control.cpu_seconds(str(leecher.pid))
    leecher.ask("fetch", digest)
    last, now = before, control.cpu_seconds(str(leecher.pid))
    while now - last > IDLE_CPU_SECONDS:
        time.sleep(IDLE_SECONDS)
        last, now = now, control.cpu_seconds(str(leecher.pid))
    return Row(
        what=f"fetch {WHOLE_BYTES // 10**6} MB: the node's processor, all digests",
        ours=now - before,
        unit="s",
        goal=Goal(WHOLE_CPU_GOAL, ratio=False),
    )


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
