"""A node and an origin that tests with many package managers share."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from node.demo.processes import CARAVAN, NodeProcess
from tests.end_to_end.caravan import caravan_in
from tests.end_to_end.clients import gateway, must, need, own_home, run_client
from tests.end_to_end.origin import Origin
from tests.end_to_end.packages import put_crate, put_npm, put_wheel

NODE_AGENT = "caravan"


@dataclass(frozen=True, slots=True)
class Place:
    """An origin, and the node that asks it."""

    node: NodeProcess
    origin: Origin

    @property
    def gateway(self) -> str:
        """Return the URL of the node's gateway."""
        return gateway(self.node)

    @property
    def pypi(self) -> str:
        """Return the URL of the node's Python index."""
        return f"{self.gateway}/pypi/simple/"

    @property
    def npm(self) -> str:
        """Return the URL of the node's npm registry."""
        return f"{self.gateway}/npm/"

    def files_sent(self) -> int:
        """Return how many files the node has sent to package managers."""
        traffic = self.node.ask("status")["gateway"]
        return sum(traffic[one]["files"] for one in ("store", "peers", "origin"))

    @contextmanager
    def passes(self, files: int, *, tries: str = "") -> Iterator[None]:
        """Expect at least so many files of the node, and nobody else at the origin.

        `tries` names the one file that the tool may look for there by itself.
        """
        before, since = self.files_sent(), len(self.origin.headers)
        yield
        assert self.files_sent() - before >= files
        asked = zip(self.origin.asked[since:], self.origin.headers[since:], strict=True)
        direct = {
            path
            for path, headers in asked
            if headers.get("User-Agent", "").partition("/")[0] != NODE_AGENT
        }
        assert {path for path in direct if not tries or tries not in path} == set()

    @contextmanager
    def passes_by(self) -> Iterator[None]:
        """Expect no file of the node: the origin is asked by the tool itself."""
        before, since = self.files_sent(), len(self.origin.headers)
        yield
        assert self.files_sent() == before
        assert self.origin.askers(since) - {NODE_AGENT}

    def is_named_in(self, text: str) -> bool:
        """Tell whether a lockfile's text has the node's address."""
        return self.gateway.removeprefix("http://") in text


def put_packages(origin: Origin) -> None:
    """Let an origin have packages that need one another, and a crate."""
    put_npm(origin, "caravan-toy", "hello from npm", {"caravan-need": "^1.0.0"})
    put_npm(origin, "caravan-need", "needed")
    put_wheel(origin, "caravantoy", "hello", needs=("caravanneed>=1",))
    put_wheel(origin, "caravanneed", "too")
    put_crate(origin, "caravan-crate", "hello from a crate")


def upstreams(origin: Origin) -> dict[str, str]:
    """Return the settings of a node whose upstreams are all at `origin`."""
    return {
        "CARAVAN_UPSTREAM_PYPI": f"{origin.url}/simple",
        "CARAVAN_UPSTREAM_PYPI_SHARE": "true",
        "CARAVAN_UPSTREAM_NPM": f"{origin.url}/npm/",
        "CARAVAN_UPSTREAM_NPM_SHARE": "true",
        "CARAVAN_UPSTREAM_CARGO": f"sparse+{origin.url}/index/",
        "CARAVAN_UPSTREAM_CARGO_SHARE": "true",
    }


@contextmanager
def foreign_place(folder: Path) -> Iterator[Place]:
    """Start an origin with made packages, and a node."""
    with caravan_in(folder) as caravan, Origin() as origin:
        put_packages(origin)
        yield Place(caravan.join("a", **upstreams(origin)), origin)


def connect(place: Place, folder: Path, tool: str, *options: str) -> dict[str, Any]:
    """Run `caravan connect` for the user whose home is below `folder`."""
    arguments = ["--home", place.node.home, "--json", "connect", tool, *options]
    environment = {**own_home(folder), "PYTHONPATH": str(Path.cwd())}
    said = must(run_client([*CARAVAN, *arguments], folder, environment))
    return dict(json.loads(said))


def in_home(
    folder: Path, environment: Mapping[str, str], program: str, *arguments: str | Path
) -> subprocess.CompletedProcess[str]:
    """Run a client in `folder` with a home and caches of its own there."""
    command = [need(program), *arguments]
    return run_client(command, folder, {**own_home(folder), **environment})
