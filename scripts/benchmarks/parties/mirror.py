"""A made index of Python and npm packages, with pages as long as real ones.

The newest version of each package is there to be downloaded, made of bytes that cannot
be packed; older ones are only named. Pages are sent packed where the client accepts
that, as public indexes do. Each request is answered after a latency, and all
connections share one rate.
"""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import io
import json
import multiprocessing
import random
import tarfile
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

BLOCK_BYTES = 128 * 1024
SIMPLE_TYPE = "application/vnd.pypi.simple.v1+json"
SHORT_TYPE = "application/vnd.npm.install-v1+json"
VERSION = "900.0.0"


@dataclass(frozen=True, slots=True)
class Package:
    """One package: how many files its page names, how large it is, what it needs."""

    name: str
    files: int
    size: int
    needs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PackageSet:
    """What is asked for in one run of a client, and all that this brings."""

    name: str
    packages: tuple[Package, ...]
    wanted: int

    @property
    def names(self) -> list[str]:
        """What the client is asked for."""
        return [one.name for one in self.packages[: self.wanted]]

    @property
    def words(self) -> str:
        """What it is, for a table."""
        total = sum(one.size for one in self.packages) / 1e6
        return f"{self.name} ({len(self.packages)} files, {total:.0f} MB)"


def made_set(name: str, sizes: list[tuple[int, int]], wanted: int) -> PackageSet:
    """Return a set from (files on the page, bytes) of each package.

    The first `wanted` need the others, each of them some.
    """
    names = [f"{name}-{number}" for number in range(len(sizes))]
    packages = []
    for number, (files, size) in enumerate(sizes):
        needs = names[wanted + number :: wanted] if number < wanted else []
        packages.append(Package(names[number], files, size, tuple(needs)))
    return PackageSet(name, tuple(packages), wanted)


def sets_of(kind: str) -> list[PackageSet]:
    """Return the three sets of "python" or "npm"; the numbers follow real ones."""
    rng = random.Random(kind)
    many = [
        (rng.choice([10, 30, 60, 120, 300, 1200]), rng.choice([15, 40, 60, 90, 200]))
        for _ in range(40)
    ]
    few = [(180, 65), (70, 100), (300, 140), (500, 150), (150, 70), (220, 180),
           (90, 15), (400, 230), (60, 130), (120, 95), (40, 8), (10, 12)]  # fmt: skip
    large = [(5000, 5_000), (4400, 2_500), (1900, 1_000), (700, 500), (450, 600),
             (300, 120), (90, 10), (60, 350)]  # fmt: skip
    shapes = (("few", few, 2), ("large", large, 3), ("many", many, 3))
    return [
        made_set(
            f"{kind}-{name}", [(files, size * 1000) for files, size in shape], wanted
        )
        for name, shape, wanted in shapes
    ]


@dataclass(frozen=True, slots=True)
class Line:
    """How far an index is away."""

    name: str
    latency_seconds: float
    bytes_per_second: float

    @property
    def words(self) -> str:
        """What it is, for a table."""
        latency, rate = self.latency_seconds * 1000, self.bytes_per_second / 1e6
        return f"{self.name} origin ({latency:.0f} ms, {rate:.0f} MB/s)"


FAST = Line("fast", 0.055, 80e6)
SLOW = Line("slow", 0.05, 2e6)


@dataclass(slots=True)
class Content:
    """What a mirror has, by path: pages as functions of its own URL, and files."""

    pages: dict[str, tuple[str, str]] = field(default_factory=dict)
    """(content type, text); BASE in it stands for the mirror's URL."""
    full: dict[str, str] = field(default_factory=dict)
    """The text of pages in a longer form, for clients that do not ask for the type."""
    files: dict[str, bytes] = field(default_factory=dict)


BASE = "http://mirror.invalid"


