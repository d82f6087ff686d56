"""The nodes and mirrors of the gateway's benchmark, and what clients are asked for."""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from node.demo.processes import NodeProcess, end_all, run_caravan, wait_until
from scripts.benchmarks.parties.clients import CLIENTS, Client
from scripts.benchmarks.parties.mirror import (
    Content,
    Line,
    MirrorProcess,
    PackageSet,
    page_bytes,
    sets_of,
)

REAL_SETS: dict[str, dict[str, list[str]]] = {
    "python": {
        "few": ["requests", "flask"],
        "large": ["numpy", "scipy", "pandas", "matplotlib"],
        "many": ["jupyterlab"],
    },
    "npm": {
        "few": ["express"],
        "large": ["react", "vite", "typescript"],
        "many": ["webpack", "webpack-cli", "eslint"],
    },
}
NETWORK = "bench"
LEVELS = 2
"""Of the made sets: what is asked for, and what that needs."""
PAGE_TYPE = "application/vnd.pypi.simple.v1+json"
# As pip asks for a page.
PAGE_HEADERS = {
    "Accept": f"{PAGE_TYPE}, application/vnd.pypi.simple.v1+html; q=0.1, "
    "text/html; q=0.01",
    "Accept-Encoding": "gzip, deflate",
}


@dataclass(frozen=True, slots=True)
class Case:
    """One client and what it is asked for."""

    client: Client
    what: str
    names: list[str]
    packages: list[str]
    """All that is brought, where that is known before."""
    page_bytes: int = 0
    """Of the pages of all that, packed, as the client asks for them."""

    @property
    def words(self) -> str:
        """What it is, for a table."""
        return f"{self.client.name}, {self.what}"

    def page_seconds(self, line: Line) -> float:
        """Return how long a line takes at least for the pages, level by level."""
        return self.page_bytes / line.bytes_per_second + LEVELS * line.latency_seconds

    @property
    def page_paths(self) -> list[str]:
        """Where the pages are at a node."""
        end = "" if self.client.name == "npm" else "/"
        root = self.client.node_route.rstrip("/")
        return [f"{root}/{name}{end}" for name in self.packages]

    @property
    def page_headers(self) -> dict[str, str]:
        """What the client says where it asks for a page."""
        is_npm = self.client.name == "npm"
        return {"Accept": "application/json"} if is_npm else PAGE_HEADERS


def cases_of(options: argparse.Namespace, content: Content | None) -> list[Case]:
    """Return what the options ask for; without a `content`, of real packages."""
    found = []
    for name in options.clients.split(","):
        client, kind = CLIENTS[name], "npm" if name == "npm" else "python"
        made: dict[str, PackageSet] = {
            one.name.partition("-")[2]: one for one in sets_of(kind)
        }
        for what in options.sets.split(","):
            if content is None:
                names = REAL_SETS[kind][what]
                found.append(Case(client, " ".join(names), names, []))
                continue
            one = made[what]
            packages = [package.name for package in one.packages]
            size = sum(page_bytes(content, kind, package) for package in packages)
            found.append(Case(client, one.words, one.names, packages, size))
    return found


@dataclass
class Lab:
    """The mirrors and nodes of one run; `unpack` is where clients write."""

    folder: Path
    unpack: Path
    mirrors: dict[str, MirrorProcess] = field(default_factory=dict)
    """By the name of their line; none where the machine's own index is used."""
    nodes: list[NodeProcess] = field(default_factory=list)
    made: int = 0
    _secret: Path | None = None

    def node(self, line: str, *contacts: str, is_member: bool = False) -> NodeProcess:
        """Start a node on an origin and wait until it is ready.

        `is_member` puts it into the private network of this run.
        """
        settings = {
            f"CARAVAN_UPSTREAM_{name}_SHARE": "true" for name in ("PYPI", "NPM")
        }
        settings["CARAVAN_LAN"] = "false"  # who is meant is named
        if line in self.mirrors:
            url = self.mirrors[line].url
            settings["CARAVAN_UPSTREAM_PYPI"] = f"{url}/simple"
            settings["CARAVAN_UPSTREAM_NPM"] = f"{url}/npm/"
        self.made += 1
        node = NodeProcess(self.folder, f"node-{self.made}", settings)
        self.nodes.append(node)
        options: list[str] = []
        if is_member:
            options = ["--network", NETWORK, "--secret-file", str(self._secret_file())]
        node.join(*contacts, *options)
        return node

    def _secret_file(self) -> Path:
        if self._secret is None:
            home = self.folder / "keys"
            environment = {**os.environ, "CARAVAN_HOME": str(home)}
            run_caravan("network", "new", NETWORK, environment=environment)
            self._secret = home / "networks" / f"{NETWORK}.secret"
        return self._secret

    def end(self, *nodes: NodeProcess) -> None:
        """End some nodes, so that they cost the next run nothing."""
        end_all(nodes)
        self.nodes = [one for one in self.nodes if one not in nodes]
        for node in nodes:
            shutil.rmtree(node.home, ignore_errors=True)

    def direct(self, line: str, case: Case) -> float:
        """Time a client that asks the origin."""
        index = None
        if line in self.mirrors:
            index = self.mirrors[line].url + case.client.origin_route
        return case.client.seconds(index, case.names, self.unpack)

    def through(self, node: NodeProcess, case: Case) -> float:
        """Time a client that asks a node."""
        index = f"http://{node.ready['web']}{case.client.node_route}"
        return case.client.seconds(index, case.names, self.unpack)

    def close(self) -> None:
        """End everything."""
        end_all(self.nodes)
        for one in self.mirrors.values():
            one.kill()


def seeded(
    lab: Lab, line: str, cases: Sequence[Case], *, count: int, is_member: bool = False
) -> list[NodeProcess]:
    """Return `count` nodes that hold and announce all that some cases bring."""
    first = lab.node(line, is_member=is_member)
    others = range(count - 1)
    seeds = [
        first,
        *(lab.node(line, first.address, is_member=is_member) for _ in others),
    ]
    sets = {tuple(case.names): case for case in cases}  # pip and uv bring the same
    for node in seeds:
        for case in sets.values():
            lab.through(node, case)

    def announced() -> bool:
        for node in seeds:
            placement = node.ask("status")["placement"]
            held = len(node.ask("list")["artifacts"])
            if placement["offered"] < held or placement["unplaced"]:
                return False
        return True

    wait_until(announced, 120, "the peers announcing")
    return seeds
