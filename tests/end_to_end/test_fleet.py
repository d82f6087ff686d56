"""The nodes of a site ask the origin once for all of them."""

from __future__ import annotations

import hashlib
import random
import signal
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler

import pytest

from node.demo.processes import NodeProcess, run_caravan, wait_until
from tests.end_to_end.caravan import Caravan, wait_for_contacts
from tests.end_to_end.origin import Origin

SIZE = 600_000


class SlowOrigin(Origin):
    """An origin whose files come in pieces, at a pace, and that counts the bytes."""

    pieces_per_second = 20.0
    piece_bytes = 64 * 1024

    def __init__(self) -> None:
        super().__init__()
        self.sent: dict[str, int] = {}

    def write(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        path = handler.path
        for at in range(0, len(body), self.piece_bytes):
            piece = body[at : at + self.piece_bytes]
            self.sent[path] = self.sent.get(path, 0) + len(piece)
            super().write(handler, piece)
            if path.startswith("/files/"):
                time.sleep(1 / self.pieces_per_second)


@pytest.fixture
def origin() -> Iterator[SlowOrigin]:
    with SlowOrigin() as origin:
        yield origin


def put(origin: Origin, name: str = "packed", size: int = SIZE) -> tuple[str, bytes]:
    """Serve a file that an index names; return its path at a node, and its bytes."""
    data = random.Random(name).randbytes(size)
    digest = hashlib.sha256(data).hexdigest()
    file = f"{name}-1.0-py3-none-any.whl"
    origin.put(f"/files/{file}", data)
    link = f'<a href="/files/{file}#sha256={digest}">{file}</a>'
    origin.put(f"/simple/{name}/", link.encode(), "text/html")
    return f"/pypi/files/sha256/{digest}/{file}", data


def fleet(
    caravan: Caravan, origin: Origin, count: int, *, private: bool = True
) -> list[NodeProcess]:
    """Start nodes that know one another and ask this origin."""
    options: list[str] = []
    if private:
        node = caravan.node("keys")
        run_caravan(
            "network", "new", "lab", environment={"CARAVAN_HOME": str(node.home)}
        )
        secret = node.home / "networks" / "lab.secret"
        options = ["--network", "lab", "--secret-file", str(secret)]
    environment = {
        "CARAVAN_UPSTREAM_PYPI": f"{origin.url}/simple",
        "CARAVAN_UPSTREAM_PYPI_SHARE": "true",
        "CARAVAN_LAN": "false",
    }
    nodes = [caravan.node(f"node{n}", **environment) for n in range(count)]
    for number, node in enumerate(nodes):
        node.start(*([nodes[0].address] if number else []), *options)
        if not number:
            node.wait_ready()
    for node in nodes:
        node.wait_ready()
    wait_for_contacts(nodes, count - 1)
    return nodes


def get(node: NodeProcess, path: str) -> bytes:
    with urllib.request.urlopen(f"http://{node.ready['web']}{path}", timeout=40) as it:
        body: bytes = it.read()
        return body


def at_once(nodes: list[NodeProcess], path: str) -> list[bytes]:
    with ThreadPoolExecutor(len(nodes)) as pool:
        return list(pool.map(lambda node: get(node, path), nodes))


@pytest.mark.parametrize("private", [True, pytest.param(False, marks=pytest.mark.full)])
def test_nodes_that_want_a_file_at_once_bring_one_copy(
    caravan: Caravan, origin: SlowOrigin, private: bool
) -> None:
    """In a private network, and among the nodes of one machine."""
    path, data = put(origin)
    nodes = fleet(caravan, origin, 3, private=private)
    at_once(nodes, "/pypi/simple/packed/")
    # No digest vouches for a page: only members of a private network pass it on.
    assert origin.asked_for("/simple/") == (1 if private else 3)
    assert at_once(nodes, path) == [data] * 3
    assert sum(n for at, n in origin.sent.items() if "/files/" in at) == len(data)


@pytest.mark.full
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_holder_that_dies_or_stalls_half_way_is_replaced(
    caravan: Caravan, origin: SlowOrigin, number: signal.Signals
) -> None:
    """The next one goes on, and all is there about as soon."""
    path, data = put(origin, size=2_500_000)
    nodes = fleet(caravan, origin, 3)
    at_once(nodes, "/pypi/simple/packed/")
    alone = len(data) / origin.piece_bytes / origin.pieces_per_second
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(get, nodes[0], path)
        wait_until(lambda: origin.asked_for("/files/") or None, 10, "the origin")
        began = time.monotonic()
        others = [pool.submit(get, node, path) for node in nodes[1:]]
        time.sleep(alone / 2)
        nodes[0].signal(number)
        assert [one.result() for one in others] == [data, data]
        took = time.monotonic() - began
        nodes[0].kill()
        assert first.exception() is not None
    sent = sum(n for at, n in origin.sent.items() if "/files/" in at)
    assert sent <= 2 * len(data)
    # This origin knows no ranges, so the half that was there is sent once more.
    assert took <= 1.5 * alone + 2.5
