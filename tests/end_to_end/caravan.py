"""Real `caravan` processes for a test: started in fresh folders, always ended.

The nodes are the same `NodeProcess` that the demo starts: whatever a test sees, a user
of the command line sees.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from node.demo.processes import LiarProcess, NodeProcess, Process, end_all, wait_until

SETTLE_SECONDS_MAX = 30.0
MEBIBYTE = 1024 * 1024

T = TypeVar("T")


class Caravan:
    """The nodes of one test or module, and the folder that holds their homes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._processes: list[Process] = []

    def node(self, name: str, **environment: str) -> NodeProcess:
        """Return a node that has not been started yet."""
        node = NodeProcess(self.folder, name, environment)
        self._processes.append(node)
        return node

    def join(self, name: str, *contacts: str, **environment: str) -> NodeProcess:
        """Start a node and wait until it is ready."""
        node = self.node(name, **environment)
        node.join(*contacts)
        return node

    def network(self, *names: str) -> list[NodeProcess]:
        """Start nodes that all join through the first one, and know each other."""
        first = self.join(names[0])
        others = [self.node(name) for name in names[1:]]
        for node in others:
            node.start(first.address)
        for node in others:
            node.wait_ready()
        wait_for_contacts([first, *others], len(names) // 2)
        return [first, *others]

    def liar(self, name: str, file: Path, contact: str) -> LiarProcess:
        """Start a peer that offers `file` and sends wrong bytes of it."""
        liar = LiarProcess(self.folder, name)
        self._processes.append(liar)
        liar.offer(file, contact)
        return liar

    def end(self) -> None:
        """End every process; AssertionError if one hung or met an unhandled error."""
        killed = end_all(self._processes)
        assert killed == [], "these did not stop at SIGTERM"
        for process in self._processes:
            assert "Traceback" not in process.log, process.log


@contextmanager
def caravan_in(folder: Path) -> Iterator[Caravan]:
    """Give a `Caravan` whose processes are ended, whatever happens."""
    caravan = Caravan(folder)
    try:
        yield caravan
    finally:
        caravan.end()


def wait_for_contacts(nodes: Sequence[NodeProcess], least: int) -> None:
    """Wait until each of `nodes` has `least` contacts."""

    def enough() -> bool:
        counts = at_once(lambda node: node.ask("status")["contacts"], nodes)
        return bool(min(counts) >= least)

    wait_until(enough, SETTLE_SECONDS_MAX, "the nodes finding each other")


def wait_for_providers(node: NodeProcess, digest: str, addresses: set[str]) -> None:
    """Wait until a lookup on `node` finds all of `addresses`."""

    def found() -> bool:
        document = node.run("lookup", digest).document
        providers = {one["address"] for one in document.get("providers", [])}
        return addresses <= providers

    wait_until(found, SETTLE_SECONDS_MAX, "the announcements arriving")


def at_once(ask: Callable[[NodeProcess], T], nodes: Sequence[NodeProcess]) -> list[T]:
    """Ask all nodes at the same time; returns the answers in their order."""
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(ask, nodes))


def random_file(path: Path, size: int, seed: int = 1) -> tuple[Path, str]:
    """Write a file of `size` random bytes; returns it and its SHA-256 in hex."""
    content = random.Random(seed).randbytes(size)
    path.write_bytes(content)
    return path, hashlib.sha256(content).hexdigest()


def stored_file(node: NodeProcess, digest: str) -> Path:
    """Return where a node keeps the artifact with this SHA-256."""
    return node.home / "store" / "sha256" / digest[:2] / digest


def flip_byte(path: Path, offset: int) -> None:
    """Damage a file as a failing disk does: one byte, the length unchanged."""
    path.chmod(0o600)
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)
        file.seek(offset)
        file.write(bytes([byte[0] ^ 1]))


def source_addresses(document: dict[str, Any]) -> set[str]:
    """Return the addresses that a fetch got bytes from."""
    return {
        source["address"]
        for artifact in document["artifacts"]
        for source in artifact["sources"]
        if source["bytes"]
    }


def held_digests(node: NodeProcess) -> set[str]:
    """Return the digests of everything that a node keeps and offers."""
    return {artifact["digest"] for artifact in node.ask("list")["artifacts"]}
