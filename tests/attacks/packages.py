"""Attacks through package managers, lockfiles and the machine that a node runs on."""

from __future__ import annotations

import bz2
import contextlib
import hashlib
import socket
import struct
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

from node.demo.processes import NodeProcess
from tests.attacks.downloads import lying
from tests.attacks.lab import Lab, Outcome, repeat, timed
from tests.end_to_end.origin import Origin
from tests.end_to_end.packages import wheel, wheel_name

MIB = 1024 * 1024
MEMORY_BYTES_MAX = 32 * MIB


def get(url: str, seconds: float = 30.0) -> bytes:
    """Return what a URL answers; OSError for an error of HTTP."""
    with urllib.request.urlopen(url, timeout=seconds) as answer:
        return bytes(answer.read())


def file_url(node: NodeProcess, project: str) -> str:
    """Return the URL of the first file on a project's page at a node's gateway."""
    page = f"http://{node.ready['web']}/pypi/simple/{project}/"
    text = get(page).decode()
    link = text.split('href="', 1)[1].split("#", 1)[0].split('"', 1)[0]
    return urllib.parse.urljoin(page, link)


def false_length(lab: Lab) -> Outcome:
    """Claim another length, as a peer, for a file whose index gives none."""
    content = bytes(range(256)) * 20_000
    digest = hashlib.sha256(content).hexdigest()
    name = wheel_name("big", "1.0")
    with Origin() as origin:
        origin.put(f"/f/{name}", content)
        link = f'<a href="/f/{name}#sha256={digest}">{name}</a>'
        origin.put("/simple/big/", link.encode(), "text/html")
        upstream = {"CARAVAN_UPSTREAM_PYPI": f"{origin.url}/simple"}
        boot = lab.node("boot", CARAVAN_ENCRYPTION="false")
        lab.environment |= {"CARAVAN_ENCRYPTION": "false", **upstream}
        quiet_node = lab.node("quiet")
        _, quiet = timed(lambda: get(file_url(quiet_node, "big")) == content)
        with lying(boot, f"sha256:{digest}", 900 * MIB, 0.05):
            node = lab.node("node", boot)
            done, attacked = timed(lambda: get(file_url(node, "big"), 60) == content)
    return Outcome(tried=1, done=done, attacked_seconds=attacked, quiet_seconds=quiet)


def packed_metadata(lab: Lab) -> Outcome:
    """Publish a small wheel whose METADATA unpacks to hundreds of megabytes."""
    publisher, node = lab.nodes("publisher", "node")
    path = lab.file(_bomb("evil-1.0.dist-info/METADATA", 400 * MIB), "evil-1.0.whl")
    path = path.rename(path.with_name(wheel_name("evil", "1.0")))
    release = ("--name", "evil", "--version", "1.0")
    who = publisher.ask("publish", str(path), *release)["publisher"]
    node.ask("follow", f"{who}/evil")
    before = _peak_bytes(node)
    with contextlib.suppress(OSError, IndexError):
        get(file_url(node, "evil") + ".metadata", 60)
    small = _peak_bytes(node) - before < MEMORY_BYTES_MAX
    alive = node.run("status").exit_code == 0
    return Outcome(tried=2, done=small + alive)


