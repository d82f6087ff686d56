"""A fleet: many nodes of one private network that want the same at the same moment.

The origin is a local index in a process of its own, with 50 ms of latency and 20 MB/s
for all its connections together. It counts what it sends. Each node has one client
that asks it as a package manager does: the page of each package, then its file, eight
packages at a time. A file that is not right, or does not come, is a failed install.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import json
import multiprocessing
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from node.demo.processes import NodeProcess, end_all, run_caravan, wait_until
from scripts.benchmarks.parties.real_wheels import bring_wheels
from scripts.benchmarks.parties.site_clients import ask_door
from scripts.benchmarks.report import Goal, Report, Row
from scripts.benchmarks.report import parser as make_parser

LATENCY_SECONDS = 0.05
BYTES_PER_SECOND = 20_000_000
PACKAGES_AT_ONCE = 8
PAGE_TYPE = "application/vnd.pypi.simple.v1+json"
NETWORK = "fleet"
BIG = "big"
BIG_BYTES = 40_000_000
FOLLOWERS = 5
HEAD_START_SECONDS = 0.3
IDLE_SECONDS = 10.0
SMALL_BYTES = 20 * 1024
SMALL_FILES = 200
CLIENTS = 50


class CountingOrigin:
    """A slow index and its files, which counts what it sends."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self._bodies: dict[str, tuple[str, bytes]] = {}
        for file, data in files.items():
            name = project_of(file)
            self._bodies[f"/files/{file}"] = ("application/octet-stream", data)
            entry = {
                "filename": file,
                "url": f"/files/{file}",
                "hashes": {"sha256": hashlib.sha256(data).hexdigest()},
                "size": len(data),
            }
            page = {"meta": {"api-version": "1.0"}, "name": name, "files": [entry]}
            self._bodies[f"/simple/{name}/"] = (PAGE_TYPE, json.dumps(page).encode())
        self._sent: Counter[str] = Counter()
        self._free_at = 0.0

    async def serve(self, reader: Any, writer: asyncio.StreamWriter) -> None:
        """Answer one connection."""
        with contextlib.suppress(ConnectionError, IndexError):
            while line := await reader.readline():
                path = line.split()[1].decode()
                start = 0
                while header := (await reader.readline()).strip().lower():
                    if header.startswith(b"range: bytes="):
                        start = int(header[13:].partition(b"-")[0])
                await self._answer(writer, path, start)
        writer.close()

    async def _answer(
        self, writer: asyncio.StreamWriter, path: str, start: int
    ) -> None:
        if path == "/count":
            body = json.dumps(self._copies()).encode()
            self._sent.clear()
            await self._send(writer, "200 OK", "application/json", body, counted="")
            return
        await asyncio.sleep(LATENCY_SECONDS)
        kind, body = self._bodies.get(path, ("text/plain", b""))
        status = "200 OK" if body else "404 Not Found"
        if start:
            status = "206 Partial Content"
            kind += f"\r\nContent-Range: bytes {start}-{len(body) - 1}/{len(body)}"
        await self._send(writer, status, kind, body[start:], counted=path)

    async def _send(
        self,
        writer: asyncio.StreamWriter,
        status: str,
        kind: str,
        body: bytes,
        *,
        counted: str,
    ) -> None:
        head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\n"
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode())
        loop = asyncio.get_running_loop()
        for at in range(0, len(body), 65536):
            part = body[at : at + 65536]
            if counted:
                self._free_at = max(loop.time(), self._free_at)
                self._free_at += len(part) / BYTES_PER_SECOND
                if (wait := self._free_at - loop.time()) > 0.005:
                    await asyncio.sleep(wait)
                self._sent[counted] += len(part)
            writer.write(part)
            await writer.drain()

    def _copies(self) -> dict[str, float]:
        """Return how many copies of each body left, in bytes by its length."""
        return {
            path: self._sent[path] / len(body)
            for path, (_, body) in self._bodies.items()
            if self._sent[path]
        }


def project_of(file: str) -> str:
    """Return the normalised project name of a wheel."""
    return file.partition("-")[0].replace("_", "-").lower()


