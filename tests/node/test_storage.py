"""How much the store keeps where nobody set a bound."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from node import storage

GIB = 1 << 30


@pytest.mark.parametrize(
    ("total", "free", "held", "bound"),
    [
        (100 * GIB, 90 * GIB, 0, 80 * GIB),
        (100 * GIB, 50 * GIB, 10 * GIB, 58 * GIB),
        (100 * GIB, 1 * GIB, 10 * GIB, 10 * GIB),
        (10 * GIB, 5 * GIB, 0, 4 * GIB),
        (GIB, 0, 0, 1),
    ],
)
def test_four_fifths_of_the_disk_and_some_stays_free(
    tmp_path, monkeypatch, total, free, held, bound
):
    """Full disks evict nothing by themselves: what is held stays."""
    disk = SimpleNamespace(total=total, free=free)
    monkeypatch.setattr(storage.shutil, "disk_usage", lambda _: disk)
    assert storage.default_store_bytes(tmp_path, held) == bound
