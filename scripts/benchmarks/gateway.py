"""The gateway: `pip install` of 30 packages, misses and blobs, beside direct and nginx.

The origin is a local mirror in a process of its own, with 50 ms of latency and
20 MB/s for all its connections together. The wheels come, once, from the index that
pip is configured to use. nginx and wrk are used where they are installed.
"""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import json
import multiprocessing
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from node.demo.processes import NodeProcess, end_all, wait_until
from scripts.benchmarks.report import Goal, Report, Row
from scripts.benchmarks.report import parser as make_parser

WHEELS = [
    "aiohttp", "aiosignal", "attrs", "blinker", "certifi", "cffi",
    "charset-normalizer", "click", "cryptography", "flask", "frozenlist", "idna",
    "itsdangerous", "jinja2", "markdown-it-py", "markupsafe", "mdurl", "msgpack",
    "multidict", "numpy", "packaging", "platformdirs", "propcache", "pycparser",
    "pygments", "requests", "rich", "urllib3", "werkzeug", "yarl",
]  # fmt: skip
LATENCY_SECONDS = 0.05
BYTES_PER_SECOND = 20_000_000
CLEAN = {"PIP_CONFIG_FILE": os.devnull, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
PIP = [sys.executable, "-m", "pip"]
SETTLE_SECONDS = 3.0  # a node that has just read 30 pages comes to rest
GOALS = {
    "cold node": Goal(1.15),
    "warm node": Goal(0.5),
    "3 peers, no origin": Goal(0.5),
}


class Mirror:
    """A slow index and its files, over raw asyncio streams."""

    def __init__(self, folder: Path) -> None:
        self.pages: dict[str, list[dict[str, object]]] = {}
        self.files: dict[str, bytes] = {}
        for path in sorted(folder.glob("*.whl")):
            data = path.read_bytes()
            name = path.name.partition("-")[0].replace("_", "-").lower()
            self.files[f"/files/{path.name}"] = data
            entry = {
                "filename": path.name,
                "url": f"/files/{path.name}",
                "hashes": {"sha256": hashlib.sha256(data).hexdigest()},
                "size": len(data),
            }
            self.pages.setdefault(f"/simple/{name}/", []).append(entry)
        self._free_at = 0.0

    async def answer(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            while line := await reader.readline():
                path = line.split()[1].decode()
                while (await reader.readline()).strip():
                    pass
                await asyncio.sleep(LATENCY_SECONDS)
                await self._send(writer, path)
        except (ConnectionError, IndexError):
            pass
        finally:
            writer.close()

    async def _send(self, writer: asyncio.StreamWriter, path: str) -> None:
        kind, body, status = "application/octet-stream", b"", "404 Not Found"
        if path in self.files:
            body, status = self.files[path], "200 OK"
        elif path in self.pages:
            page = {"meta": {"api-version": "1.0"}, "name": path.split("/")[2]}
            body = json.dumps({**page, "files": self.pages[path]}).encode()
            kind, status = "application/vnd.pypi.simple.v1+json", "200 OK"
        writer.write(
            f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n".encode()
        )
        loop = asyncio.get_running_loop()
        for start in range(0, len(body), 65536):
            part = body[start : start + 65536]
            self._free_at = max(loop.time(), self._free_at)
            self._free_at += len(part) / BYTES_PER_SECOND
            if (wait := self._free_at - loop.time()) > 0.005:
                await asyncio.sleep(wait)
            writer.write(part)
            await writer.drain()


def serve_mirror(folder: Path, port: int, said: multiprocessing.Queue[int]) -> None:
    async def serve() -> None:
        mirror = Mirror(folder)
        server = await asyncio.start_server(mirror.answer, "127.0.0.1", port)
        said.put(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(serve())


def bring_wheels(folder: Path) -> None:
    """Download the real set once; it stays in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    if len(list(folder.glob("*.whl"))) < len(WHEELS):
        flags = ["-q", "--no-deps", "--only-binary", ":all:", "-d", str(folder)]
        subprocess.run([*PIP, "download", *flags, *WHEELS], check=True)


def pip_seconds(index: str, verb: str, folder: Path) -> float:
    """Time one run of pip into a fresh folder; `index` may be a folder of wheels."""
    target = Path(tempfile.mkdtemp(dir=folder))
    where = ["--target" if verb == "install" else "-d", str(target)]
    flags = ["-q", "--no-deps", "--no-cache-dir"]
    is_url = index.startswith("http")
    flags += ["--index-url", index] if is_url else ["--no-index", "-f", index]
    if verb == "install":
        flags.append("--no-compile")
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PIP_")}
    environment = kept | CLEAN | {"TMPDIR": str(folder)}
    began = time.perf_counter()
    subprocess.run([*PIP, verb, *flags, *where, *WHEELS], check=True, env=environment)
    seconds = time.perf_counter() - began
    shutil.rmtree(target)
    return seconds


class Bench:
    """The nodes and the mirror of one run; `unpack` is where pip writes."""

    def __init__(self, folder: Path, unpack: Path, wheels: Path) -> None:
        self.folder = folder
        self.unpack = unpack
        self.wheels = wheels
        self.nodes: list[NodeProcess] = []
        self._port = 0
        self._mirror: multiprocessing.Process | None = None
        self.revive()

    @property
    def origin(self) -> str:
        """Where the mirror is, dead or alive."""
        return f"http://127.0.0.1:{self._port}"

    def revive(self) -> None:
        """Start the mirror, where it was before."""
        said: multiprocessing.Queue[int] = multiprocessing.Queue()
        self._mirror = multiprocessing.Process(
            target=serve_mirror, args=(self.wheels, self._port, said), daemon=True
        )
        self._mirror.start()
        self._port = said.get(timeout=30)

    def kill(self) -> None:
        """End the mirror; connections are refused from now on."""
        if self._mirror is not None:
            self._mirror.terminate()
            self._mirror.join()
            self._mirror = None

    def node(self, name: str, *contacts: str) -> NodeProcess:
        upstream = {
            "CARAVAN_UPSTREAM_PYPI": f"{self.origin}/simple",
            "CARAVAN_UPSTREAM_PYPI_SHARE": "true",
        }
        node = NodeProcess(self.folder, name, upstream)
        self.nodes.append(node)
        node.join(*contacts)
        return node

    def end(self, *nodes: NodeProcess) -> None:
        """End some nodes, so that they cost the next run nothing."""
        end_all(nodes)
        self.nodes = [one for one in self.nodes if one not in nodes]

    def pip(self, index: str, verb: str) -> float:
        """Time pip once."""
        return pip_seconds(index, verb, self.unpack)

    def close(self) -> None:
        end_all(self.nodes)
        self.kill()


def index_of(node: NodeProcess) -> str:
    return f"http://{node.ready['web']}/pypi/simple"


def get(web: str, path: str) -> tuple[int, int, float]:
    """Return (status, bytes, seconds) of one request."""
    connection = http.client.HTTPConnection(web, timeout=60)
    began = time.perf_counter()
    connection.request("GET", path)
    answer = connection.getresponse()
    size = len(answer.read())
    seconds = time.perf_counter() - began
    connection.close()
    return answer.status, size, seconds


def installs(bench: Bench, verb: str, rounds: int) -> list[Row]:
    """Time `pip install` or `pip download` five ways, round by round.

    The cold node is in a network in which nobody has any of the files. The reader of
    the peers' case has read the index pages while the origin was alive, and no file.
    """
    neighbour = bench.node(f"{verb}-neighbour")
    seeds = seeders(bench, verb)
    times: dict[str, list[float]] = {}

    def note(what: str, index: str) -> None:
        times.setdefault(what, []).append(bench.pip(index, verb))

    for number in range(rounds):
        note("direct", f"{bench.origin}/simple")
        note("files in a folder, no network", str(bench.wheels.resolve()))
        cold = bench.node(f"{verb}-cold-{number}", neighbour.address)
        note("cold node", index_of(cold))
        note("warm node", index_of(cold))
        reader = bench.node(f"{verb}-reader-{number}", seeds[0].address)
        for name in WHEELS:
            get(reader.ready["web"], f"/pypi/simple/{name}/")
        time.sleep(SETTLE_SECONDS)
        bench.kill()
        note("3 peers, no origin", index_of(reader))
        bench.revive()
        bench.end(cold, reader)
    bench.end(neighbour, *seeds)
    direct = statistics.median(times["direct"])
    return [
        Row(
            what=f"pip {verb}, {what}",
            ours=statistics.median(found),
            unit="s",
            theirs=None if what == "direct" else direct,
            beside="" if what == "direct" else "direct",
            goal=GOALS.get(what),
            more={"least": min(found), "most": max(found)},
        )
        for what, found in times.items()
    ]


def seeders(bench: Bench, verb: str) -> list[NodeProcess]:
    """Return three nodes that hold and announce everything."""
    first = bench.node(f"{verb}-seed-0")
    seeds = [first, *(bench.node(f"{verb}-seed-{n}", first.address) for n in (1, 2))]
    for node in seeds:
        bench.pip(index_of(node), "download")
    digests = [one["digest"] for one in first.ask("list")["artifacts"]]

    def announced() -> bool:
        found = [first.run("lookup", one).document for one in digests]
        return all(len(one.get("providers", [])) >= len(seeds) for one in found)

    wait_until(announced, 60, "the three peers announcing")
    return seeds


def misses(bench: Bench, wheels: Path) -> Row:
    """Time small files that only the origin has: direct, and through a node."""
    node = bench.node("misses")
    web = str(node.ready["web"])
    direct, through = [], []
    small = sorted(wheels.glob("*.whl"), key=lambda path: path.stat().st_size)[:8]
    for path in small:
        name = path.name.partition("-")[0].replace("_", "-").lower()
        get(web, f"/pypi/simple/{name}/")
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        direct.append(
            get(bench.origin.removeprefix("http://"), f"/files/{path.name}")[2]
        )
        through.append(get(web, f"/pypi/files/sha256/{digest}/{path.name}")[2])
    beyond = (statistics.median(through) - statistics.median(direct)) * 1000
    return Row(
        what="a small file that only the origin has: beyond the origin",
        ours=beyond,
        unit="ms",
        goal=Goal(50, ratio=False),
    )


def blobs(bench: Bench, folder: Path) -> list[Row]:
    """Warm blobs: one of 64 MiB beside nginx, many of 20 KiB."""
    node = bench.node("blobs")
    web = str(node.ready["web"])
    big, small = folder / "big.bin", folder / "small.bin"
    big.write_bytes(random.Random(1).randbytes(64 * 1024 * 1024))
    small.write_bytes(random.Random(2).randbytes(20 * 1024))
    shared = node.ask("share", str(big), str(small))["artifacts"]
    paths = [f"/blob/sha256/{one['digest'].partition(':')[2]}" for one in shared]
    get(web, paths[0])
    ours = statistics.median(get(web, paths[0])[2] for _ in range(9))
    theirs = nginx_seconds(folder, big.name)
    rows = [
        Row(
            what="a blob of 64 MiB, warm",
            ours=ours * 1000,
            unit="ms",
            theirs=None if theirs is None else theirs * 1000,
            beside="nginx" if theirs else "nginx is not installed",
            goal=Goal(1.5),
        )
    ]
    if shutil.which("wrk"):
        command = ["wrk", "-t1", "-c16", "-d5s", f"http://{web}{paths[1]}"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        rate = [line for line in done.stdout.splitlines() if "Requests/sec" in line]
        rows.append(
            Row(
                what="blobs of 20 KiB, 16 connections",
                ours=float(rate[0].split()[-1]),
                unit="/s",
                goal=Goal(2000, ratio=False, at_least=True),
            )
        )
    return rows


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
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--wheels", type=Path, default=Path("build/wheels"))
    parser.add_argument("--only", choices=["download", "install", "http"])
    parser.add_argument(
        "--unpack", type=Path, help="where pip writes, by default memory (/dev/shm)"
    )
    options = parser.parse_args()
    bring_wheels(options.wheels)
    total = sum(path.stat().st_size for path in options.wheels.glob("*.whl"))
    count = len(list(options.wheels.glob("*.whl")))
    report = Report("gateway", options.json)
    report.note(f"{count} wheels, {total / 1e6:.1f} MB")
    memory = Path("/dev/shm")
    base = options.unpack or (memory if memory.is_dir() else None)
    with (
        tempfile.TemporaryDirectory() as name,
        tempfile.TemporaryDirectory(dir=base) as unpack,
    ):
        bench = Bench(Path(name), Path(unpack), options.wheels)
        try:
            if options.only in (None, "http"):
                rows = [*blobs(bench, Path(name)), misses(bench, options.wheels)]
                report.section("Over HTTP", rows)
            for verb in ("download", "install"):
                if options.only in (None, verb):
                    rows = installs(bench, verb, options.rounds)
                    report.section(f"pip {verb} of {count} wheels", rows)
        finally:
            bench.close()
    report.end()


if __name__ == "__main__":
    main()
