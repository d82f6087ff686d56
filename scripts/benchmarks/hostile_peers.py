"""Large downloads among bad peers: what is wasted, and how much longer it takes.

    scripts/bench hostile-peers [--size 1024] [--runs 3] [--json]

One fifth of ten peers lie or stall; then nine of ten are tarpits, beside the honest one
alone; then most peers collude in one false manifest, in which 16 chunks are disputed.
The peers are those of the tests, on loopback, in one process.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import socket
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from scripts.benchmarks.report import Goal, Report, Row
from scripts.benchmarks.report import parser as make_parser
from tests.transfer import hostile
from transfer import Identity, Leecher, Peer, Seeder, Store

MIB = 1024 * 1024
COLLUDER = hostile.FalseManifest
DISPUTED_CHUNKS = 16
SLOWER_MAX = 2.0
NAMED_CASE = "the same, where a package file names the manifest"
CASES = {
    "honest, ten": (10, ()),
    "20 % bad: bad chunks and silence": (8, (hostile.BadChunk, hostile.SilentOnGet)),
    "20 % bad: replays and endless data": (
        8,
        (hostile.ReplayedChunk, hostile.EndlessData),
    ),
    "honest, one": (1, ()),
    "90 % tarpits: silent after the listing": (1, (hostile.SilentOnGet,) * 9),
    "90 % tarpits: silent after hello": (1, (hostile.SilentOnWant,) * 9),
    "90 % tarpits: byte by byte": (1, (hostile.ByteByByte,) * 9),
    "6 of 10 collude in a false manifest": (4, (COLLUDER,) * 6),
    NAMED_CASE: (4, (COLLUDER,) * 6),
}


class Bench:
    """Honest seeders of one store, and a fresh leecher for each run."""

    def __init__(self, folder: Path, data: bytes) -> None:
        self._folder = folder
        self._data = data
        self._store = Store(folder / "seeder")
        self._artifact = self._store.add_bytes(data)
        self._forged: hostile.Hostile | None = None

    def _bad(self, kind: type) -> hostile.Hostile:
        """Return a bad peer; colluders share one forgery, as it takes memory."""
        if kind is not COLLUDER:
            bad: hostile.Hostile = kind(self._data)
            return bad
        if self._forged is None:
            step = len(self._data) // DISPUTED_CHUNKS
            places = range(step // 2, len(self._data), step)
            self._forged = COLLUDER(self._data, places=places)
        peer = hostile.Hostile(b"")
        peer.data, peer.manifest = self._forged.data, self._forged.manifest
        return peer

    async def run(
        self, honest: int, kinds: tuple[type, ...], *, named: bool
    ) -> dict[str, float]:
        async with contextlib.AsyncExitStack() as stack:
            seeders, peers, bad_peers = [], [], []
            for kind in kinds:
                bad = await stack.enter_async_context(self._bad(kind))
                bad_peers.append(bad)
                peers.append(bad.peer)
            for _ in range(honest):
                identity = Identity(Ed25519PrivateKey.generate())
                seeder = Seeder(self._store, identity, encryption=False)
                listener = socket.create_server(("127.0.0.1", 0))
                await seeder.start([listener])
                stack.push_async_callback(seeder.close)
                port = listener.getsockname()[1]
                peers.append(Peer("127.0.0.1", port, identity.public_key))
                seeders.append(seeder)
            found = await self._fetch(peers, named=named)
            sent = sum(seeder.stats.bytes_sent for seeder in seeders)
            sent += sum(bad.bytes_sent for bad in bad_peers)
            found["waste"] = max(sent - len(self._data), 0) / len(self._data)
            return found

    async def _fetch(self, peers: list[Peer], *, named: bool) -> dict[str, float]:
        home = self._folder / "leecher"
        store = Store(home)
        identity = Identity(Ed25519PrivateKey.generate())
        leecher = Leecher(store, identity, encryption=False)
        began = time.monotonic()
        manifest = self._artifact.manifest_digest if named else None
        downloaded = await leecher.download(
            self._artifact.digest, peers, manifest_digest=manifest
        )
        seconds = time.monotonic() - began
        sound = downloaded.artifact.digest == self._artifact.digest
        await leecher.close()
        store.close()
        shutil.rmtree(home)
        return {"seconds": seconds, "sound": sound}


async def measure(size: int, runs: int, folder: Path) -> list[Row]:
    """Run all cases in turn, `runs` times; each is compared with its honest one."""
    bench = Bench(folder, os.urandom(size))
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in CASES}
    for _ in range(runs):
        for name, (honest, kinds) in CASES.items():
            named = name == NAMED_CASE
            found[name].append(await bench.run(honest, kinds, named=named))
    rows: list[Row] = []
    honest_seconds = 0.0
    for name, results in found.items():
        seconds = statistics.median(one["seconds"] for one in results)
        is_base = name.startswith("honest")
        honest_seconds = seconds if is_base else honest_seconds
        rows.append(
            Row(
                what=name,
                ours=seconds,
                unit="s",
                theirs=None if is_base else honest_seconds,
                beside="" if is_base else "honest peers alone",
                goal=Goal(SLOWER_MAX) if "tarpits" in name else None,
                more={
                    "waste %": 100 * max(one["waste"] for one in results),
                    "right": "yes" if all(one["sound"] for one in results) else "NO",
                },
            )
        )
    return rows


def main() -> None:
    parser = make_parser("hostile-peers", __doc__)
    parser.add_argument("--size", type=int, default=1024, help="in MiB")
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    report = Report("hostile-peers", options.json)
    logging.disable(logging.WARNING)  # every ban is logged
    shm = Path("/dev/shm")
    place = shm if shm.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="caravan-", dir=place) as folder:
        rows = asyncio.run(measure(options.size * MIB, options.runs, Path(folder)))
    report.section(
        f"{options.size} MiB among bad peers",
        rows,
        "Waste is what all peers sent beyond the file's size, in percent of it.",
    )
    report.end()


if __name__ == "__main__":
    main()
