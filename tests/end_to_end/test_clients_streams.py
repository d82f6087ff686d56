"""Large files on their way through a node, from peers that are slow or lie."""

from __future__ import annotations

import contextlib
import http.client
from collections.abc import Iterator
from pathlib import Path

import pytest

from node.demo.processes import NodeProcess
from tests.end_to_end.caravan import (
    MEBIBYTE,
    Caravan,
    held_digests,
    random_file,
    wait_for_providers,
)

pytestmark = pytest.mark.timeout(120)


@contextlib.contextmanager
def asked(node: NodeProcess, path: str) -> Iterator[http.client.HTTPResponse]:
    """Ask a node's gateway, and close the connection in the end."""
    connection = http.client.HTTPConnection(str(node.ready["web"]), timeout=60)
    with contextlib.closing(connection):
        connection.request("GET", path)
        with connection.getresponse() as answer:
            yield answer


def test_a_large_file_of_a_slow_peer_begins_to_arrive_at_once(
    caravan: Caravan, tmp_path: Path
) -> None:
    """Chunk by chunk, long before the whole is here; and it is right."""
    file, digest = random_file(tmp_path / "large.bin", 16 * MEBIBYTE)
    slow = {"CARAVAN_UPLOAD_BYTES_PER_SECOND": "4000000"}
    seeder = caravan.join("seeder", **slow)
    reader = caravan.join("reader", seeder.address, CARAVAN_UPSTREAM_PYPI="none")
    seeder.ask("share", str(file))
    wait_for_providers(reader, f"sha256:{digest}", {seeder.address})
    with asked(reader, f"/blob/sha256/{digest}") as answer:
        first = answer.read(100_000)
        assert f"sha256:{digest}" not in held_digests(reader)
        assert first + answer.read() == file.read_bytes()
    assert f"sha256:{digest}" in held_digests(reader)


def test_a_large_file_of_a_liar_never_arrives_whole(
    caravan: Caravan, tmp_path: Path
) -> None:
    file, digest = random_file(tmp_path / "large.bin", 6 * MEBIBYTE)
    reader = caravan.join("reader", CARAVAN_UPSTREAM_PYPI="none")
    liar = caravan.liar("liar", file, reader.address)
    wait_for_providers(reader, f"sha256:{digest}", {liar.address})
    with asked(reader, f"/blob/sha256/{digest}") as answer:
        if answer.status == 200:
            with pytest.raises(http.client.IncompleteRead):
                answer.read()
        else:
            assert answer.status == 404
    assert f"sha256:{digest}" not in held_digests(reader)