def made_content() -> Content:
    """Return pages and files of all sets, the same in each run."""
    content = Content()
    for one in sets_of("python"):
        for package in one.packages:
            _add_python(content, package)
    for one in sets_of("npm"):
        for package in one.packages:
            _add_npm(content, package)
    _add_python(content, Package("first", 10, 20_000))
    for number in range(5):
        _add_python(content, Package(f"page-{number}", 5000, 20_000))
    return content


def page_bytes(content: Content, kind: str, package: str) -> int:
    """Return how long a package's page is, packed, as its clients ask for it."""
    if kind == "npm":
        text = content.full[f"/npm/{package}"]
    else:
        text = content.pages[f"/simple/{package}/"][1]
    return len(gzip.compress(text.encode(), 6))


# --- Python ---------------------------------------------------------------------------


def wheel_of(package: Package) -> tuple[bytes, bytes]:
    """Return a wheel and its METADATA."""
    module = package.name.replace("-", "_")
    needs = "".join(f"Requires-Dist: {one}\n" for one in package.needs)
    about = (
        f"Metadata-Version: 2.1\nName: {package.name}\nVersion: {VERSION}\n{needs}"
        f"Summary: made for a benchmark\n\n{'A description. ' * 200}\n"
    ).encode()
    folder = f"{module}-{VERSION}.dist-info"
    body = random.Random(package.name).randbytes(package.size)
    members = {
        f"{module}/data.bin": body,
        f"{folder}/METADATA": about,
        f"{folder}/WHEEL": b"Wheel-Version: 1.0\nGenerator: made\n"
        b"Root-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{name},{_record(data)}\n" for name, data in members.items())
    members[f"{folder}/RECORD"] = f"{record}{folder}/RECORD,,\n".encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    return buffer.getvalue(), about


def _record(data: bytes) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=")
    return f"sha256={digest.decode()},{len(data)}"


def _add_python(content: Content, package: Package) -> None:
    module = package.name.replace("-", "_")
    data, about = wheel_of(package)
    rng = random.Random(f"page of {package.name}")
    files, versions = [], []
    for number in range(package.files - 1):
        version = f"{number // 40}.{number % 40 // 8}.{number % 8}"
        platform = f"cp3{number % 5 + 8}-cp3{number % 5 + 8}-manylinux_2_17_x86_64"
        versions.append(version)
        files.append(
            _file_entry(
                f"{module}-{version}-{platform}.whl",
                (rng.randbytes(32).hex(), rng.randbytes(32).hex()),
                rng.randrange(10_000, 20_000_000),
            )
        )
    digests = hashlib.sha256(data).hexdigest(), hashlib.sha256(about).hexdigest()
    files.append(
        _file_entry(f"{module}-{VERSION}-py3-none-any.whl", digests, len(data))
    )
    path = str(files[-1]["url"]).removeprefix(BASE)
    content.files[path], content.files[f"{path}.metadata"] = data, about
    page = {
        "alternate-locations": [],
        "files": files,
        "meta": {"_last-serial": 35_000_000, "api-version": "1.4"},
        "name": package.name,
        "project-status": {"status": "active"},
        "versions": [*dict.fromkeys(versions), VERSION],
    }
    content.pages[f"/simple/{package.name}/"] = (SIMPLE_TYPE, json.dumps(page))


def _file_entry(name: str, digests: tuple[str, str], size: int) -> dict[str, Any]:
    """Return a file as public indexes describe it."""
    place = hashlib.blake2b(digests[0].encode(), digest_size=32).hexdigest()
    apart = {"sha256": digests[1]}
    return {
        "core-metadata": apart,
        "data-dist-info-metadata": apart,
        "filename": name,
        "hashes": {"sha256": digests[0]},
        "provenance": None,
        "requires-python": ">=3.8",
        "size": size,
        "upload-time": "2024-03-10T12:51:32.861541Z",
        "url": f"{BASE}/packages/{place[:2]}/{place[2:4]}/{place[4:]}/{name}",
        "yanked": False,
    }


# --- npm ------------------------------------------------------------------------------


