"""Measure downloads over lines of every kind, beside curl and libtorrent.

    scripts/bench links [--only lossy] [--runs 1] [--json]

Real processes in network namespaces that this makes and removes; it needs root. Ours
speaks TLS, as by default; curl gets a plain file from nginx; libtorrent is its wheel
with its defaults, over TCP. The ratio is to what the line allows: all of its rate, and
two round trips.
"""

from __future__ import annotations

import shutil
import signal
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.benchmarks.parties import control, lines
from scripts.benchmarks.parties.lines import Line
from scripts.benchmarks.report import Goal, Report, Row
from scripts.benchmarks.report import parser as make_parser
from tests.reach.lab import Lab, why_not

MB = 1_000_000
GOAL = 1.1
LONG_ROUND_TRIPS = 50
"""What takes fewer of them is bound by TCP's start, not by the line."""
GOAL_BESIDE_CURL = 2.0
PORT = 8080
UNBOUNDED_BYTES = 200 * MB
CURL_SECONDS_MAX = 300
NOT_ALLOWED = "add it to net.ipv4.tcp_allowed_congestion_control"

CLEAN = {
    Line(20, 30, congestion="cubic"): 20 * MB,
    Line(20, 150, congestion="cubic"): 20 * MB,
    Line(200, 30, congestion="cubic"): 100 * MB,
    Line(200, 150, congestion="cubic"): 100 * MB,
    Line(20, 30, congestion="reno"): 20 * MB,
    Line(20, 30, congestion="bbr"): 20 * MB,
    Line(200, 30, congestion="bbr"): 100 * MB,
    Line(20, 30, congestion="cubic", mtu=1280): 20 * MB,
}
LOSSY = {
    Line(20, 30, 5, "reno"): 5 * MB,
    Line(20, 30, 5, "cubic"): 5 * MB,
    Line(20, 150, 5, "reno"): 2 * MB,
    Line(200, 30, 5, "reno"): 5 * MB,
    Line(200, 30, 5, "bbr"): 20 * MB,
    Line(200, 150, 5, "bbr"): 20 * MB,
}
ALL = {"unbounded": {Line(): UNBOUNDED_BYTES}, "clean": CLEAN, "lossy": LOSSY}
KINDS = {
    **ALL,
    "lossy-bbr": {
        line: size for line, size in LOSSY.items() if line.congestion == "bbr"
    },
}
"""With parts of the others, which can be measured by themselves."""


@dataclass
class Bench:
    """One line with a payload at its far ends."""

    lab: Lab
    folder: Path
    payload: Path
    digest: str
    running: list[control.Party]
    started: int = 0

    def party(self, role: str, where: str, host: str, **options: Any) -> control.Party:
        """Start a party in a namespace."""
        self.started += 1
        folder = self.folder / f"party{self.started}"
        party = control.Party(
            role,
            within=self.lab.command(where),
            host=host,
            folder=str(folder),
            torrent=str(self.folder / "payload.torrent"),
            tls=True,
            **options,
        )
        self.running.append(party)
        return party

    def seeders(self, role: str, count: int) -> list[list[Any]]:
        """Start seeders; return where they are."""
        return [
            self.party(
                role,
                lines.seeder(number),
                lines.seeder_host(number),
                files=[str(self.payload)],
            ).peer
            for number in range(1, count + 1)
        ]


def main() -> None:
    parser = make_parser("links", __doc__)
    parser.add_argument("--only", nargs="+", choices=KINDS, default=list(ALL))
    parser.add_argument("--runs", type=int, default=1)
    options = parser.parse_args()
    report = Report("links", options.json)
    if why := why_not():
        raise SystemExit(why)
    if absent := control.absent_peers():
        raise SystemExit("; ".join(absent.values()))
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    place = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(prefix="caravan-links-", dir=place) as folder:
        for kind in options.only:
            rows = []
            for line, size in KINDS[kind].items():
                if lines.is_allowed(line.congestion):
                    rows += measure(line, size, options.runs, Path(folder))
                else:
                    report.note(f"skipped {line}: {NOT_ALLOWED}")
            report.section(f"Lines: {kind}", rows, f"Medians of {options.runs}.")
    report.end()


def measure(line: Line, size: int, runs: int, folder: Path) -> list[Row]:
    """Fetch a payload over one line, by all parties in turn."""
    place = Path(tempfile.mkdtemp(dir=folder))
    payload = place / "source" / "payload"
    payload.parent.mkdir()
    digest = control.make_payload(payload, size)
    control.make_torrent(payload, place / "payload.torrent")
    found: dict[str, list[float]] = {}
    with lines.between(line, place) as lab, control.parties() as running:
        bench = Bench(lab, place, payload, digest, running)
        ways: dict[str, Callable[[], float]] = {
            "curl": _curl(bench),
            "caravan 1": _swarm(bench, "caravan", 1),
            "caravan 4": _swarm(bench, "caravan", lines.SEEDERS),
            "libtorrent 1": _swarm(bench, "libtorrent", 1),
            "libtorrent 4": _swarm(bench, "libtorrent", lines.SEEDERS),
        }
        nginx = control.Nginx(
            place / "nginx",
            payload.parent,
            at=(lines.seeder_host(1), PORT),
            within=lab.command(lines.seeder(1)),
        )
        try:
            for _ in range(runs):
                for way, fetch in ways.items():
                    found.setdefault(way, []).append(fetch())
        finally:
            nginx.close()
    shutil.rmtree(place)
    medians = {way: statistics.median(times) for way, times in found.items()}
    return _rows(line, size, medians)


def _rows(line: Line, size: int, seconds: dict[str, float]) -> list[Row]:
    least = line.least_seconds(size)
    curl = seconds["curl"]
    goal: Goal | None = Goal(GOAL_BESIDE_CURL)
    if least is not None:
        is_long = least * 1e3 > LONG_ROUND_TRIPS * line.round_trip
        goal = Goal(GOAL) if is_long and not line.loss else None
    return [
        Row(
            what=f"{line}, {size // MB} MB, {count} seeder{'s' * (count > 1)}",
            ours=seconds[f"caravan {count}"],
            unit="s",
            theirs=least or curl,
            beside="curl" if least is None else "the line",
            goal=goal,
            more={"curl s": curl, "libtorrent s": seconds[f"libtorrent {count}"]},
        )
        for count in (1, lines.SEEDERS)
    ]


def _swarm(bench: Bench, role: str, count: int) -> Callable[[], float]:
    peers: list[list[Any]] = []

    def fetch() -> float:
        if not peers:
            peers.extend(bench.seeders(role, count))
        party = bench.party(role, lines.LEECHER, lines.LEECHER_HOST)
        digests = [f"sha256:{bench.digest}"]
        seconds: float = party.fetch(peers=peers, digests=digests)["seconds"]
        party.close()
        bench.running.remove(party)
        return seconds

    return fetch


def _curl(bench: Bench) -> Callable[[], float]:
    def fetch() -> float:
        url = f"http://{lines.seeder_host(1)}:{PORT}/{bench.payload.name}"
        target = bench.folder / "curl"
        limit = str(CURL_SECONDS_MAX)
        command = ["curl", "-sf", "--max-time", limit, "-o", str(target), url]
        began = time.monotonic()
        subprocess.run(bench.lab.command(lines.LEECHER, *command), check=True)
        seconds = time.monotonic() - began
        target.unlink()
        return seconds

    return fetch


if __name__ == "__main__":
    main()
