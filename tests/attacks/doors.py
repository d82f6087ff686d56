"""Attacks on the HTTP doors: connections that say nothing, or half a TLS handshake."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from node.demo.processes import NodeProcess
from tests.attacks.flood import flooding
from tests.attacks.lab import Lab, Outcome, repeat
from tests.certificates import write_certificate

TIMES = 12
CONNECTIONS = 6000
DESCRIPTORS_MAX = 1500
ATTACKER = "127.0.0.66"
CLIENT_HELLO_START = bytes.fromhex("160301020001")


def silent_clients(lab: Lab) -> Outcome:
    """Open thousands of connections to the site door and never say a word."""
    return _beside(lab, b"", {})


def half_handshakes(lab: Lab) -> Outcome:
    """Begin TLS on thousands of connections to the site door, and never go on."""
    certificate, key = lab.folder / "door.pem", lab.folder / "door.key"
    write_certificate(certificate, key)
    settings = {
        "CARAVAN_SITE_CERTIFICATE": str(certificate),
        "CARAVAN_SITE_KEY": str(key),
    }
    return _beside(lab, CLIENT_HELLO_START, settings)


def silent_neighbours(lab: Lab) -> Outcome:
    """Open thousands of connections to the owner's door, as another local user."""
    node = lab.node("node")
    digest = lab.share(node, 20_000)
    host, _, port = node.ready["web"].rpartition(":")
    return _measured(node, (host, int(port)), _path(digest), b"")


def _beside(lab: Lab, first: bytes, settings: dict[str, str]) -> Outcome:
    port = _free_port()
    node = lab.node("node", CARAVAN_SITE=f"127.0.0.1:{port}", **settings)
    path = _path(lab.share(node, 20_000))
    return _measured(
        node, ("127.0.0.1", port), path, first, settings.get("CARAVAN_SITE_CERTIFICATE")
    )


def _measured(
    node: NodeProcess,
    address: tuple[str, int],
    path: str,
    first: bytes,
    certificate: str | None = None,
) -> Outcome:
    """Ask a door and the owner's socket, without and with the flood."""
    context = ssl.create_default_context(cafile=certificate) if certificate else None
    scheme = "http" if context is None else "https"
    url = f"{scheme}://{address[0]}:{address[1]}{path}"

    def works(_: int) -> bool:
        with urllib.request.urlopen(url, timeout=10, context=context) as answer:
            return len(answer.read()) == 20_000 and bool(node.ask("status"))

    _, quiet = repeat(TIMES, works)
    with flooding(ATTACKER, address, CONNECTIONS, first), _watched(node) as most:
        time.sleep(2)
        done, attacked = repeat(TIMES, works)
    if max(most) > DESCRIPTORS_MAX:
        done = 0
    return Outcome(
        tried=TIMES, done=done, attacked_seconds=attacked, quiet_seconds=quiet
    )


@contextlib.contextmanager
def _watched(node: NodeProcess) -> Iterator[list[int]]:
    """Give how many descriptors a node has open, again and again."""
    over = threading.Event()
    found: list[int] = []

    def watch() -> None:
        while not over.wait(0.05):
            found.append(sum(1 for _ in Path(f"/proc/{node.pid}/fd").iterdir()))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield found
    finally:
        over.set()
        thread.join()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as bound:
        return int(bound.getsockname()[1])


def _path(digest: str) -> str:
    algorithm, _, name = digest.rpartition(":")
    return f"/blob/{algorithm or 'sha256'}/{name}"
