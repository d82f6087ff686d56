"""The stage: who takes part, in which folder, and how they are asked all at once."""

from __future__ import annotations

import hashlib
import signal
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
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


class Stage:
    """Everybody who takes part, and what one step leaves to the next."""

    def __init__(
        self, *, narrator: Narrator, wheels: Wheels, folder: Path, count: int
    ) -> None:
        self.narrator = narrator
        self.wheels = wheels
        self.folder = folder
        line = {"CARAVAN_UPLOAD_BYTES_PER_SECOND": str(UPLOAD_BYTES_PER_SECOND)}
        self.nodes = [NodeProcess(folder, name, line) for name in names(count)]
        self.publisher_text = ""
        self.packages: dict[str, str] = {}  # name -> digest of its package file

    @property
    def bootstrap(self) -> NodeProcess:
        """The one whom the others join through."""
        return self.nodes[0]

    @property
    def publisher(self) -> NodeProcess:
        """The one who signs packages."""
        return self.nodes[1]

    @property
    def holders(self) -> list[NodeProcess]:
        """Those who fetch the first version from the publisher, and keep it."""
        return self.nodes[2:-4][:HOLDERS_MAX]

    @property
    def reader(self) -> NodeProcess:
        """The one who looks a digest up, and fetches from all holders at once."""
        return self.nodes[-4]

    @property
    def traveller(self) -> NodeProcess:
        """The one who is away while a new version comes out."""
        return self.nodes[-3]

    @property
    def survivor(self) -> NodeProcess:
        """The one who fetches everything when the publisher is gone."""
        return self.nodes[-2]

    @property
    def newcomer(self) -> NodeProcess:
        """The one who joins when the bootstrap node is gone."""
        return self.nodes[-1]

    def target(self, name: str) -> str:
        """Return PUBLISHER/NAME."""
        return f"{self.publisher_text}/{name}"

    def name_at(self, address: str) -> str:
        """Return who answers at an address, in people's words."""
        for node in self.nodes:
            if node.ready.get("address") == address:
                return node.name
        return address

    def kill(self) -> None:
        """End every process at once, so that whoever waits for one is answered."""
        for node in self.nodes:
            node.signal(signal.SIGKILL)

    def end(self) -> None:
        """End every process that is still alive."""
        end_all(self.nodes)


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
