"""The gateway: pip, uv and npm through a node, beside asking the origin directly.

The origin is a made mirror with pages as long as real ones, behind a fast line and a
slow one; with `--upstream default` it is the index that this machine is configured to
use. Each round measures every way once, one after the other:

- direct: the client asks the origin.
- cold: a new node in a network in which nobody has any of the files; warm: it again.
- 3 peers: a new node of an open network, and three others that hold everything.
- 3 members: the same in a private network, where another member has read the same pages
  just now and passes them on.
- origin dead: a new node has read the pages, but no file, when the origin is stopped.

The floor of "3 peers" is what the pages take on the line of the origin, which alone is
believed there, and the client's own time (warm). nginx is used where it is installed.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import random
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from node.demo.processes import NodeProcess, wait_until
from scripts.benchmarks.parties import mirror
from scripts.benchmarks.parties.gateway_lab import (
    PAGE_HEADERS,
    Case,
    Lab,
    cases_of,
    seeded,
)
from scripts.benchmarks.parties.load import load
from scripts.benchmarks.parties.mirror import (
    FAST,
    SLOW,
    Content,
    Line,
    MirrorProcess,
    made_content,
    sets_of,
)
from scripts.benchmarks.report import Goal, Report, Row
from scripts.benchmarks.report import parser as make_parser

WAYS = ("cold", "warm", "3 peers", "3 members", "3 peers, origin dead")
GOALS = {
    "fast": {"cold": 1.10, "warm": 0.8, "3 peers": 1.10},
    "slow": dict(zip(WAYS, (1.05, 0.35, 0.35, 0.35, 0.35), strict=True)),
}
SEEDS = 3
FLOORS = ("3 peers",)
"""Ways on which pages come from the origin, and take their time on its line."""
SETTLE_SECONDS = 2.0  # a node that has just read its pages comes to rest


def processor_seconds(node: NodeProcess) -> float:
    """Return what all threads of a node have run for (/proc/PID/task/TID/schedstat)."""
    total = 0
    for task in Path(f"/proc/{node.pid}/task").iterdir():
        try:
            total += int((task / "schedstat").read_text().split()[0])
        except FileNotFoundError:
            continue  # a thread that has just ended
    return total / 1e9


def get(web: str, path: str, **headers: str) -> tuple[int, int, float]:
    """Return (status, bytes, seconds) of one request."""
    connection = http.client.HTTPConnection(web, timeout=60)
    began = time.perf_counter()
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    size = len(answer.read())
    seconds = time.perf_counter() - began
    connection.close()
    return answer.status, size, seconds


# --- clients --------------------------------------------------------------------------


class Rounds:
    """Seconds of every way, by line and case, as the rounds go on."""

    def __init__(
        self, lab: Lab, lines: Sequence[Line], cases: Sequence[Case], *, ends_at: float
    ) -> None:
        """`ends_at` is when no more is begun, by `time.monotonic`."""
        self._lab = lab
        self._lines = lines
        self._cases = cases
        self._ends_at = ends_at
        self.seconds: dict[tuple[str, str, str], list[float]] = {}
        self._seeds: list[NodeProcess] = []
        self._members: list[NodeProcess] = []

    def run(self, count: int, note: Callable[[str], None]) -> None:
        """Measure everything `count` times, or until it is time to end."""
        lab, began = self._lab, time.monotonic()
        note(f"filling {SEEDS} peers")
        fastest = self._lines[0].name if not lab.mirrors else FAST.name
        self._seeds = seeded(lab, fastest, self._cases, count=SEEDS)
        if any(line.name in lab.mirrors and line is SLOW for line in self._lines):
            note(f"filling {SEEDS} members of a private network")
            self._members = seeded(
                lab, fastest, self._cases, count=SEEDS, is_member=True
            )
        for number in range(count):
            for line in self._lines:
                for case in self._cases:
                    if time.monotonic() > self._ends_at:
                        note("the time is over: what follows is left out")
                        return
                    passed = (time.monotonic() - began) / 60
                    at = f"round {number + 1}, {passed:.1f} min"
                    note(f"{case.words}: {line.name} origin, {at}")
                    self._round(line, case)

    def rows(self, line: Line) -> list[Row]:
        """Return the rows of one line; what was not measured is left out."""
        rows = []
        for case in self._cases:
            direct = self.seconds.get((line.name, case.words, "direct"))
            for way in ("direct", *WAYS):
                found = self.seconds.get((line.name, case.words, way))
                if found is not None and direct is not None:
                    rows.append(self._row(line, case, way))
        return rows

    def _row(self, line: Line, case: Case, way: str) -> Row:
        found = self.seconds[line.name, case.words, way]
        direct = statistics.median(self.seconds[line.name, case.words, "direct"])
        goal = GOALS[line.name].get(way)
        is_direct = way == "direct"
        more: dict[str, Any] = {
            "least": min(found),
            "most": max(found),
            "rounds": str(len(found)),
        }
        warm = self.seconds.get((line.name, case.words, "warm"))
        if case.page_bytes and way in FLOORS and warm is not None:
            floor = statistics.median(warm) + case.page_seconds(line)
            more["floor"] = f"{floor / direct:.2f} x"
        return Row(
            what=f"{case.words}: {way}",
            ours=statistics.median(found),
            unit="s",
            theirs=None if is_direct else direct,
            beside="" if is_direct else "direct",
            goal=None if goal is None else Goal(goal),
            more=more,
        )

    def _round(self, line: Line, case: Case) -> None:
        lab, name = self._lab, line.name
        self._note(line, case, "direct", lab.direct(name, case))
        # A network in which nobody has any of the files.
        neighbour = lab.node(name)
        cold = lab.node(name, neighbour.address)
        self._note(line, case, "cold", lab.through(cold, case))
        self._note(line, case, "warm", lab.through(cold, case))
        lab.end(neighbour, cold)
        reader = lab.node(name, self._seeds[0].address)
        self._note(line, case, "3 peers", lab.through(reader, case))
        lab.end(reader)
        if line is SLOW and name in lab.mirrors:
            self._note(line, case, "3 members", self._with_members(name, case))
            dead = self._without_origin(name, case)
            self._note(line, case, "3 peers, origin dead", dead)

    def _with_members(self, line: str, case: Case) -> float:
        """Time a new member, when another one has read the pages just now."""
        lab, contact = self._lab, self._members[0].address
        other = lab.node(line, contact, is_member=True)
        reader = lab.node(line, contact, other.address, is_member=True)
        read_pages(other, case)
        try:
            return lab.through(reader, case)
        finally:
            lab.end(other, reader)

    def _without_origin(self, line: str, case: Case) -> float:
        """Time a node that has read the pages, but no file, before the origin died."""
        lab = self._lab
        reader = lab.node(line, self._seeds[0].address)
        read_pages(reader, case)
        time.sleep(SETTLE_SECONDS)
        lab.mirrors[line].kill()
        try:
            return lab.through(reader, case)
        finally:
            lab.mirrors[line].revive()
            lab.end(reader)

    def _note(self, line: Line, case: Case, way: str, seconds: float) -> None:
        self.seconds.setdefault((line.name, case.words, way), []).append(seconds)


def read_pages(node: NodeProcess, case: Case) -> None:
    """Have a node read all pages of a case, some at once."""
    web = str(node.ready["web"])
    with ThreadPoolExecutor(8) as pool:
        list(
            pool.map(lambda path: get(web, path, **case.page_headers), case.page_paths)
        )


# --- requests -------------------------------------------------------------------------


def pages(lab: Lab, runs: int) -> list[Row]:
    """Time the first request of a node's life, and pages of 5,000 files."""
    line = FAST.name
    origin = lab.mirrors[line].url.removeprefix("http://")
    names = ("first request after start", "page of 5,000 files", "the same, warm")
    found: dict[str, list[float]] = {name: [] for name in names}
    spent: dict[str, list[float]] = {name: [] for name in names}
    for number in range(runs):
        node = lab.node(line)
        web = str(node.ready["web"])
        for name, page in zip(names, ("first", f"page-{number % 5}"), strict=False):
            before = processor_seconds(node)
            through = get(web, f"/pypi/simple/{page}/", **PAGE_HEADERS)[2]
            spent[name].append((processor_seconds(node) - before) * 1000)
            direct = get(origin, f"/simple/{page}/", **PAGE_HEADERS)[2]
            found[name].append((through - direct) * 1000)
        time.sleep(SETTLE_SECONDS)
        before = processor_seconds(node)
        warm = get(web, f"/pypi/simple/page-{number % 5}/", **PAGE_HEADERS)[2]
        spent[names[2]].append((processor_seconds(node) - before) * 1000)
        found[names[2]].append(warm * 1000)
        lab.end(node)
    beyond = {names[0]: 20, names[1]: 40, names[2]: 5}
    return [
        Row(
            what=name if name == names[2] else f"{name}: beyond the origin",
            ours=statistics.median(found[name]),
            unit="ms",
            goal=Goal(beyond[name], ratio=False),
            more={
                "least": min(found[name]),
                "most": max(found[name]),
                "processor": f"{statistics.median(spent[name]):.1f} ms",
            },
        )
        for name in names
    ]


