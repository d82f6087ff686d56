"""What comes from an origin enters the store verified, or not at all."""

from __future__ import annotations

import random

import pytest

from transfer import Digest, Intake, Manifest, Store, WrongBytesError

DATA = random.Random(1).randbytes(3_000_000)


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path)
    yield store
    store.close()


@pytest.mark.parametrize("size", [len(DATA), None], ids=["known", "unknown"])
@pytest.mark.parametrize("algorithm", ["sha256", "sha512", "md5"])
def test_what_is_right_becomes_an_artifact(store, size, algorithm):
    expected = Digest.of(DATA, algorithm)
    with Intake(store, [expected], size) as intake:
        for start in range(0, len(DATA), 700_000):
            intake.write(DATA[start : start + 700_000])
        assert store.artifacts() == []
        assert intake.verify() == Digest.of(DATA)
        artifact = intake.commit()
    assert store.read(artifact) == DATA
    assert artifact.manifest_digest == Manifest.of(DATA).digest
    assert store.find(expected) == artifact


@pytest.mark.parametrize("size", [len(DATA), None], ids=["known", "unknown"])
@pytest.mark.parametrize("data", [DATA[:-1] + b"!", DATA[:-1]], ids=["wrong", "short"])
def test_what_is_wrong_leaves_nothing(store, tmp_path, size, data):
    with Intake(store, [Digest.of(DATA)], size) as intake:
        intake.write(data)
        with pytest.raises(WrongBytesError):
            intake.commit()
    assert store.artifacts() == []
    assert list((tmp_path / "partial").iterdir()) == []


def test_every_digest_that_was_named_must_hold(store):
    with Intake(store, [Digest.of(DATA), Digest.of(b"", "md5")], len(DATA)) as intake:
        intake.write(DATA)
        with pytest.raises(WrongBytesError):
            intake.commit()


def test_more_than_was_said_is_refused_at_once(store):
    with Intake(store, [Digest.of(b"abc")], 3) as intake:
        intake.write(b"ab")
        with pytest.raises(WrongBytesError):
            intake.write(b"cd")


def test_something_must_be_expected(store):
    with pytest.raises(ValueError, match="digest"):
        Intake(store, [])
