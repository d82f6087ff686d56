"""The cases of the transfer benchmark: who fetches what from whom, and the goals."""

from __future__ import annotations

import hashlib
import os
import shutil
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scripts.benchmarks.parties.control import (
    MIB,
    Document,
    Nginx,
    Party,
    curl_and_openssl,
    load,
    make_payload,
    make_torrent,
    parties,
)
from scripts.benchmarks.report import Goal, Row

NAMES = ("one", "four", "crowd", "small", "capped", "killed", "lateness")
CAPPED_BYTES = 100 * 1000 * 1000
CAP = 10 * 1000 * 1000
CAPPED_LEECHERS = 10
CAPPED_GOAL = 1.15
KILLED_SEEDERS = 2
KILLED_GOAL = 1.3
SMALL_COUNT = 1000
SMALL_BYTES = 20 * 1024
AT_ONCE = 32

Measure = Callable[["Bench", Path], Document]
Goals = dict[tuple[str, str, str], float]

# Bounds on the ratio ours / theirs, by (ours, theirs, what); on memory in MiB.
GOALS_ONE: Goals = {
    ("caravan", "libtorrent default", "seconds"): 0.35,
    ("caravan TLS", "libtorrent default", "seconds"): 0.55,
    ("caravan", "libtorrent tuned", "seconds"): 0.45,
    ("caravan", "nginx + curl + openssl", "seconds"): 0.7,
    ("caravan TLS", "caravan", "seconds"): 1.8,
    ("caravan", "libtorrent default", "cpu_seconds"): 0.6,
    ("caravan", "", "peak_mib"): 60,
}
GOALS_SHORT: Goals = {("caravan", "libtorrent default", "seconds"): 0.2}
GOALS_FOUR: Goals = {("caravan", "libtorrent default", "seconds"): 0.35}
GOALS_CROWD: Goals = {("caravan", "libtorrent default", "seconds"): 0.6}
GOALS_SMALL: Goals = {("caravan", "nginx + aiohttp", "seconds"): 0.5}
GOALS_CAPPED: Goals = {("caravan", "libtorrent default", "seconds"): 1.0}
LONG_BYTES = 256 * MIB


@dataclass
class Plan:
    """One case at one size: the rows of its table, and what each measures."""

    title: str
    size: int
    rows: dict[str, Measure]
    goals: Goals = field(default_factory=dict)
    bound: float = 0.0
    """The least seconds that the rates allow, where rates are capped."""
    bound_goal: float = 0.0


@dataclass
class Bench:
    """What all rows of one case share: a payload, and who serves it."""

    folder: Path
    payload: Path
    size: int
    digest: str
    torrent: Path
    running: list[Party]
    web: Nginx | None = None
    smalls: list[str] = field(default_factory=list)
    seeders: dict[Any, list[Party]] = field(default_factory=dict)

    def ours(self, count: int, **options: Any) -> list[Party]:
        """Return seeders of ours, started once and kept for all runs."""
        return self._seeders(("caravan", *options.items()), count, **options)

    @property
    def nginx(self) -> Nginx:
        """The web server; only cases that start one ask for it."""
        assert self.web is not None
        return self.web

    def torrents(
        self, count: int, *, tuned: bool = False, up: int | None = None
    ) -> list[Party]:
        """Return seeders of libtorrent, started once and kept for all runs."""
        key = ("libtorrent", tuned, up)
        torrent = str(self.torrent)
        return self._seeders(key, count, tuned=tuned, up=up, torrent=torrent)

    def _seeders(self, key: Any, count: int, **options: Any) -> list[Party]:
        found = self.seeders.setdefault(key, [])
        files = [str(self.payload)]
        if self.smalls and key[0] == "caravan":
            files = [str(self.folder / "small" / name) for name in self.smalls]
        while len(found) < count:
            home = self.folder / f"seeder{len(self.running)}"
            party = Party(key[0], folder=str(home), files=files, **options)
            found.append(party)
            self.running.append(party)
        return found[:count]