def misses(lab: Lab) -> Row:
    """Time small files that only the origin has: direct, and through a node."""
    line = FAST.name
    node, origin = lab.node(line), lab.mirrors[line].url.removeprefix("http://")
    content = made_content()
    found = []
    for package in sets_of("python")[0].packages[:8]:
        name = package.name
        path = next(
            one
            for one in content.files
            if f"/{name.replace('-', '_')}-{mirror.VERSION}-" in one
            and one.endswith(".whl")
        )
        digest = hashlib.sha256(content.files[path]).hexdigest()
        web, file = str(node.ready["web"]), path.rpartition("/")[2]
        get(web, f"/pypi/simple/{name}/", **PAGE_HEADERS)
        direct = get(origin, path)[2]
        through = get(web, f"/pypi/files/sha256/{digest}/{file}")[2]
        found.append((through - direct) * 1000)
    lab.end(node)
    return Row(
        what="a small file that only the origin has: beyond the origin",
        ours=statistics.median(found),
        unit="ms",
        goal=Goal(50, ratio=False),
    )


def files(lab: Lab) -> list[Row]:
    """Time warm files: one of 64 MiB beside nginx, and 200 clients with 20 KiB each."""
    folder = lab.folder
    node = lab.node(FAST.name)
    web = str(node.ready["web"])
    rng = random.Random(1)
    big = folder / "big.bin"
    big.write_bytes(rng.randbytes(64 * 1024 * 1024))
    small = [folder / f"small-{number}.bin" for number in range(200)]
    for path in small:
        path.write_bytes(rng.randbytes(20 * 1024))
    shared = node.ask("share", str(big), *map(str, small))["artifacts"]
    digests = [one["digest"].partition(":")[2] for one in shared]
    get(web, f"/blob/sha256/{digests[0]}")
    ours = statistics.median(
        get(web, f"/blob/sha256/{digests[0]}")[2] for _ in range(9)
    )
    theirs = nginx_seconds(folder, big.name)
    paths = [f"/pypi/files/sha256/{one}/small.bin" for one in digests[1:]]
    before = processor_seconds(node)
    done = load(web, paths, clients=200, seconds=8)
    spent = (processor_seconds(node) - before) / (done.per_second * 9)  # and its start
    lab.end(node)
    return [
        Row(
            what="a file of 64 MiB, warm",
            ours=ours * 1000,
            unit="ms",
            theirs=None if theirs is None else theirs * 1000,
            beside="nginx" if theirs else "nginx is not installed",
            goal=Goal(1.5),
        ),
        Row(
            what="files of 20 KiB, warm, 200 clients at once",
            ours=done.per_second,
            unit="/s",
            goal=Goal(5000, ratio=False, at_least=True),
            more={"processor": f"{spent * 1e6:.0f} us each"},
        ),
        Row(
            what="the same: 99 of 100 within",
            ours=done.percentile(0.99) * 1000,
            unit="ms",
            goal=Goal(100, ratio=False),
        ),
    ]


