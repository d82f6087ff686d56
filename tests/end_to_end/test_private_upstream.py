"""What a stranger can learn of the files of a private upstream: nothing.

One node fetches a file through its gateway. A stranger that is its only contact hears
every datagram of it, asks it for the file in every way there is, and reads its doors.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import socket
from typing import Any
from urllib.parse import urljoin

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from dht import Address, Dht, Network, provider_key
from node.demo.processes import NodeProcess
from tests.end_to_end.caravan import Caravan
from tests.end_to_end.clients import get
from tests.end_to_end.origin import Origin
from tests.end_to_end.packages import put_wheel
from transfer import Digest, Identity
from transfer.connection import wire
from transfer.connection.handshake import Terms, greet_seeder

pytestmark = [pytest.mark.full, pytest.mark.timeout(120)]

HEARD_SECONDS = 4.0


def names_of(data: bytes) -> dict[str, bytes]:
    """Return the digests of a file by their algorithms."""
    return {
        "sha256": hashlib.sha256(data).digest(),
        "sha512": hashlib.sha512(data).digest(),
        "blake2b-256": hashlib.blake2b(data, digest_size=32).digest(),
    }


def start(caravan: Caravan, origin: Origin, name: str, *, shared: bool) -> NodeProcess:
    node = caravan.node(name, CARAVAN_LAN="off", CARAVAN_PORT_MAPPING="off")
    node.home.mkdir(parents=True)
    (node.home / "config.toml").write_text(
        f'[upstreams]\npypi = {{url = "{origin.url}/simple", share = '
        f"{str(shared).lower()}}}\n"
    )
    node.start("--serve", "127.0.0.1:0")
    node.wait_ready()
    return node


async def heard_of(node: NodeProcess, data: bytes) -> tuple[list[bytes], list[str]]:
    """Return the datagrams that a stranger gets, and its answers, by frame name."""
    dht = Dht(Ed25519PrivateKey.generate())
    await dht.start([Address("127.0.0.1", 0)])
    heard: list[bytes] = []
    transport: Any = dht
    transport = transport._running.transport
    take = transport._on_datagram

    def listen(datagram: bytes, source: Address) -> None:
        heard.append(datagram)
        take(datagram, source)

    transport._on_datagram = listen
    try:
        await dht.join([Address.parse(node.address)])
        base = f"http://{node.ready['web']}"
        status, page = await asyncio.to_thread(get, f"{base}/pypi/simple/secret/")
        assert status == 200
        path = page.decode().partition('href="')[2].partition("#")[0]
        file = urljoin(f"{base}/pypi/simple/secret/", path)
        status, body = await asyncio.to_thread(get, file)
        assert (status, body) == (200, data)
        await asyncio.sleep(HEARD_SECONDS)
        return heard, [await asked(node, name) for name in questions(data)]
    finally:
        await dht.close()


def questions(data: bytes) -> list[wire.Message]:
    made: list[wire.Message] = []
    for algorithm, name in names_of(data).items():
        made += [
            wire.Want(0, algorithm, name, b"", 0),
            wire.Ask(0, algorithm, name, 65_536),
            wire.NameOf(0, algorithm, name),
            wire.Follow(0, algorithm, name, 0),
        ]
    return made


async def asked(node: NodeProcess, message: wire.Message) -> str:
    """Ask as a stranger on a transfer connection; return the frame that comes."""
    reader = await connected(node)
    try:
        await reader.write(wire.encode(message))
        async with asyncio.timeout(10):
            answer = await reader.read_frame()
    finally:
        reader.close()
    if isinstance(answer, wire.Named):
        return f"Named {answer.name}".strip()
    return type(answer).__name__


async def connected(node: NodeProcess) -> Any:
    host, _, port = node.address.rpartition(":")
    sock = socket.socket()
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, (host, int(port)))
    terms = Terms(Identity(Ed25519PrivateKey.generate()))
    return await greet_seeder(sock, terms, None, tls=True)


@pytest.mark.parametrize("shared", [False, True], ids=["private", "shared"])
def test_a_stranger_learns_nothing(
    caravan: Caravan, origin: Origin, shared: bool
) -> None:
    """Where the upstream shares, the same questions are answered: they are right."""
    data = put_wheel(origin, "secret", secrets.token_hex(32))
    node = start(caravan, origin, "node", shared=shared)
    heard, answers = asyncio.run(heard_of(node, data))
    raws = names_of(data)
    signs = [*raws.values()]
    signs += [provider_key(Network(), each, raw)[:8] for each, raw in raws.items()]
    traces = [sign for sign in signs if any(sign in each for each in heard)]
    assert heard
    metrics = get(f"http://{node.ready['web']}/metrics")[1]
    name = Digest.parse(raws["sha256"].hex())
    assert b"secret" not in metrics
    assert name.hex.encode() not in metrics
    if shared:
        assert traces
        assert "Named" in " ".join(answers)
        return
    assert traces == []
    assert set(answers) <= {"Absent", "Named"}