def serve_origin(files: dict[str, bytes], said: multiprocessing.Queue[int]) -> None:
    """Run the origin until the process is ended."""

    async def serve() -> None:
        origin = CountingOrigin(files)
        server = await asyncio.start_server(origin.serve, "127.0.0.1", 0)
        said.put(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(serve())


@dataclass
class Install:
    """What became of one client's install."""

    seconds: float = 0.0
    files: int = 0
    first_byte: list[float] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


class Client:
    """A package manager without its own work: asks, reads and verifies."""

    def __init__(self, web: str) -> None:
        self._host, _, port = web.rpartition(":")
        self._port = int(port)
        self.result = Install()

    async def install(self, projects: list[str]) -> Install:
        """Get the page and the file of each project; return what became of it."""
        began = time.perf_counter()
        waiting = list(reversed(projects))
        async with asyncio.TaskGroup() as tasks:
            for _ in range(PACKAGES_AT_ONCE):
                tasks.create_task(self._work(waiting))
        self.result.seconds = time.perf_counter() - began
        return self.result

    async def _work(self, waiting: list[str]) -> None:
        reader, writer = await asyncio.open_connection(
            self._host, self._port, limit=2**20
        )
        try:
            while waiting:
                name = waiting.pop()
                try:
                    async with asyncio.timeout(60):
                        await self._one(reader, writer, name)
                except (OSError, ValueError, EOFError, TimeoutError) as error:
                    self.result.failed.append(f"{name}: {error!r}")
                    return
        finally:
            writer.close()

    async def _one(self, reader: Any, writer: Any, name: str) -> None:
        page = json.loads(await self._get(reader, writer, f"/pypi/simple/{name}/"))
        (entry,) = page["files"]
        url = entry["url"]
        path = "/" + url.split("/", 3)[3] if url.startswith("http") else url
        if path.startswith("../"):
            path = "/pypi/" + path.removeprefix("../").removeprefix("../")
        data = await self._get(reader, writer, path, timed=True)
        if hashlib.sha256(data).hexdigest() != entry["hashes"]["sha256"]:
            raise ValueError("wrong bytes")
        self.result.files += 1

    async def _get(
        self, reader: Any, writer: Any, path: str, *, timed: bool = False
    ) -> bytes:
        began = time.perf_counter()
        host = f"{self._host}:{self._port}"
        head = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept: {PAGE_TYPE}\r\n\r\n"
        writer.write(head.encode())
        status = await reader.readline()
        length, chunked = 0, False
        while header := (await reader.readline()).strip().lower():
            if header.startswith(b"content-length:"):
                length = int(header[15:])
            chunked = chunked or header == b"transfer-encoding: chunked"
        if b" 200 " not in status:
            raise ValueError(f"{path}: {status!r}")
        if chunked:
            body = b""
            while count := int(await reader.readline(), 16):
                body += await reader.readexactly(count)
                await reader.readline()
            await reader.readline()
            return body
        first = await reader.readexactly(min(length, 1))
        if timed:
            self.result.first_byte.append(time.perf_counter() - began)
        return bytes(first + await reader.readexactly(length - len(first)))


class Fleet:
    """The nodes and the origin of one run."""

    def __init__(self, folder: Path, files: dict[str, bytes]) -> None:
        self._folder = folder
        self.projects = sorted({project_of(file) for file in files} - {BIG})
        self.ready_seconds = 0.0
        """How long the last first node took to become ready."""
        said: multiprocessing.Queue[int] = multiprocessing.Queue()
        self._origin = multiprocessing.Process(
            target=serve_origin, args=(files, said), daemon=True
        )
        self._origin.start()
        self._port = said.get(timeout=30)
        self._nodes: list[NodeProcess] = []
        self._count = 0
        home = {**os.environ, "CARAVAN_HOME": str(folder / "keys")}
        run_caravan("network", "new", NETWORK, environment=home)
        self._secret = folder / "keys" / "networks" / f"{NETWORK}.secret"

    def start(self, count: int, *options: str, **environment: str) -> list[NodeProcess]:
        """Start nodes of one new fleet that know one another, and return them."""
        upstream = {
            "CARAVAN_UPSTREAM_PYPI": f"http://127.0.0.1:{self._port}/simple",
            "CARAVAN_UPSTREAM_PYPI_SHARE": "true",
            "CARAVAN_LAN": "false",
            **environment,
        }
        nodes: list[NodeProcess] = []
        for _ in range(count):
            self._count += 1
            node = NodeProcess(self._folder, f"node{self._count}", upstream)
            contact = [nodes[0].address] if nodes else []
            began = time.perf_counter()
            node.start(
                *contact, "--network", NETWORK, "--secret-file", str(self._secret),
                *options,
            )  # fmt: skip
            if not nodes:
                node.wait_ready()
                self.ready_seconds = time.perf_counter() - began
            nodes.append(node)
            self._nodes.append(node)
        for node in nodes:
            node.wait_ready()
        for node in nodes:
            self._wait_for_contacts(node, min(count - 1, 12))
        return nodes

    def _wait_for_contacts(self, node: NodeProcess, least: int) -> None:
        wait_until(
            lambda: node.ask("status")["contacts"] >= least or None, 60, "the contacts"
        )

    def end(self, nodes: list[NodeProcess]) -> None:
        """End nodes."""
        end_all(nodes)
        self._nodes = [one for one in self._nodes if one not in nodes]

    def close(self) -> None:
        """End everything."""
        end_all(self._nodes)
        self._origin.terminate()
        self._origin.join()

    async def copies(self) -> dict[str, float]:
        """Return how many copies of each body the origin sent since it was asked."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        writer.write(b"GET /count HTTP/1.1\r\n\r\n")
        length = 0
        while header := (await reader.readline()).strip().lower():
            if header.startswith(b"content-length:"):
                length = int(header[15:])
        body = await reader.readexactly(length)
        writer.close()
        found: dict[str, float] = json.loads(body)
        return found

    async def install(self, nodes: list[NodeProcess]) -> list[Install]:
        """Let every node's client install all, at the same moment."""
        clients = [Client(str(node.ready["web"])) for node in nodes]
        return await asyncio.gather(*(one.install(self.projects) for one in clients))


def rows_of(
    copies: dict[str, float], installs: list[Install], single: float
) -> list[Row]:
    """Return the figures of one round."""
    files = [n for path, n in copies.items() if path.startswith("/files/")]
    pages = [n for path, n in copies.items() if path.startswith("/simple/")]
    failed = [one for install in installs for one in install.failed]
    slowest = max(one.seconds for one in installs)
    first = sorted(at for one in installs for at in one.first_byte)
    return [
        Row(
            what="copies of each file that the origin sent",
            ours=statistics.mean(files) if files else 0.0,
            unit="copies",
            goal=Goal(1.05, ratio=False),
            more={"most": max(files, default=0.0)},
        ),
        Row(
            what="copies of each page",
            ours=statistics.mean(pages) if pages else 0.0,
            unit="copies",
            goal=Goal(1.05, ratio=False),
            more={"most": max(pages, default=0.0)},
        ),
        Row(
            what="installs that failed",
            ours=float(len(failed)),
            unit="",
            goal=Goal(0, ratio=False),
        ),
        Row(
            what="the slowest node",
            ours=slowest,
            unit="s",
            theirs=single,
            beside="one cold node",
            goal=Goal(1.25),
            more={"first byte p99, s": first[int(len(first) * 0.99)] if first else 0.0},
        ),
    ]


@contextlib.contextmanager
def busy_processes(count: int) -> Any:
    """Keep processors busy beside."""
    spin = "while True: pass"
    running = [subprocess.Popen([sys.executable, "-c", spin]) for _ in range(count)]
    try:
        yield
    finally:
        for one in running:
            one.kill()
            one.wait()


def single_seconds(fleet: Fleet) -> float:
    """Time one cold node alone."""
    nodes = fleet.start(1)
    (install,) = asyncio.run(fleet.install(nodes))
    fleet.end(nodes)
    asyncio.run(fleet.copies())
    return install.seconds


def at_once(report: Report, fleet: Fleet, count: int, *, busy: int) -> None:
    """All nodes cold, the same files at the same moment."""
    with busy_processes(busy):
        single = single_seconds(fleet)
        nodes = fleet.start(count)
        asyncio.run(fleet.copies())
        installs = asyncio.run(fleet.install(nodes))
        copies = asyncio.run(fleet.copies())
    fleet.end(nodes)
    beside = f", {busy} busy processes beside" if busy else ""
    for install in installs:
        for one in install.failed:
            report.note(f"failed: {one}")
    report.section(
        f"{count} cold nodes at once{beside}", rows_of(copies, installs, single)
    )


async def _follow_big(nodes: list[NodeProcess], *, kill: bool) -> tuple[float, int]:
    """Bring one large file to all nodes; return seconds, and how many others failed."""
    clients = [Client(str(node.ready["web"])) for node in nodes]
    began = time.perf_counter()
    first = asyncio.create_task(clients[0].install([BIG]))
    await asyncio.sleep(HEAD_START_SECONDS)  # it holds the lease
    others = [asyncio.create_task(one.install([BIG])) for one in clients[1:]]
    if kill:
        await asyncio.sleep(BIG_BYTES / BYTES_PER_SECOND / 2)
        nodes[0].signal(signal.SIGKILL)
    installs = await asyncio.gather(*others)
    took = time.perf_counter() - began
    await first
    return took, sum(len(one.failed) for one in installs)


def killed(report: Report, fleet: Fleet) -> None:
    """Kill the node that asks the origin, half-way through one large file."""
    took: list[float] = []
    copies: dict[str, float] = {}
    failed = 0
    for kill in (False, True):
        nodes = fleet.start(FOLLOWERS + 1)
        asyncio.run(fleet.copies())
        seconds, failed = asyncio.run(_follow_big(nodes, kill=kill))
        copies = asyncio.run(fleet.copies())
        took.append(seconds)
        fleet.end(nodes)
    sent = next(n for path, n in copies.items() if path.startswith(f"/files/{BIG}"))
    megabytes = BIG_BYTES / 1e6
    rows = [
        Row(
            what=f"copies of its {megabytes:.0f} MB",
            ours=sent,
            unit="copies",
            goal=Goal(2, ratio=False),
        ),
        Row(
            what="the others have it later than without",
            ours=took[1] - took[0],
            unit="s",
            goal=Goal(1.5, ratio=False),
            more={"without, s": took[0]},
        ),
        Row(
            what="others that failed",
            ours=float(failed),
            unit="",
            goal=Goal(0, ratio=False),
        ),
    ]
    report.section(
        f"The holder of a lease is killed half-way, {FOLLOWERS} others follow", rows
    )


def door(report: Report, fleet: Fleet, folder: Path) -> None:
    """Clients without nodes of their own, through one site door, warm."""
    (node,) = fleet.start(1, "--serve", "127.0.0.1:0")
    files = []
    for number in range(SMALL_FILES):
        path = folder / f"small{number}"
        path.write_bytes(random.Random(number).randbytes(SMALL_BYTES))
        files.append(str(path))
    shared = node.ask("share", *files)["artifacts"]
    paths = [f"/blob/sha256/{one['digest'].partition(':')[2]}" for one in shared]
    site = str(node.ready["site"])
    asyncio.run(ask_door(site, paths, clients=CLIENTS, seconds=1.0))
    seconds = 5.0
    times = asyncio.run(ask_door(site, paths, clients=CLIENTS, seconds=seconds))
    times.sort()
    fleet.end([node])
    rows = [
        Row(
            what=f"{CLIENTS} clients, files of {SMALL_BYTES // 1024} KiB",
            ours=len(times) / seconds,
            unit="files/s",
            goal=Goal(3000, ratio=False, at_least=True),
        ),
        Row(
            what="the same, p99",
            ours=times[int(len(times) * 0.99)] * 1000,
            unit="ms",
            goal=Goal(50, ratio=False),
            more={"p50, ms": times[len(times) // 2] * 1000},
        ),
    ]
    report.section("One site door, warm", rows)


def idle(report: Report, fleet: Fleet) -> None:
    """Start, and what a node that does nothing holds of memory."""
    for _ in range(2):  # the first one may have to compile
        (node,) = fleet.start(1, "--serve", "127.0.0.1:0", PYTHONDONTWRITEBYTECODE="")
        ready = fleet.ready_seconds
        time.sleep(IDLE_SECONDS)
        status = Path(f"/proc/{node.pid}/status").read_text("ascii")
        resident = next(
            int(line.split()[1]) / 1024
            for line in status.splitlines()
            if line.startswith("VmRSS")
        )
        fleet.end([node])
    rows = [
        Row(what="start, until it is ready", ours=ready, unit="s",
            goal=Goal(3, ratio=False)),
        Row(what=f"memory after {IDLE_SECONDS:.0f} s idle", ours=resident, unit="MiB",
            goal=Goal(70, ratio=False)),
    ]  # fmt: skip
    report.section("A node with a site door that does nothing", rows)


def main() -> None:
    parser = make_parser("fleet", __doc__)
    parser.add_argument("--nodes", type=int, default=16)
    parser.add_argument("--wheels", type=Path, default=Path("build/wheels"))
    parser.add_argument("--only", choices=["cold", "busy", "killed", "door", "idle"])
    options = parser.parse_args()
    bring_wheels(options.wheels)
    files = {path.name: path.read_bytes() for path in options.wheels.glob("*.whl")}
    files[f"{BIG}-1.0-py3-none-any.whl"] = random.Random(1).randbytes(BIG_BYTES)
    report = Report("fleet", options.json)
    total = sum(map(len, files.values())) - BIG_BYTES
    report.note(f"{len(files) - 1} wheels, {total / 1e6:.1f} MB")
    with tempfile.TemporaryDirectory(prefix="caravan-fleet-") as name:
        fleet = Fleet(Path(name), files)
        try:
            run_cases(report, fleet, options, Path(name))
        finally:
            fleet.close()
    report.end()


def run_cases(
    report: Report, fleet: Fleet, options: argparse.Namespace, folder: Path
) -> None:
    """Run the cases that were asked for."""
    if options.only in (None, "cold"):
        at_once(report, fleet, options.nodes, busy=0)
    if options.only in (None, "busy"):
        at_once(report, fleet, options.nodes, busy=2)
    if options.only in (None, "killed"):
        killed(report, fleet)
    if options.only in (None, "door"):
        door(report, fleet, folder)
    if options.only in (None, "idle"):
        idle(report, fleet)


if __name__ == "__main__":
    main()
