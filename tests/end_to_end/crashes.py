"""Killing a node at random moments, and what must hold afterwards.

The tests do it a few times, `scripts/bench crash` as often as it is told to.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import shutil
import threading
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.end_to_end.caravan import MEBIBYTE, Caravan, random_file, wait_for_providers
from transfer import Digest, Identity, Leecher, Peer, Store, TransferError
from transfer.content.hashing import sound_chunks
from transfer.content.manifest import Manifest

KINDS = ("fetch", "share", "clean")
FILE_BYTES = 6 * MEBIBYTE
CHUNK_BYTES = 256 * 1024
CONNECTIONS_MAX = 2
UPLOAD_BYTES_PER_SECOND = 12 * MEBIBYTE


@dataclass
class Tally:
    """What happened over all rounds."""

    kills: int = 0
    resumed: int = 0
    """Downloads that had verified chunks when they were killed."""
    served: int = 0
    """Artifacts that another peer fetched from the victim after a kill."""
    corrupt: list[str] = field(default_factory=list)
    """What was listed after a kill and was not what its digest says."""
    unserved: list[str] = field(default_factory=list)
    """What was listed after a kill and could not be fetched from there, and why."""
    again_bytes_max: int = 0
    """The most verified bytes that one resumed download fetched a second time."""
    sent_again_bytes_max: int = 0
    """The most that seeders sent for one resumed download beyond its length."""


class Crashes:
    """A seeder that stays, and a victim that is killed again and again."""

    def __init__(
        self,
        caravan: Caravan,
        seed: int,
        *,
        seeders: int = 1,
        file_bytes: int = FILE_BYTES,
    ) -> None:
        self._folder = caravan.folder
        self._rng = random.Random(seed)
        self._file_bytes = file_bytes
        rate = str(UPLOAD_BYTES_PER_SECOND)
        self._seeders = [
            caravan.join(f"seeder{number}", CARAVAN_UPLOAD_BYTES_PER_SECOND=rate)
            for number in range(seeders)
        ]
        self._addresses = [seeder.address for seeder in self._seeders]
        # Now and then a kill comes after the end.
        quickest = file_bytes / (seeders * UPLOAD_BYTES_PER_SECOND)
        self._delay_seconds_max = 0.2 + 1.1 * quickest
        self._victim = caravan.node("victim")
        self._victim.join(*self._addresses)
        self._current = ""
        self.tally = Tally()

    def kill_once(self, kind: str) -> None:
        """Begin something, kill the victim in the middle, and look at what is left."""
        file, digest = random_file(
            self._folder / "payload", self._file_bytes, seed=self._rng.randrange(2**60)
        )
        self._current = digest
        command = self._prepare(kind, file, digest)
        sent = self._bytes_sent()
        call = threading.Thread(target=self._victim.run, args=command)
        call.start()
        call.join(self._rng.uniform(0.1, self._delay_seconds_max))
        self._victim.kill()
        call.join()
        self.tally.kills += 1
        sound = self._sound_bytes(digest) if kind == "fetch" else 0
        self._victim.join(*self._addresses)
        self._check_listed()
        if kind == "fetch":
            self._finish(digest, sound, sent)
            self._check_listed()
        self._victim.run("clean", "--keep-bytes", "0")

    def _prepare(self, kind: str, file: Path, digest: str) -> tuple[str, ...]:
        if kind == "share":
            return ("share", str(file))
        for sharer in self._seeders if kind == "fetch" else [self._victim]:
            answer = sharer.run("share", str(file))
            assert answer.exit_code == 0, answer.said
        if kind == "clean":
            return ("clean", "--keep-bytes", "0")
        wait_for_providers(self._victim, digest, set(self._addresses))
        return ("fetch", digest)

    def _check_listed(self) -> None:
        """Look at the bytes of everything that the node lists after its start."""
        for artifact in self._victim.ask("list")["artifacts"]:
            name = artifact["digest"].removeprefix("sha256:")
            path = self._victim.home / "store" / "sha256" / name[:2] / name
            if hashlib.sha256(path.read_bytes()).hexdigest() != name:
                self.tally.corrupt.append(name)
            if name == self._current:
                self._check_served(name)

    def _check_served(self, name: str) -> None:
        """Fetch over the wire, as any peer would, what the victim says it has."""
        host, _, port = self._victim.address.rpartition(":")
        folder = self._folder / "taker"
        try:
            data = asyncio.run(_taken(Peer(host, int(port)), name, folder))
        except TransferError as error:
            self.tally.unserved.append(f"{name}: {error}")
            return
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        self.tally.served += 1
        if hashlib.sha256(data).hexdigest() != name:
            self.tally.corrupt.append(name)

    def _bytes_sent(self) -> int:
        """Return what all seeders have sent so far."""
        found = (one.ask("status")["transfer"]["seeder"] for one in self._seeders)
        return sum(one["bytes_sent"] for one in found)

    def _sound_bytes(self, digest: str) -> int:
        """Return how much the killed download had on disk, by its manifest."""
        stem = self._victim.home / "partial" / f"sha256-{digest}"
        try:
            manifest = Manifest.decode(stem.with_suffix(".manifest").read_bytes())
            with stem.with_suffix(".data").open("rb") as data:
                sound = sound_chunks(data.fileno(), manifest)
        except (OSError, ValueError):
            return 0
        return sum(manifest.length(at) for at, one in enumerate(sound) if one)

    def _finish(self, digest: str, sound: int, sent: int) -> None:
        answer = self._victim.run("fetch", digest)
        assert answer.exit_code == 0, answer.said
        sources = answer.document["artifacts"][0]["sources"]
        fetched = sum(source["bytes"] for source in sources)
        held = Digest.parse(digest)
        assert str(held) == answer.document["artifacts"][0]["digest"]
        if sources and sound:
            self.tally.resumed += 1
            again = fetched + sound - self._file_bytes
            self.tally.again_bytes_max = max(self.tally.again_bytes_max, again)
            beyond = self._bytes_sent() - sent - self._file_bytes
            self.tally.sent_again_bytes_max = max(
                self.tally.sent_again_bytes_max, beyond
            )


async def _taken(peer: Peer, name: str, folder: Path) -> bytes:
    """Return an artifact as a stranger gets it from one peer alone."""
    store = Store(folder)
    leecher = Leecher(store, Identity(Ed25519PrivateKey.generate()))
    try:
        got = await leecher.download(Digest.parse(name), [peer])
        return store.read(got.artifact)
    finally:
        await leecher.close()
        store.close()
