"""Killing a node at random moments, and what must hold afterwards.

The tests do it a few times, `scripts/bench crash` as often as it is told to.
"""

from __future__ import annotations

import hashlib
import random
import threading
from dataclasses import dataclass, field
from pathlib import Path

from tests.end_to_end.caravan import MEBIBYTE, Caravan, random_file, wait_for_providers
from transfer import Digest
from transfer.hashing import sound_chunks
from transfer.manifest import Manifest

KINDS = ("fetch", "share", "clean")
FILE_BYTES = 6 * MEBIBYTE
CHUNK_BYTES = 256 * 1024
CONNECTIONS_MAX = 2
DELAY_SECONDS_MAX = 0.7
UPLOAD_BYTES_PER_SECOND = 12 * MEBIBYTE


@dataclass
class Tally:
    """What happened over all rounds."""

    kills: int = 0
    resumed: int = 0
    """Downloads that had verified chunks when they were killed."""
    corrupt: list[str] = field(default_factory=list)
    again_bytes_max: int = 0
    """The most bytes that one resumed download fetched a second time."""


class Crashes:
    """A seeder that stays, and a victim that is killed again and again."""

    def __init__(self, caravan: Caravan, seed: int) -> None:
        self._folder = caravan.folder
        self._rng = random.Random(seed)
        self._seeder = caravan.join(
            "seeder", CARAVAN_UPLOAD_BYTES_PER_SECOND=str(UPLOAD_BYTES_PER_SECOND)
        )
        self._victim = caravan.node("victim")
        self._victim.join(self._seeder.address)
        self._rounds = 0
        self.tally = Tally()

    def kill_once(self, kind: str) -> None:
        """Begin something, kill the victim in the middle, and look at what is left."""
        self._rounds += 1
        file, digest = random_file(
            self._folder / "payload", FILE_BYTES, seed=self._rng.randrange(2**60)
        )
        command = self._prepare(kind, file, digest)
        call = threading.Thread(target=self._victim.run, args=command)
        call.start()
        call.join(self._rng.uniform(0.1, DELAY_SECONDS_MAX))
        self._victim.kill()
        call.join()
        self.tally.kills += 1
        sound = self._sound_bytes(digest) if kind == "fetch" else 0
        self._victim.join(self._seeder.address)
        self._check_listed()
        if kind == "fetch":
            self._finish(digest, sound)
        self._victim.run("clean", "--keep-bytes", "0")

    def _prepare(self, kind: str, file: Path, digest: str) -> tuple[str, ...]:
        if kind == "share":
            return ("share", str(file))
        sharer = self._seeder if kind == "fetch" else self._victim
        answer = sharer.run("share", str(file))
        assert answer.exit_code == 0, answer.said
        if kind == "clean":
            return ("clean", "--keep-bytes", "0")
        wait_for_providers(self._victim, digest, {self._seeder.address})
        return ("fetch", digest)

    def _check_listed(self) -> None:
        """Look at the bytes of everything that the node lists after its start."""
        for artifact in self._victim.ask("list")["artifacts"]:
            name = artifact["digest"].removeprefix("sha256:")
            path = self._victim.home / "store" / "sha256" / name[:2] / name
            if hashlib.sha256(path.read_bytes()).hexdigest() != name:
                self.tally.corrupt.append(name)

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

    def _finish(self, digest: str, sound: int) -> None:
        answer = self._victim.run("fetch", digest)
        assert answer.exit_code == 0, answer.said
        sources = answer.document["artifacts"][0]["sources"]
        fetched = sum(source["bytes"] for source in sources)
        held = Digest.parse(digest)
        assert str(held) == answer.document["artifacts"][0]["digest"]
        if sources and sound:
            self.tally.resumed += 1
            again = max(fetched + sound - FILE_BYTES, 0)
            self.tally.again_bytes_max = max(self.tally.again_bytes_max, again)