def tarball_of(package: Package) -> bytes:
    """Return the tarball of an npm package."""
    about = {
        "name": package.name,
        "version": VERSION,
        "dependencies": dict.fromkeys(package.needs, VERSION),
    }
    members = {
        "package/package.json": json.dumps(about).encode(),
        "package/data.bin": random.Random(package.name).randbytes(package.size),
    }
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def _add_npm(content: Content, package: Package) -> None:
    data = tarball_of(package)
    rng = random.Random(f"packument of {package.name}")
    versions: dict[str, Any] = {}
    for number in range(max(1, package.files // 2)):
        version = f"{number // 40}.{number % 40}.0"
        versions[version] = _version(package, version, rng.randbytes(64))
    digest = hashlib.sha512(data).digest()
    versions[VERSION] = _version(package, VERSION, digest)
    content.files[_tarball_path(package.name, VERSION)] = data
    document = {
        "name": package.name,
        "dist-tags": {"latest": VERSION},
        "versions": versions,
        "modified": "2024-03-10T12:51:32.861Z",
    }
    path = f"/npm/{package.name}"
    content.pages[path] = (SHORT_TYPE, json.dumps(document))
    for about in versions.values():
        about.update(_more_of_a_version(package))
    readme = {
        "readme": "# A title\n\nWhat it does. " * 400,
        "time": _times_of(versions),
    }
    content.full[path] = json.dumps({**document, **readme})


def _times_of(versions: Iterable[str]) -> dict[str, str]:
    """Return when each version was released, as a registry says it."""
    return dict.fromkeys(versions, "2024-03-10T12:51:32.861Z")


def _more_of_a_version(package: Package) -> dict[str, Any]:
    """Return what only the full form says of a version."""
    person = {"name": "A. Person", "email": "person@example.org"}
    return {
        "description": "What it does, in one sentence of a usual length.",
        "scripts": {f"step-{n}": f"node build.js --only={n}" for n in range(6)},
        "maintainers": [person] * 4,
        "author": person,
        "license": "MIT",
        "gitHead": hashlib.sha1(package.name.encode()).hexdigest(),
        "_npmUser": person,
        "_npmVersion": "10.2.4",
        "_nodeVersion": "20.11.0",
    }


def _tarball_path(name: str, version: str) -> str:
    return f"/npm/{name}/-/{name}-{version}.tgz"


def _version(package: Package, version: str, digest: bytes) -> dict[str, Any]:
    """Return one version as public registries describe it in the short form."""
    return {
        "name": package.name,
        "version": version,
        "dependencies": dict.fromkeys(package.needs, VERSION),
        "bin": {package.name: "bin/cli.js"},
        "dist": {
            "integrity": f"sha512-{base64.b64encode(digest).decode()}",
            "shasum": hashlib.sha1(digest).hexdigest(),
            "tarball": BASE + _tarball_path(package.name, version),
            "fileCount": 120,
            "unpackedSize": package.size * 3,
            "signatures": [
                {
                    "keyid": "SHA256:jl3bwswu80PjjokCgh0o2w5c2U4LhQAE57gj9cz1kzA",
                    "sig": base64.b64encode(digest + b"signature").decode(),
                }
            ],
        },
        "engines": {"node": ">=14.17"},
    }


# --- serving --------------------------------------------------------------------------


class Mirror:
    """Serves a `Content` over raw asyncio streams."""

    def __init__(self, content: Content, line: Line) -> None:
        self._content = content
        self._line = line
        self._free_at = 0.0
        self._made: dict[tuple[str, bool, bool], bytes] = {}
        self._server: asyncio.Server | None = None
        self.url = ""

    async def close(self) -> None:
        """Listen no more."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def start(self, port: int) -> int:
        """Listen on loopback; returns the port."""
        self._server = await asyncio.start_server(self._converse, "127.0.0.1", port)
        bound: int = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{bound}"
        for path in self._content.pages:  # made before anything is measured
            self._page(path, packed=True, full=path in self._content.full)
        return bound

    async def _converse(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            while line := await reader.readline():
                method, path = line.decode().split()[:2]
                headers: dict[str, str] = {}
                while text := (await reader.readline()).decode().strip():
                    name, _, value = text.partition(":")
                    headers[name.lower()] = value.strip()
                await asyncio.sleep(self._line.latency_seconds)
                await self._answer(writer, (method, path), headers)
        except (ConnectionError, ValueError):
            pass
        finally:
            writer.close()

    async def _answer(
        self,
        writer: asyncio.StreamWriter,
        asked: tuple[str, str],
        headers: dict[str, str],
    ) -> None:
        method, path = asked
        status, more, body = "200 OK", "Accept-Ranges: bytes\r\n", b""
        if path in self._content.files:
            body = self._content.files[path]
            more += "Content-Type: application/octet-stream\r\n"
            if part := headers.get("range"):
                start, end = _part(part, len(body))
                more += f"Content-Range: bytes {start}-{end - 1}/{len(body)}\r\n"
                status, body = "206 Partial Content", body[start:end]
        elif path in self._content.pages:
            packed = "gzip" in headers.get("accept-encoding", "")
            kind = self._content.pages[path][0]
            full = path in self._content.full and kind not in headers.get("accept", "")
            kind = "application/json" if full else kind
            body = self._page(path, packed=packed, full=full)
            etag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
            more += f"Content-Type: {kind}\r\nETag: {etag}\r\n"
            more += "Content-Encoding: gzip\r\n" if packed else ""
            if headers.get("if-none-match") == etag:
                status, body = "304 Not Modified", b""
        else:
            status = "404 Not Found"
        head = f"HTTP/1.1 {status}\r\n{more}Content-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode())
        await self._send(writer, b"" if method == "HEAD" else body)

    async def _send(self, writer: asyncio.StreamWriter, body: bytes) -> None:
        loop = asyncio.get_running_loop()
        view = memoryview(body)
        for start in range(0, len(body), BLOCK_BYTES):
            part = view[start : start + BLOCK_BYTES]
            self._free_at = max(loop.time(), self._free_at)
            self._free_at += len(part) / self._line.bytes_per_second
            if (wait := self._free_at - loop.time()) > 0.003:
                await asyncio.sleep(wait)
            writer.write(part)
            await writer.drain()

    def _page(self, path: str, *, packed: bool, full: bool = False) -> bytes:
        if (path, packed, full) not in self._made:
            pages, longer = self._content.pages, self._content.full
            text = longer[path] if full else pages[path][1]
            body = text.replace(BASE, self.url).encode()
            self._made[path, packed, full] = gzip.compress(body, 6) if packed else body
        return self._made[path, packed, full]


def _part(text: str, size: int) -> tuple[int, int]:
    """Return (start, end) of a Range header with one range."""
    first, _, last = text.removeprefix("bytes=").partition("-")
    if not first:
        return size - int(last), size
    return int(first), min(int(last) + 1, size) if last else size


class MirrorProcess:
    """A mirror in a process of its own, that can be ended and started again."""

    def __init__(self, content: Content, line: Line) -> None:
        self._content = content
        self.line = line
        self._port = 0
        self._process: multiprocessing.Process | None = None
        self.revive()

    @property
    def url(self) -> str:
        """Where it is, dead or alive."""
        return f"http://127.0.0.1:{self._port}"

    def revive(self) -> None:
        """Start it, where it was before."""
        if self._process is not None:
            return
        said: multiprocessing.Queue[int] = multiprocessing.Queue()
        self._process = multiprocessing.Process(
            target=_serve,
            args=(self._content, self.line, self._port, said),
            daemon=True,
        )
        self._process.start()
        self._port = said.get(timeout=60)

    def kill(self) -> None:
        """End it; connections are refused from now on."""
        if self._process is not None:
            self._process.terminate()
            self._process.join()
            self._process = None


def _serve(
    content: Content, line: Line, port: int, said: multiprocessing.Queue[int]
) -> None:
    async def serve() -> None:
        said.put(await Mirror(content, line).start(port))
        await asyncio.Event().wait()

    asyncio.run(serve())
