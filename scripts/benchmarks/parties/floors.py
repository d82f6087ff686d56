"""What this machine cannot do faster: hashing and writing, on one core each."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path

from blake3 import blake3

from scripts.benchmarks.report import Row

MIB = 1024 * 1024
COUNT = 256


def rows(folder: Path) -> list[Row]:
    """Return how many MB one core hashes and writes to `folder` in a second."""
    block = os.urandom(MIB)
    state = hashlib.sha256()
    target = folder / "floor"
    descriptor = os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL)
    try:
        found = {
            "SHA-256": _rate(lambda _: state.update(block)),
            "BLAKE3": _rate(lambda _: blake3(block).digest()),
            "writing a new file": _rate(
                lambda number: os.pwrite(descriptor, block, number * MIB)
            ),
        }
    finally:
        os.close(descriptor)
        target.unlink()
    return [Row(what=what, ours=rate, unit="MB/s") for what, rate in found.items()]


def _rate(work: Callable[[int], object]) -> float:
    began = time.monotonic()
    for number in range(COUNT):
        work(number)
    return COUNT * MIB / 1e6 / (time.monotonic() - began)