def _bomb(name: str, unpacked: int) -> bytes:
    """Return a zip of one bzip2 member, which claims to unpack to a thousand bytes."""
    packer = bz2.BZ2Compressor()
    data = b"".join(packer.compress(bytes(MIB)) for _ in range(unpacked // MIB))
    data += packer.flush()
    raw = name.encode()
    sizes = (0, len(data), 1000, len(raw))
    head = struct.pack("<HHHHHIIIHH", 46, 0, 12, 0, 33, *sizes, 0)
    local = b"PK\3\4" + head + raw + data
    entry = b"PK\1\2" + struct.pack("<H", 46) + head + bytes(14) + raw
    end = struct.pack("<4HIIH", 0, 0, 1, 1, len(entry), len(local), 0)
    return local + entry + b"PK\5\6" + end


def _peak_bytes(node: NodeProcess) -> int:
    for line in Path(f"/proc/{node.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmHWM")


def spaces(lab: Lab) -> Outcome:
    """Read a requirements.txt with 120,000 spaces; the owner asks meanwhile."""
    node = lab.node("node")
    text = "a" + " " * 120_000 + "x\nb==1 --hash=sha256:" + "0" * 64 + "\n"
    lockfile = lab.file(text.encode(), "requirements.txt")
    status = lambda _: node.run("status").exit_code == 0  # noqa: E731
    _, quiet = repeat(3, status)
    lookup = ("lookup", "--lockfile", str(lockfile))
    thread = threading.Thread(target=node.run, args=lookup)
    thread.start()
    time.sleep(1.5)  # the command has started and the node is reading
    done, attacked = repeat(3, status)
    thread.join()
    return Outcome(tried=3, done=done, attacked_seconds=attacked, quiet_seconds=quiet)


def foreign_metadata(lab: Lab) -> Outcome:
    """Publish a wheel under the file name of another one at the upstream."""
    name = wheel_name("foo", "1.0")
    theirs = wheel("foo", "1.0", "upstream", ("upstreams-choice",))
    mine = lab.file(wheel("foo", "1.0", "network", ("publishers-choice",)), name)
    metadata = b"Metadata-Version: 2.1\nName: foo\nVersion: 1.0\n"
    metadata += b"Requires-Dist: upstreams-choice\n"
    with Origin() as origin:
        digest = hashlib.sha256(theirs).hexdigest()
        apart = hashlib.sha256(metadata).hexdigest()
        link = (
            f'<a href="/f/{name}#sha256={digest}" '
            f'data-core-metadata="sha256={apart}">{name}</a>'
        )
        origin.put(f"/f/{name}", theirs)
        origin.put(f"/f/{name}.metadata", metadata)
        origin.put("/simple/foo/", link.encode(), "text/html")
        publisher = lab.node("publisher")
        home = lab.folder / "node"
        home.mkdir()
        (home / "config.toml").write_text('[gateway.names]\nfoo = "network"\n')
        upstream = {"CARAVAN_UPSTREAM_PYPI": f"{origin.url}/simple"}
        node = lab.node("node", publisher, **upstream)
        get(f"{origin.url}/simple/foo/")
        release = ("--name", "foo", "--version", "1.0")
        who = publisher.ask("publish", str(mine), *release)["publisher"]
        node.ask("follow", f"{who}/foo")
        found = get(file_url(node, "foo") + ".metadata")
    return Outcome(tried=1, done=b"publishers-choice" in found)


def inner_ports(lab: Lab) -> Outcome:
    """Name other ports and addresses of this machine on an upstream's page."""
    with Origin() as inside, Origin() as upstream:
        port = inside.url.rpartition(":")[2]
        hosts = ("127.0.0.1", "localhost", "2130706433", "[::ffff:127.0.0.1]")
        links, digests = [], []
        for number, host in enumerate(hosts):
            digest = hashlib.sha256(host.encode()).hexdigest()
            digests.append(digest)
            url = f"http://{host}:{port}/admin"
            links.append(f'<a href="{url}#sha256={digest}">p-1-{number}.zip</a>')
        upstream.put("/simple/p/", "".join(links).encode(), "text/html")
        setting = {"CARAVAN_UPSTREAM_PYPI": f"{upstream.url}/simple"}
        node = lab.node("node", **setting)
        with contextlib.suppress(OSError):
            get(f"http://{node.ready['web']}/pypi/simple/p/")
        for digest in digests:
            with contextlib.suppress(OSError):
                get(f"http://{node.ready['web']}/blob/sha256/{digest}")
        reached = len(inside.asked)
    return Outcome(tried=len(hosts), done=len(hosts) - reached)


def squatter(lab: Lab) -> Outcome:
    """Take the port that node.json still names after a crash."""
    node = lab.node("node", CARAVAN_PASSPHRASE="correct horse")
    node.ask("key", "new", "default", "--passphrase")
    host, _, port = str(node.ready["web"]).rpartition(":")
    node.kill()
    heard: list[bytes] = []
    with socket.create_server((host, int(port)), reuse_port=False) as listener:
        listener.settimeout(10)

        def serve() -> None:
            with contextlib.suppress(OSError):
                sock, _ = listener.accept()
                with sock:
                    sock.settimeout(2)
                    heard.append(sock.recv(65536))
                    heard.append(sock.recv(65536))

        thread = threading.Thread(target=serve)
        thread.start()
        path = str(lab.file(b"x"))
        node.run("publish", path, "--name", "x", "--version", "1")
        thread.join()
    said = b"".join(heard)
    return Outcome(tried=1, done=b"horse" not in said and b"Bearer" not in said)