def plan(name: str, sizes: list[int], peers: set[str]) -> list[Plan]:
    """Return what to measure for a case, without the peers that are absent."""
    plans = {
        "one": lambda: [_plan_one(s) for s in sizes],
        "four": lambda: [
            Plan(f"{_mib(s)}, four seeders", s, _many(4), GOALS_FOUR) for s in sizes[:1]
        ],
        "crowd": lambda: [
            Plan(f"{_mib(s)}, flash crowd 1 to 4", s, _crowd(4), GOALS_CROWD)
            for s in sizes[:1]
        ],
        "small": lambda: [
            Plan("1,000 packages of 20 KiB", SMALL_BYTES, _small(), GOALS_SMALL)
        ],
        "capped": lambda: [_capped()],
        "killed": lambda: [_killed()],
        "lateness": lambda: [
            Plan(f"{_mib(sizes[0])}, how late timers fire", sizes[0], _lateness())
        ],
    }[name]()
    for one in plans:
        one.rows = {
            row: measure
            for row, measure in one.rows.items()
            if row.split()[0] in peers or (row.startswith("nginx") and "curl" in peers)
        }
    return plans


def run(plan: Plan, runs: int, folder: Path) -> list[Document]:
    """Measure all rows in turn, `runs` times; medians with the least and the most."""
    answers: dict[str, list[Document]] = {row: [] for row in plan.rows}
    with _bench(plan, folder) as bench:
        for number in range(runs):
            for row, measure in plan.rows.items():
                home = folder / f"run{number}-{len(answers[row])}"
                home.mkdir(parents=True)
                answers[row].append(measure(bench, home) | {"load": load()})
                shutil.rmtree(home)
    return [_summary(plan, row, found) for row, found in answers.items()]


@contextmanager
def _bench(plan: Plan, folder: Path) -> Iterator[Bench]:
    source = folder / "source"
    source.mkdir(parents=True)
    payload, torrent = source / "payload", folder / "payload.torrent"
    digest = make_payload(payload, plan.size)
    names = " ".join(plan.rows)
    if "libtorrent" in names:
        make_torrent(payload, torrent)
    with parties() as running:
        bench = Bench(folder, payload, plan.size, digest, torrent, running)
        if "20 KiB" in plan.title:
            bench.smalls = _make_smalls(folder / "small")
            source = folder / "small"
        if "nginx" in names:
            bench.web = Nginx(folder / "nginx", source)
        try:
            yield bench
        finally:
            if bench.web is not None:
                bench.web.close()


def _make_smalls(folder: Path) -> list[str]:
    folder.mkdir()
    names = []
    for _ in range(SMALL_COUNT):
        data = os.urandom(SMALL_BYTES)
        names.append(hashlib.sha256(data).hexdigest())
        (folder / names[-1]).write_bytes(data)
    return names


# What is measured.


def _plan_one(size: int) -> Plan:
    goals = GOALS_ONE if size >= LONG_BYTES else GOALS_SHORT
    return Plan(f"{_mib(size)}, one seeder", size, _one(), goals)


def _one() -> dict[str, Measure]:
    return {
        "caravan": _caravan(1),
        "caravan TLS": _caravan(1, tls=True),
        "caravan paced by the system": _caravan(1, paced=True),
        "libtorrent default": _libtorrent(1),
        "libtorrent tuned": _libtorrent(1, tuned=True),
        "nginx + curl + openssl": _curl,
    }


def _many(count: int) -> dict[str, Measure]:
    return {
        "caravan": _caravan(count),
        "libtorrent default": _libtorrent(count),
        "libtorrent tuned": _libtorrent(count, tuned=True),
    }


def _crowd(leechers: int) -> dict[str, Measure]:
    return {
        "caravan": _caravan(1, leechers=leechers),
        "libtorrent default": _libtorrent(1, leechers=leechers),
        "libtorrent tuned": _libtorrent(1, leechers=leechers, tuned=True),
    }


def _capped() -> Plan:
    title = f"100 MB, one seeder and {CAPPED_LEECHERS} leechers, each 10 MB/s up"
    rows = {
        "caravan": _caravan(1, leechers=CAPPED_LEECHERS, up=CAP),
        "libtorrent default": _libtorrent(1, leechers=CAPPED_LEECHERS, up=CAP),
    }
    bound = _fluid_seconds(1)
    return Plan(title, CAPPED_BYTES, rows, GOALS_CAPPED, bound, CAPPED_GOAL)


def _killed() -> Plan:
    title = (
        f"100 MB, two seeders and {CAPPED_LEECHERS} leechers, each 10 MB/s up, the"
        " first seeder killed half-way"
    )
    whole = _fluid_seconds(KILLED_SEEDERS)
    seconds = whole / 2
    rows = {
        "caravan": _killing("caravan", seconds, up=CAP),
        "libtorrent default": _killing("libtorrent", seconds, up=CAP),
    }
    # Half of all bytes are there by then; one seeder fewer sends the others.
    senders = CAPPED_LEECHERS + KILLED_SEEDERS
    bound = seconds + seconds * senders / (senders - 1)
    return Plan(title, CAPPED_BYTES, rows, GOALS_CAPPED, bound, KILLED_GOAL)


