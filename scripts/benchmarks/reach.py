"""Measure how nodes find and reach each other, in network namespaces.

    scripts/bench reach [--case link ...] [--pairs 100] [--json]

It needs root, `ip` and `nft`, like the tests in tests/reach. A delay line in userspace
makes the round trips. Times of a connection are those that the node itself logs; a
handshake of TLS comes after them.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import secrets
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from scripts.benchmarks.report import Goal, Report, Row
from scripts.benchmarks.report import parser as make_parser
from tests.reach.lab import NATS, Lab, Nat, Node, until, why_not
from tests.simulation.report import percentile

CONES: tuple[Nat, ...] = ("full", "address", "port")
ONE_WAY = 0.020
"""Seconds between a router and the Internet, so 80 ms between two hosts behind."""
FAR_ONE_WAY = 0.040
LINK_BYTES = 200_000_000
_REACHED = re.compile(r"reached \S+ (.+) in (\d+) ms")


def main() -> None:
    options = _arguments()
    if reason := why_not():
        raise SystemExit(reason)
    report = Report("reach", options.json)
    for name in options.case:
        with tempfile.TemporaryDirectory(prefix="caravan-", dir="/dev/shm") as folder:
            lab = Lab(Path(folder))
            try:
                report.section(name, CASES[name](lab, options.pairs))
            finally:
                lab.close()
    report.end()


def _arguments() -> argparse.Namespace:
    parser = make_parser("reach", __doc__)
    parser.add_argument("--case", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--pairs", type=int, default=100, help="holes to punch")
    return parser.parse_args()


# --- one network link --------------------------------------------------------------


def link(lab: Lab, _pairs: int) -> list[Row]:
    """Put six hosts on one link, and move a large file over it."""
    hosts = lab.link(6)
    nodes = [lab.node(host) for host in hosts]
    for node in nodes:
        node.start()
    for node in nodes:
        node.wait()
    began = time.monotonic()

    def acquainted() -> bool:
        return all(len(node.run("peers")["contacts"]) == 5 for node in nodes)

    until(acquainted, 30, "six hosts that know each other")
    found = time.monotonic() - began
    rows = [
        Row(
            what="six hosts on one link: all know all after the last is ready",
            ours=found,
            unit="s",
            goal=Goal(3.0, ratio=False),
        )
    ]
    if shutil.which("nginx") is None:
        print("skipped the large file: no nginx")
        return rows
    for host in hosts[:2]:
        lab.run(
            host, "tc", "qdisc", "add", "dev", "eth0", "root",
            "tbf", "rate", "1gbit", "burst", "1mb", "latency", "50ms",
        )  # fmt: skip
    ours, theirs = [], []
    for _ in range(3):
        digest = nodes[0].share(LINK_BYTES)
        file = next(lab.folder.glob(f"file-*-{LINK_BYTES}"))
        with _nginx(lab, hosts[0]) as url:
            began = time.monotonic()
            lab.run(hosts[1], "curl", "-so", str(lab.folder / "got"), url + file.name)
            theirs.append(time.monotonic() - began)
        fetched = nodes[1].run("fetch", digest)
        ours.append(fetched["artifacts"][0]["seconds"])
        for node in nodes[:2]:
            node.run("unshare", digest, "--remove", code=None)
    rows.append(
        Row(
            what="200 MB over that link at 1 Gbit/s, verified and committed",
            ours=statistics.median(ours),
            theirs=statistics.median(theirs),
            beside="nginx + curl",
            unit="s",
            goal=Goal(1.10),
        )
    )
    return rows


@contextlib.contextmanager
def _nginx(lab: Lab, host: str) -> Iterator[str]:
    folder = lab.folder
    (folder / "nginx.conf").write_text(
        f"daemon off; worker_processes 1; pid {folder}/pid; user root;"
        "error_log stderr; events { worker_connections 64; }\n"
        f"http {{ access_log off; sendfile on; tcp_nopush on; server {{ listen 8000;"
        f" root {folder}; }} }}\n"
    )
    command = ["nginx", "-p", str(folder), "-c", str(folder / "nginx.conf")]
    process = subprocess.Popen(lab.command(host, *command), stderr=subprocess.DEVNULL)
    try:
        time.sleep(1.0)
        yield "http://192.168.7.1:8000/"
    finally:
        process.terminate()
        process.wait()


# --- calls -------------------------------------------------------------------------


def reversal(lab: Lab, _pairs: int) -> list[Row]:
    """Call a seeder behind each kind of NAT from public hosts, at 80 ms."""
    nodes = lab.public_nodes(CARAVAN_RELAY="off")
    lab.delay(FAR_ONE_WAY)
    rows = []
    for kind in NATS:
        lab.fresh(ra=kind)
        seeder = lab.guest("a")
        _wait_for_introducers(seeder)
        for number, node in enumerate(nodes):
            digest = seeder.share(20_000 + number)
            _find(node, digest)
            node.run("fetch", digest, code=None)
        took = _reached(nodes, "by a reverse connection")
        rows += _times(f"public, {kind} NAT: called", took, len(nodes), 2.5 * 80 + 150)
        for node in nodes:
            (node.home / "node.log").write_text("")
    return rows


def punching(lab: Lab, pairs: int) -> list[Row]:
    """Punch holes between cones that drop, at 80 ms between the ends."""
    lab.internet()
    lab.delay(ONE_WAY)
    program = [sys.executable, "-m", "scripts.benchmarks.parties.punching"]
    introducer = lab.start("pub1", *program, "introducer", "4747")
    ends = [lab.start(host, *program, "end") for host in ("a", "b")]
    took: list[float] = []
    kinds = [(one, other) for at, one in enumerate(CONES) for other in CONES[at:]]
    for number in range(pairs):
        one, other = kinds[number % len(kinds)]
        lab.nat("ra", one)
        lab.nat("rb", other)
        token = secrets.token_hex(16)
        _ask(introducer, {"token": token})
        _answer(introducer)
        for end, router in zip(ends, ("rb", "ra"), strict=True):
            asked = {"token": token, "port": 10_000 + number, "at": "11.1.0.1"}
            _ask(end, {**asked, "at_port": 4747, "host": lab.outer(router)})
        both = [_answer(end) for end in ends]
        if all(one["ok"] for one in both):
            # The call comes before it: half a round trip to each end, over the wire.
            took.append(1000 * (max(each["seconds"] for each in both) + 2 * ONE_WAY))
    return _times("both behind cones: hole punched", took, pairs, 1500, least=0.95)


def symmetric(lab: Lab, _pairs: int) -> list[Row]:
    """Meet at a relay, with a symmetric NAT on one side or both."""
    rows = []
    lab.public_nodes(CARAVAN_RELAY="all")
    lab.delay(ONE_WAY)
    took: list[float] = []
    kinds: tuple[Nat, ...] = ("port", "symmetric")
    for other in kinds:
        lab.fresh("symmetric", other)
        seeder, leecher = lab.guest("a"), lab.guest("b")
        _wait_for_introducers(seeder, leecher, word="relayed")
        digest = seeder.share(20_000)
        _find(leecher, digest)
        leecher.run("fetch", digest, code=None)
        took += _reached([leecher], "through a relay")
    rows += _times("symmetric on one side or both: relay", took, len(kinds), 2000)
    return rows


def refused(lab: Lab, _pairs: int) -> list[Row]:
    """Fetch in vain, where nobody relays."""
    lab.public_nodes(CARAVAN_RELAY="off")
    lab.delay(ONE_WAY)
    lab.fresh("symmetric", "symmetric")
    seeder, leecher = lab.guest("a"), lab.guest("b")
    _wait_for_introducers(seeder, leecher)
    digest = seeder.share(20_000)
    _find(leecher, digest)
    began = time.monotonic()
    leecher.run("lookup", digest)
    command = time.monotonic() - began
    began = time.monotonic()
    done = leecher.run("fetch", digest, code=4)
    took = time.monotonic() - began
    assert "router" in done["error"]
    return [
        Row(
            what="symmetric on both sides, no relay: a clear word",
            ours=took,
            unit="s",
            goal=Goal(3.0, ratio=False),
            more={"a lookup takes": f"{command:.2f} s"},
        )
    ]


# --- changes -----------------------------------------------------------------------


def change(lab: Lab, _pairs: int) -> list[Row]:
    """Restart a router, and change its outer address."""
    nodes = lab.public_nodes()
    rows = []
    lab.fresh()
    called = lab.guest("a")
    _wait_for_introducers(called)
    whats = ("router restarted", "router's outer address changed")
    for number, what in enumerate(whats):
        began = time.monotonic()
        if what.endswith("changed"):
            lab.renumber("ra")
        lab.forget_connections("ra")
        digest = called.share(30_000 + number)

        def fetched(wanted: str = digest) -> bool:
            return "artifacts" in nodes[4].run("fetch", wanted, code=None)

        until(fetched, 90, "a fetch")
        rows.append(_seconds(f"called node, {what}: fetched from again", began))
    lab.fresh()
    lab.forward("ra", 4747, "192.168.1.2")
    mapped = lab.guest("a")
    until(lambda: mapped.reach[1] == "reachable", 60, "a verdict")
    digest = mapped.share(40_000)
    _find(nodes[3], digest)
    began = time.monotonic()
    new = lab.renumber("ra")
    lab.forget_connections("ra")

    def announced() -> bool:
        found = nodes[3].run("lookup", digest, code=None).get("providers", [])
        return any(one["address"] == f"{new}:4747" for one in found)

    until(announced, 90, "an announcement")
    rows.append(_seconds("forwarded port, outer address changed: announced", began))
    return rows


def same_nat(lab: Lab, _pairs: int) -> list[Row]:
    """Fetch among two hosts behind one router that know the Internet as well."""
    lab.public_nodes()
    lab.fresh()
    seeder = lab.guest("a", CARAVAN_LAN="true")
    leecher = lab.guest("a2", CARAVAN_LAN="true")
    digest = seeder.share(50_000_000)
    seeder.wait_for_neighbour(leecher, 30)
    before = lab.counted("ra", "wan")
    fetched = leecher.run("fetch", digest)
    after = lab.counted("ra", "wan")
    (source,) = fetched["artifacts"][0]["sources"]
    assert source["address"].startswith("192.168.1."), source
    return [
        Row(
            what="two hosts behind one NAT, 50 MB: through the router, DHT included",
            ours=(after - before) / 1e3,
            unit="kB",
            goal=Goal(500, ratio=False),
        )
    ]


CASES: dict[str, Callable[[Lab, int], list[Row]]] = {
    "link": link,
    "reversal": reversal,
    "punching": punching,
    "symmetric": symmetric,
    "refused": refused,
    "change": change,
    "same-nat": same_nat,
}


def _wait_for_introducers(*nodes: Node, word: str = "punched") -> None:
    until(lambda: all(one.reach[1] == word for one in nodes), 90, "introducers")


def _find(node: Node, digest: str) -> None:
    def found() -> bool:
        return bool(node.run("lookup", digest, code=None).get("providers"))

    until(found, 60, "a provider record")


def _reached(nodes: list[Node], way: str) -> list[float]:
    """Return the milliseconds that nodes took to connect by a way, as they log it.

    Only the first connection of each node counts.
    """
    found = []
    for node in nodes:
        log = (node.home / "node.log").read_text()
        took = [float(ms) for words, ms in _REACHED.findall(log) if words == way]
        found += took[:1]
    return found


def _times(
    what: str, took: list[float], tried: int, goal_ms: float, least: float = 1.0
) -> list[Row]:
    return [
        Row(
            what=f"{what}, share of {tried}",
            ours=len(took) / tried,
            unit="",
            goal=Goal(least, ratio=False, at_least=True),
        ),
        Row(
            what=f"{what}, p95",
            ours=percentile(took, 0.95),
            unit="ms",
            goal=Goal(goal_ms, ratio=False),
            more={"median": f"{percentile(took, 0.5):.0f} ms"},
        ),
    ]


def _seconds(what: str, began: float) -> Row:
    took = time.monotonic() - began
    return Row(what=what, ours=took, unit="s", goal=Goal(30, ratio=False))


def _ask(program: subprocess.Popen[str], document: dict[str, object]) -> None:
    assert program.stdin is not None
    program.stdin.write(json.dumps(document) + "\n")
    program.stdin.flush()


def _answer(program: subprocess.Popen[str]) -> dict[str, float]:
    assert program.stdout is not None
    answer: dict[str, float] = json.loads(program.stdout.readline())
    return answer


if __name__ == "__main__":
    main()
