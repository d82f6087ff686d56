"""Who may read the store's files, and what is never opened as one."""

from __future__ import annotations

import os
import stat
import threading

import pytest

from transfer import Digest, Intake, Store, StoreError

DATA = b"what a private upstream gave"


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_a_private_artifact_is_readable_for_its_owner_alone(store):
    """From its first byte on, whatever way it comes."""
    private = {Digest.of(DATA), Digest.of(DATA * 2, "sha1")}
    store.committer.is_private = private.__contains__
    with Intake(store, [Digest.of(DATA)]) as intake:
        intake.write(DATA)
        (coming,) = store.partials.folder.iterdir()
        assert mode(coming) == 0o600
        artifact = intake.commit()
    assert mode(store.path(artifact)) == 0o600
    with Intake(store, [Digest.of(DATA * 2, "sha1")]) as intake:
        intake.write(DATA * 2)
        assert mode(store.path(intake.commit())) == 0o600
    public = store.add_bytes(b"public")
    assert mode(store.path(public)) & 0o044 == 0o044 & ~current_umask()


def test_an_artifact_can_become_private_and_public_again(store):
    """Without being hashed again."""
    artifact = store.add_bytes(DATA)
    hashed = []
    store.index.set_checked = lambda *what: hashed.append(what)
    store.set_private(artifact, private=True)
    assert mode(store.path(artifact)) == 0o600
    assert store.read(artifact) == DATA
    store.set_private(artifact, private=False)
    assert mode(store.path(artifact)) & 0o044 == 0o044 & ~current_umask()
    assert store.read(artifact) == DATA
    assert hashed == []


def test_an_exported_file_has_the_usual_rights(store, tmp_path):
    """Also where the store's own copy has not."""
    store.committer.is_private = lambda _: True
    artifact = store.add_bytes(DATA)
    store.export(artifact, tmp_path / "out")
    assert mode(tmp_path / "out") == 0o644 & ~current_umask()


@pytest.mark.parametrize("many", [False, True])
def test_pipes_devices_and_sockets_are_refused_at_once(tmp_path, many):
    """Nobody writes into the pipe, and opening it waits for nobody."""
    store = Store(tmp_path / "home")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    link = tmp_path / "link"
    link.symlink_to(pipe)
    refused = []

    def share():
        for path in (pipe, link, os.path.devnull, "/dev/zero", str(tmp_path)):
            if many:
                (outcome,) = store.add_many([tmp_path.__class__(path)])
                refused.append(isinstance(outcome, StoreError))
                continue
            with pytest.raises(StoreError, match="not a regular file"):
                store.add(tmp_path.__class__(path))
            refused.append(True)

    thread = threading.Thread(target=share, daemon=True)
    thread.start()
    thread.join(10)
    assert refused == [True] * 5
    store.close()


def test_many_files_are_taken_in_and_each_failure_is_its_own(store, tmp_path):
    """Small ones in groups; a large one and a missing one among them."""
    paths = []
    for number in range(150):
        path = tmp_path / f"file{number}"
        path.write_bytes(b"%d" % number if number != 70 else os.urandom(400_000))
        paths.append(path)
    paths.insert(30, tmp_path / "missing")
    seen = []
    outcomes = store.add_many(paths, lambda done, total: seen.append((done, total)))
    assert isinstance(outcomes.pop(30), StoreError)
    paths.pop(30)
    assert [store.read(one) for one in outcomes] == [p.read_bytes() for p in paths]
    assert store.count == 150
    assert store.bytes_held == sum(p.stat().st_size for p in paths)
    assert seen[-1] == (151, 151)


def current_umask() -> int:
    umask = os.umask(0o077)
    os.umask(umask)
    return umask
