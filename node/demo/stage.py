"""The stage: which nodes take part, in which folder, and how all are asked at once."""

from __future__ import annotations

import hashlib
import signal
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from node.demo.narrator import Narrator
from node.demo.processes import NodeProcess, ProcessError, end_all
from node.demo.wheels import Wheels

NODES_MIN = 8
HOLDERS_MAX = 4
UPLOAD_BYTES_PER_SECOND = 2_500_000
ASKED_AT_ONCE = 8

_NAMES = (
    "anna", "boris", "chen", "dora", "emil", "fatma", "greta", "hugo", "ines", "jamal",
    "kira", "luis", "mona", "nils", "olga", "pavel",
)  # fmt: skip

T = TypeVar("T")
U = TypeVar("U")


@dataclass(frozen=True, slots=True)
class Cast:
    """The nodes that take part, and the role of each."""

    nodes: list[NodeProcess]

    @property
    def bootstrap(self) -> NodeProcess:
        """The node that the others join through."""
        return self.nodes[0]

    @property
    def publisher(self) -> NodeProcess:
        """The node that signs packages."""
        return self.nodes[1]

    @property
    def holders(self) -> list[NodeProcess]:
        """The nodes that fetch the first version from the publisher, and keep it."""
        return self.nodes[2:-4][:HOLDERS_MAX]

    @property
    def reader(self) -> NodeProcess:
        """The node that looks a digest up, and fetches from all holders at once."""
        return self.nodes[-4]

    @property
    def traveller(self) -> NodeProcess:
        """The node that is offline while a new version comes out."""
        return self.nodes[-3]

    @property
    def survivor(self) -> NodeProcess:
        """The node that fetches everything when the publisher is gone."""
        return self.nodes[-2]

    @property
    def newcomer(self) -> NodeProcess:
        """The node that joins when the bootstrap node is gone."""
        return self.nodes[-1]

    def name_at(self, address: str) -> str:
        """Return which node answers at an address, by its name."""
        for node in self.nodes:
            if node.ready.get("address") == address:
                return node.name
        return address

    def kill(self) -> None:
        """End every process at once, so that nothing waits for one any more."""
        for node in self.nodes:
            node.signal(signal.SIGKILL)

    def end(self) -> None:
        """End every process that is still alive."""
        end_all(self.nodes)


@dataclass(slots=True)
class Publications:
    """What one step publishes and later steps use."""

    publisher: str = ""
    packages: dict[str, str] = field(default_factory=dict)
    """The digest of each package file, by the package's name."""

    def target(self, name: str) -> str:
        """Return PUBLISHER/NAME."""
        return f"{self.publisher}/{name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """What every step is given."""

    narrator: Narrator
    wheels: Wheels
    folder: Path
    cast: Cast
    published: Publications = field(default_factory=Publications)


def cast_of(folder: Path, count: int) -> Cast:
    """Return `count` nodes below `folder`, none of them started."""
    line = {"CARAVAN_UPLOAD_BYTES_PER_SECOND": str(UPLOAD_BYTES_PER_SECOND)}
    return Cast([NodeProcess(folder, name, line) for name in names(count)])


def names(count: int) -> list[str]:
    """Return a name for each of `count` nodes."""
    more = [f"node-{number}" for number in range(len(_NAMES) + 1, count + 1)]
    return [*_NAMES, *more][:count]


def together(ask: Callable[[T], U], those: Sequence[T]) -> list[U]:
    """Ask all of `those` at the same time; returns the answers in their order."""
    with ThreadPoolExecutor(min(ASKED_AT_ONCE, max(1, len(those)))) as pool:
        return list(pool.map(ask, those))


def sources_of(artifacts: Iterable[dict[str, Any]]) -> dict[str, int]:
    """Return how many bytes came from which address, over all `artifacts`."""
    counted: dict[str, int] = {}
    for artifact in artifacts:
        for source in artifact["sources"]:
            address = source["address"]
            counted[address] = counted.get(address, 0) + source["bytes"]
    return {address: count for address, count in counted.items() if count}


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file as anybody else would compute it, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def must(condition: bool, problem: str) -> None:
    """Raise ProcessError with `problem` unless `condition` holds."""
    if not condition:
        raise ProcessError(problem)
