"""All digests of a file in one pass, also while the next bytes are read."""

from __future__ import annotations

import os
import time

import pytest

from transfer import Digest, Manifest
from transfer.content import hashing
from transfer.content.digest import ALGORITHM_BYTES
from transfer.content.hashing import ContentsHasher, blocks
from transfer.limits import BUFFER_BYTES
from transfer.store.integrity import contents_of

DATA = os.urandom(5 * BUFFER_BYTES + 12_345)


def expected(data):
    return {name: Digest.of(data, name) for name in ALGORITHM_BYTES}


@pytest.fixture
def descriptor(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(DATA)
    opened = os.open(path, os.O_RDONLY)
    yield opened
    os.close(opened)


def test_what_is_read_in_turns_is_hashed_in_order(descriptor, monkeypatch):
    """A hash that lags behind still sees the bytes that it was given."""
    new_hash = hashing.new_hash

    class Slow:
        def __init__(self, name):
            self.state = new_hash(name)

        def update(self, data):
            time.sleep(0.01)
            self.state.update(data)

        def digest(self):
            return self.state.digest()

    monkeypatch.setattr(hashing, "new_hash", Slow)
    contents = contents_of(descriptor, len(DATA))
    assert contents.digests == expected(DATA)
    assert contents.manifest == Manifest.of(DATA)


def test_updated_bytes_may_change_at_once():
    buffer = bytearray(BUFFER_BYTES)
    with ContentsHasher(3 * len(buffer)) as hasher:
        for number in range(3):
            buffer[:] = bytes([number]) * len(buffer)
            hasher.update(buffer)
        contents = hasher.contents()
    data = b"".join(bytes([number]) * len(buffer) for number in range(3))
    assert contents.digests == expected(data)


def test_two_buffers_take_turns(descriptor):
    """So a block stays as it is until the one after the next is read."""
    before = None
    offset = 0
    for part in blocks(descriptor, len(DATA), buffers=2):
        assert bytes(part) == DATA[offset : offset + len(part)]
        if before is not None:
            assert bytes(before) == DATA[offset - len(before) : offset]
        before = part
        offset += len(part)
    assert offset == len(DATA)