def _fluid_seconds(seeders: int) -> float:
    """Return how long a swarm takes at least where each sends at `CAP`."""
    rate = (seeders + CAPPED_LEECHERS) * CAP
    return max(CAPPED_BYTES / (seeders * CAP), CAPPED_LEECHERS * CAPPED_BYTES / rate)


def _lateness() -> dict[str, Measure]:
    return {
        "caravan": _caravan(1, watch=True),
        "caravan TLS": _caravan(1, True, watch=True),
    }


def _small() -> dict[str, Measure]:
    return {
        "caravan": _small_ours(tls=False),
        "caravan TLS": _small_ours(tls=True),
        "nginx + aiohttp": _small_web,
    }


def _caravan(
    seeders: int,
    tls: bool = False,
    leechers: int = 1,
    up: int | None = None,
    watch: bool = False,
    paced: bool = False,
) -> Measure:
    def measure(bench: Bench, home: Path) -> Document:
        options: Document = {"tls": tls, "up": up, "paced": paced}
        seeding = bench.ours(seeders, **options)
        digests = [f"sha256:{bench.digest}"]
        new = lambda n: Party("caravan", folder=str(home / str(n)), **options)  # noqa: E731
        return _fetch_all(seeding, leechers, new, digests=digests, watch=watch)

    return measure


def _libtorrent(
    seeders: int, tuned: bool = False, leechers: int = 1, up: int | None = None
) -> Measure:
    def measure(bench: Bench, home: Path) -> Document:
        seeding = bench.torrents(seeders, tuned=tuned, up=up)
        options: Document = {"torrent": str(bench.torrent), "tuned": tuned, "up": up}
        new = lambda n: Party("libtorrent", folder=str(home / str(n)), **options)  # noqa: E731
        return _fetch_all(seeding, leechers, new)

    return measure


def _killing(role: str, seconds: float, **options: Any) -> Measure:
    """Fetch from two seeders, of which the first is killed after a while."""

    def measure(bench: Bench, home: Path) -> Document:
        def new(name: object) -> Party:
            folder = str(home / str(name))
            return Party(role, folder=folder, torrent=str(bench.torrent), **options)

        files = [str(bench.payload)]
        options_of_seeders = options | {"files": files, "torrent": str(bench.torrent)}
        with parties() as seeding:
            for number in range(KILLED_SEEDERS):
                folder = str(home / f"seeder{number}")
                seeding.append(Party(role, folder=folder, **options_of_seeders))
            timer = threading.Timer(seconds, seeding[0].kill)
            what = {"digests": [f"sha256:{bench.digest}"]} if role == "caravan" else {}
            try:
                return _fetch_all(
                    seeding, CAPPED_LEECHERS, new, begun=timer.start, **what
                )
            finally:
                timer.cancel()

    return measure


def _fetch_all(
    seeding: list[Party],
    leechers: int,
    new: Callable[[int], Party],
    *,
    begun: Callable[[], object] = lambda: None,
    **what: Any,
) -> Document:
    """Let new leechers fetch at once; time is that of the last one."""
    with parties() as fetching:
        for number in range(leechers):
            fetching.append(new(number))
        before = {one: one.usage()["cpu"] for one in seeding}
        all_peers = [one.peer for one in [*seeding, *fetching]]
        began = time.monotonic()
        begun()
        for one in fetching:
            one.request("fetch", peers=[p for p in all_peers if p != one.peer], **what)
        found = [one.answer() for one in fetching]
        seconds = max(one["at"] for one in found) - began
        if leechers == 1:
            seconds = found[0]["seconds"]
        cpu = sum(one["cpu"] for one in found)
        alive = [one for one in seeding if one.is_alive]
        cpu += sum(one.usage()["cpu"] - before[one] for one in alive)
        peak = max(one["peak"] for one in found)
        return found[0] | {"seconds": seconds, "cpu": cpu, "peak": peak}


def _curl(bench: Bench, home: Path) -> Document:
    before = bench.nginx.cpu()
    url = f"{bench.nginx.url}/{bench.payload.name}"
    found = curl_and_openssl(url, bench.digest, home / "target")
    return found | {"cpu": found["cpu"] + bench.nginx.cpu() - before}


