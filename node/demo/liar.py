"""A peer that lies: it offers a file by its right digest and sends wrong bytes of it.

It is made of the public parts of `dht` and `transfer`, with one of them bent: its store
hands files out without checking them. Run as a process of its own it prints one line
of JSON when it is ready, and stops at SIGTERM:

    python -m node.demo.liar FOLDER FILE HOST:PORT
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from dht import Address, Dht, Network, provider_key
from node import sockets
from transfer import Artifact, Digest, Identity, Seeder, Store

if TYPE_CHECKING:
    import threading

    from transfer.content.manifest import Manifest


class CarelessStore(Store):
    """A store that never looks at what it serves."""

    def open_checked(
        self, artifact: Artifact, stop: threading.Event | None = None
    ) -> int:
        """Open the file, whatever it holds by now."""
        del stop
        return os.open(self.path(artifact), os.O_RDONLY | os.O_CLOEXEC)

    def read_small(self, artifact: Artifact) -> bytes:
        """Return what the file holds by now."""
        return self.path(artifact).read_bytes()

    def manifest(self, artifact: Artifact) -> Manifest:
        """Return the manifest that the artifact had when this was first asked."""
        if artifact.digest not in self._manifests:
            self._manifests[artifact.digest] = super().manifest(artifact)
        return self._manifests[artifact.digest]

    @cached_property
    def _manifests(self) -> dict[Digest, Manifest]:
        return {}


def spoil(store: Store, artifact: Artifact) -> int:
    """Flip one bit in every chunk of a stored file; returns how many chunks."""
    manifest = store.manifest(artifact)
    path = store.path(artifact)
    path.chmod(0o600)
    with path.open("r+b") as file:
        for index in range(manifest.count):
            file.seek(manifest.offset(index))
            byte = file.read(1)
            file.seek(manifest.offset(index))
            file.write(bytes([byte[0] ^ 1]))
    return manifest.count


async def lie(folder: Path, file: Path, contact: Address) -> None:
    """Offer `file` with wrong bytes until SIGTERM."""
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    node_key = Ed25519PrivateKey.generate()
    network = Network()
    async with contextlib.AsyncExitStack() as stack:
        store = CarelessStore(folder)
        stack.callback(store.close)
        artifact = await asyncio.to_thread(store.add, file)
        chunks = spoil(store, artifact)
        bound = sockets.listen([Address(contact.host, 0)])
        address = sockets.bound_address(bound[0])
        dht = Dht(node_key, network=network)
        await dht.start([address])
        stack.push_async_callback(dht.close)
        seeder = Seeder(store, Identity(node_key))
        await seeder.start(bound)
        stack.push_async_callback(seeder.close)
        await dht.join([contact])
        keys = [
            provider_key(network, digest.algorithm, digest.raw)
            for digest in artifact.digests
            if digest.algorithm in ("sha256", "sha512")
        ]
        await dht.offer(keys, address.port)
        ready = {"address": str(address), "digest": str(artifact.digest)}
        print(json.dumps({**ready, "chunks": chunks}), flush=True)  # noqa: T201
        await stopped.wait()


if __name__ == "__main__":
    asyncio.run(lie(Path(sys.argv[1]), Path(sys.argv[2]), Address.parse(sys.argv[3])))