def nginx_seconds(folder: Path, file: str) -> float | None:
    """Time the same file from nginx, or None where it is not installed."""
    if not shutil.which("nginx"):
        return None
    port = 20_000 + os.getpid() % 20_000
    config = folder / "nginx.conf"
    config.write_text(
        f"daemon off; worker_processes 1; pid {folder}/nginx.pid; user root;\n"
        f"error_log {folder}/nginx.err; events {{}}\n"
        "http { access_log off; sendfile on; tcp_nopush on; server {\n"
        f"listen 127.0.0.1:{port}; root {folder}; }} }}\n"
    )
    process = subprocess.Popen(
        ["nginx", "-c", str(config), "-p", str(folder)], stderr=subprocess.DEVNULL
    )
    web = f"127.0.0.1:{port}"

    def is_up() -> bool:
        try:
            return get(web, f"/{file}")[0] == 200
        except OSError:
            return False

    try:
        wait_until(is_up, 10, "nginx")
        return statistics.median(get(web, f"/{file}")[2] for _ in range(9))
    finally:
        process.terminate()
        process.wait()


def main() -> None:
    parser = make_parser("gateway", __doc__)
    parser.add_argument("--runs", type=int, default=5, help="how many rounds (5)")
    parser.add_argument("--clients", default="pip,uv,npm", help="which, with commas")
    parser.add_argument("--sets", default="few,large,many", help="which, with commas")
    parser.add_argument("--origins", default="fast,slow", help="which, with commas")
    parser.add_argument(
        "--upstream",
        choices=["made", "default"],
        default="made",
        help="a made mirror, or the index that this machine is configured to use",
    )
    parser.add_argument(
        "--minutes", type=float, default=60, help="after which no round is begun (60)"
    )
    parser.add_argument("--only", choices=["clients", "requests"])
    parser.add_argument(
        "--unpack", type=Path, help="where clients write, by default memory (/dev/shm)"
    )
    options = parser.parse_args()
    report = Report("gateway", options.json)
    memory = Path("/dev/shm")
    base = options.unpack or (memory if memory.is_dir() else None)
    is_made = options.upstream == "made"
    lines = [one for one in (FAST, SLOW) if one.name in options.origins.split(",")]
    with (
        tempfile.TemporaryDirectory() as name,
        tempfile.TemporaryDirectory(dir=base) as unpack,
    ):
        lab = Lab(Path(name), Path(unpack))
        try:
            content: Content | None = None
            if is_made:
                report.note("making the packages")
                content = made_content()
                for line in (FAST, SLOW):
                    lab.mirrors[line.name] = MirrorProcess(content, line)
            if is_made and options.only != "clients":
                rows = [*pages(lab, options.runs), misses(lab), *files(lab)]
                report.section("Requests, with the fast origin", rows)
            if options.only != "requests":
                lines = lines if is_made else lines[:1]
                cases = cases_of(options, content)
                ends_at = time.monotonic() + options.minutes * 60
                rounds = Rounds(lab, lines, cases, ends_at=ends_at)
                rounds.run(options.runs, report.note)
                for line in lines:
                    title = line.words if is_made else "the configured origin"
                    report.section(f"Clients, {title}", rounds.rows(line))
        finally:
            lab.close()
    report.end()


if __name__ == "__main__":
    main()