def _small_ours(*, tls: bool) -> Measure:
    def measure(bench: Bench, home: Path) -> Document:
        (seeder,) = bench.ours(1, tls=tls)
        with parties() as fetching:
            party = Party("caravan", folder=str(home / "store"), tls=tls)
            fetching.append(party)
            digests = [f"sha256:{name}" for name in bench.smalls]
            warm, rest = digests[:AT_ONCE], digests[AT_ONCE:]
            party.fetch(peers=[seeder.peer], digests=warm, at_once=AT_ONCE)
            before = seeder.usage()["cpu"]
            found = party.fetch(peers=[seeder.peer], digests=rest, at_once=AT_ONCE)
            found["cpu"] += seeder.usage()["cpu"] - before
            return found

    return measure


def _small_web(bench: Bench, home: Path) -> Document:
    with parties() as fetching:
        party = Party("aiohttp", folder=str(home / "files"), at_once=AT_ONCE)
        fetching.append(party)
        warm, rest = bench.smalls[:AT_ONCE], bench.smalls[AT_ONCE:]
        party.fetch(url=bench.nginx.url, digests=warm, at_once=AT_ONCE)
        before = bench.nginx.cpu()
        found = party.fetch(url=bench.nginx.url, digests=rest, at_once=AT_ONCE)
        found["cpu"] += bench.nginx.cpu() - before
        return found


# What is shown.


def _summary(plan: Plan, row: str, found: list[Document]) -> Document:
    seconds = [one["seconds"] for one in found]
    summary: Document = {
        "case": plan.title,
        "row": row,
        "runs": len(found),
        "seconds": statistics.median(seconds),
        "seconds_min": min(seconds),
        "seconds_max": max(seconds),
        "cpu_seconds": statistics.median(one["cpu"] for one in found),
        "peak_bytes": max(one["peak"] for one in found),
        "load": max(one["load"] for one in found),
    }
    for name in ("late_p50", "late_p99", "late_max"):
        if name in found[0]:
            summary[name] = statistics.median(one[name] for one in found)
    return summary


def rows(plan: Plan, results: list[Document]) -> list[Row]:
    """Return one case as rows: each of ours beside each peer, then what it cost."""
    found = {one["row"]: one for one in results}
    ours = [row for row in found if row.startswith("caravan")]
    peers = [row for row in found if row not in ours]
    made = [
        _row(plan, found[row], found[peer], "seconds") for row in ours for peer in peers
    ]
    if not peers:
        made = [_row(plan, found[row], None, "seconds") for row in ours]
    if {"caravan", "caravan TLS"} <= found.keys():
        made.append(_row(plan, found["caravan TLS"], found["caravan"], "seconds"))
    peak = plan.goals.get(("caravan", "", "peak_mib"))
    made += [_row(plan, found["caravan"], found[peer], "cpu_seconds") for peer in peers]
    made.append(
        Row(
            what="caravan: peak memory",
            ours=found["caravan"]["peak_bytes"] / MIB,
            unit="MiB",
            goal=Goal(peak, ratio=False) if peak else None,
        )
    )
    if plan.bound:
        seconds = found["caravan"]["seconds"]
        made.append(
            Row(
                what="caravan: time",
                ours=seconds,
                unit="s",
                theirs=plan.bound,
                beside="fluid bound",
                goal=Goal(plan.bound_goal),
            )
        )
    for name in ("late_p50", "late_p99", "late_max"):
        made += [
            Row(
                what=f"{row}: timers {name.replace('_', ' ')}",
                ours=found[row][name] * 1e3,
                unit="ms",
                goal=Goal(5, ratio=False) if name == "late_p99" else None,
            )
            for row in ours
            if name in found[row]
        ]
    return made


def _row(plan: Plan, ours: Document, peer: Document | None, what: str) -> Row:
    wall = what == "seconds"
    beside = peer["row"] if peer else ""
    bound = plan.goals.get((ours["row"], beside, what))
    more = {"least": ours["seconds_min"], "most": ours["seconds_max"]} if wall else {}
    return Row(
        what=f"{ours['row']}: {'time' if wall else 'processor time'}",
        ours=ours[what],
        unit="s",
        theirs=peer[what] if peer else None,
        beside=beside,
        goal=Goal(bound) if bound else None,
        more=more,
    )


def note(results: list[Document]) -> str:
    """Return how a case was measured, in one line."""
    busiest = max(one["load"] for one in results)
    runs = results[0]["runs"]
    return f"Medians of {runs} runs, interleaved; load up to {busiest:.1f}."


def _mib(size: int) -> str:
    return f"{size // MIB} MiB"
