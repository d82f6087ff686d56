"""What all attacks share: a network of real nodes, and how honest use is measured.

An attack is a function from a `Lab` to an `Outcome`: how many of the honest actions
succeeded while it ran, and how long they took beside what they take without it. The
benchmark `scripts/bench attacks` prints them. Everything happens on loopback.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import random
import statistics
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from dht import Address, Dht, Network, provider_key
from node.demo.processes import NodeProcess, ProcessError, wait_until
from tests.end_to_end.caravan import Caravan
from transfer import Digest

NO_UPSTREAM = {
    f"CARAVAN_UPSTREAM_{name}": "none" for name in ("PYPI", "NPM", "CARGO", "OPAM")
}
ALONE = {"CARAVAN_LAN": "off", "CARAVAN_PORT_MAPPING": "off"}
HEARD_SECONDS_MAX = 15.0
RANDOM_BYTES_MAX = 8 * 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What honest users got: actions tried and done, and their median seconds."""

    tried: int
    done: int
    attacked_seconds: float | None = None
    quiet_seconds: float | None = None

    @property
    def success(self) -> float:
        """The share of honest actions that succeeded, from 0 to 1."""
        return self.done / self.tried

    @property
    def slow_down(self) -> float | None:
        """How many times longer honest actions took; None where time is no matter."""
        if self.attacked_seconds is None or not self.quiet_seconds:
            return None
        return self.attacked_seconds / self.quiet_seconds


@dataclass(frozen=True)
class Attack:
    """An attack, by the letter of its kind, and what is counted beside it."""

    name: str
    kind: str
    honest: str
    run: Callable[[Lab], Outcome]


@dataclass
class Lab:
    """A folder and the nodes of one attack."""

    caravan: Caravan
    environment: dict[str, str] = field(default_factory=dict)
    _files: int = 0

    @property
    def folder(self) -> Path:
        """Where files of the attack may be written."""
        return self.caravan.folder

    def node(
        self, name: str, *contacts: NodeProcess, **environment: str
    ) -> NodeProcess:
        """Start a node that joins through `contacts`."""
        settings = {**NO_UPSTREAM, **ALONE, **self.environment, **environment}
        addresses = [contact.address for contact in contacts]
        return self.caravan.join(name, *addresses, **settings)

    def nodes(self, *names: str) -> list[NodeProcess]:
        """Start nodes that all join through the first one."""
        first = self.node(names[0])
        return [first, *(self.node(name, first) for name in names[1:])]

    def file(self, content: bytes | int, name: str = "") -> Path:
        """Write a file of these bytes, or of so many, which no other file has."""
        self._files += 1
        path = self.folder / (name or f"file-{self._files}.bin")
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            head = random.Random(str(path)).randbytes(min(content, RANDOM_BYTES_MAX))
            path.write_bytes(head)
            os.truncate(path, content)
        return path

    def share(self, node: NodeProcess, content: bytes | int) -> str:
        """Share a new file; return its digest."""
        document = node.ask("share", str(self.file(content)))
        return str(document["artifacts"][0]["digest"])

    def publish(
        self, node: NodeProcess, name: str, version: str, *more: str
    ) -> tuple[str, str]:
        """Publish a small file; return the publisher and the package's digest."""
        path = self.file(f"{name} {version}".encode())
        document = node.ask(
            *("publish", str(path), "--name", name, "--version", version, *more)
        )
        return document["publisher"], document["package"]

    def out(self) -> str:
        """Return a path that does not exist yet."""
        self._files += 1
        return str(self.folder / f"out-{self._files}")


def holds(node: NodeProcess, name: str, version: str) -> bool:
    """Tell whether a node gets a version of a package within a while."""

    def found() -> bool:
        packages = node.ask("list")["packages"]
        return any((one["name"], one["version"]) == (name, version) for one in packages)

    try:
        return wait_until(found, HEARD_SECONDS_MAX, f"{node.name} getting {name}")
    except ProcessError:
        return False


def timed(action: Callable[[], bool]) -> tuple[bool, float]:
    """Return whether an action succeeded, and the seconds it took."""
    began = time.monotonic()
    try:
        done = action()
    except (ProcessError, OSError, HTTPException):
        done = False
    return done, time.monotonic() - began


def repeat(count: int, action: Callable[[int], bool]) -> tuple[int, float]:
    """Do an action so many times; return the successes and the median seconds."""
    results = [timed(functools.partial(action, number)) for number in range(count)]
    return sum(done for done, _ in results), statistics.median(s for _, s in results)


def fetches(lab: Lab, node: NodeProcess, *digests: str) -> tuple[int, float]:
    """Fetch digests one after the other; return successes and median seconds."""
    return repeat(
        len(digests),
        lambda number: (
            node.run("fetch", digests[number], "-o", lab.out()).exit_code == 0
        ),
    )


@contextlib.contextmanager
def meanwhile(attack: Callable[[threading.Event], None]) -> Iterator[None]:
    """Run an attack in a thread until the block ends; it is told by its event."""
    over = threading.Event()
    thread = threading.Thread(target=attack, args=(over,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(30)


def while_awake(
    attack: Callable[[asyncio.Event], Coroutine[None, None, None]],
) -> Callable[[threading.Event], None]:
    """Return a coroutine function as an attack for `meanwhile`."""

    def run(over: threading.Event) -> None:
        async def until_over() -> None:
            ended = asyncio.Event()
            task = asyncio.create_task(attack(ended))
            await asyncio.to_thread(over.wait)
            ended.set()
            await task

        asyncio.run(until_over())

    return run


@contextlib.asynccontextmanager
async def stranger(
    contact: NodeProcess, key: Ed25519PrivateKey | None = None
) -> AsyncIterator[Dht]:
    """Give a node of the DHT that belongs to nobody here."""
    dht = Dht(key or Ed25519PrivateKey.generate())
    await dht.start([Address("127.0.0.1", 0)])
    try:
        await dht.join([Address.parse(contact.address)])
        yield dht
    finally:
        await dht.close()


async def offer(dht: Dht, digest: str, port: int) -> None:
    """Announce a digest as a provider at a port, whether one has it or not."""
    found = Digest.parse(digest)
    await dht.offer([provider_key(Network(), found.algorithm, found.raw)], port)
