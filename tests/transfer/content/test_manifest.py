"""Manifests follow from the bytes alone, and only the true form is read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from transfer.content.manifest import Manifest, ManifestHasher, chunk_size_of
from transfer.errors import ManifestError
from transfer.limits import ARTIFACT_BYTES_MAX, CHUNKS_MAX, KIB, MIB


@pytest.mark.parametrize(
    ("size", "chunk_size"),
    [
        (0, 256 * KIB),
        (1, 256 * KIB),
        (64 * MIB, 256 * KIB),
        (64 * MIB + 1, MIB),
        (16_384 * MIB, MIB),
        (16_384 * MIB + 1, 2 * MIB),
        (ARTIFACT_BYTES_MAX, 64 * MIB),
    ],
)
def test_the_chunk_size_follows_from_the_size(size, chunk_size):
    """256 KiB up to 64 MiB, then the least power of two with 16,384 chunks."""
    assert chunk_size_of(size) == chunk_size


@given(st.integers(0, ARTIFACT_BYTES_MAX))
def test_there_are_never_too_many_chunks(size):
    """Whatever the size, the chunks cover it exactly."""
    chunk_size = chunk_size_of(size)
    assert -(-size // chunk_size) <= CHUNKS_MAX


@pytest.mark.parametrize("size", [0, 1, 256 * KIB, 256 * KIB + 1, 700_000])
def test_a_manifest_holds_each_chunk(size):
    """Chunks are cut at fixed places and each has its own digest."""
    data = bytes(range(256)) * (size // 256 + 1)
    data = data[:size]
    manifest = Manifest.of(data)
    assert manifest.size == size
    for index in range(manifest.count):
        start = manifest.offset(index)
        part = data[start : start + manifest.length(index)]
        assert manifest.chunk(index) == blake3(part).digest()
    assert sum(map(manifest.length, range(manifest.count))) == size
    assert Manifest.decode(manifest.encode()) == manifest


@given(st.binary(max_size=2000), st.lists(st.integers(1, 400), max_size=20))
def test_a_stream_may_come_in_any_pieces(data, cuts):
    """How the bytes are handed over does not matter."""
    hasher = ManifestHasher(len(data))
    rest = data
    for cut in cuts:
        hasher.update(rest[:cut])
        rest = rest[cut:]
    hasher.update(rest)
    assert hasher.manifest() == Manifest.of(data)


def test_a_stream_of_another_size_has_no_manifest():
    """A file that changes while it is read is noticed."""
    hasher = ManifestHasher(600 * KIB)
    hasher.update(bytes(100))
    with pytest.raises(ManifestError):
        hasher.manifest()


@given(st.binary(max_size=120))
def test_garbage_is_no_manifest(data):
    """Nothing but ManifestError is raised."""
    with pytest.raises(ManifestError):
        Manifest.decode(data)


def test_a_manifest_with_another_chunk_size_is_refused():
    """The chunk size is not for the peer to choose."""
    encoded = bytearray(Manifest.of(bytes(10)).encode())
    encoded[26:30] = (512 * KIB).to_bytes(4, "big")
    with pytest.raises(ManifestError):
        Manifest.decode(bytes(encoded))


def test_golden_manifest():
    """The encoding and its digest never change."""
    path = Path(__file__).parents[2] / "vectors" / "transfer_frames.json"
    vector = json.loads(path.read_text())["manifest"]
    manifest = Manifest.of(bytes(300_000))
    assert manifest.encode().hex() == vector["encoded"]
    assert manifest.digest.hex() == vector["digest"]
