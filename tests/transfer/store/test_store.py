"""The store keeps artifacts whole: through crashes, damage and full disks."""

from __future__ import annotations

import errno
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from transfer import DamagedError, Digest, NotHeldError, Store, StoreError
from transfer.content.digest import ALIAS_ALGORITHMS
from transfer.content.manifest import Manifest
from transfer.store import store as store_module
from transfer.store.fs import Fs

DATA = os.urandom(700_000)


ADVICE = {
    errno.ENOSPC: "is full; free some space and try again.",
    errno.EIO: "reports an input/output error; check the disk.",
}


class FailingFs(Fs):
    """Fails at the n-th call that changes something."""

    def __init__(self, calls: int, code: int = errno.ENOSPC) -> None:
        self.left = calls
        self.code = code

    def _step(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise OSError(self.code, os.strerror(self.code))

    def create(self, path):
        self._step()
        return super().create(path)

    def write(self, descriptor, data, offset):
        self._step()
        super().write(descriptor, data, offset)

    def sync(self, descriptor):
        self._step()
        super().sync(descriptor)

    def sync_folder(self, path):
        self._step()
        super().sync_folder(path)

    def rename(self, source, target):
        self._step()
        super().rename(source, target)

    def set_length(self, descriptor, length):
        self._step()
        super().set_length(descriptor, length)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(DATA)
    return path


def flip(store, artifact, place=1000):
    """Change one byte of a stored file behind the store's back."""
    with store.path(artifact).open("r+b") as file:
        file.seek(place)
        byte = file.read(1)
        file.seek(place)
        file.write(bytes([byte[0] ^ 1]))


def leftovers(store):
    return list(store.partials.folder.iterdir())


def test_an_added_file_is_found_by_every_digest(store, file):
    """SHA-256 is the name, the others are aliases of it."""
    seen = []
    artifact = store.add(file, lambda done, total: seen.append((done, total)))
    assert artifact.digest == Digest.of(DATA)
    assert artifact.manifest_digest == Manifest.of(DATA).digest
    assert set(artifact.aliases) == set(ALIAS_ALGORITHMS)
    for alias in artifact.digests:
        assert store.find(alias) == artifact
        assert alias == Digest.of(DATA, alias.algorithm)
    assert store.artifacts() == [artifact]
    assert store.bytes_held == len(DATA)
    assert store.read(artifact) == DATA
    assert store.manifest(artifact) == Manifest.of(DATA)
    assert seen[-1] == (len(DATA), len(DATA))
    assert not leftovers(store)


def test_later_changes_of_the_file_do_not_matter(store, file):
    """The store has a copy of its own."""
    artifact = store.add(file)
    file.write_bytes(b"changed")
    assert store.read(artifact) == DATA


def test_the_same_content_twice_is_one_artifact(store, file):
    """Also where it comes by different ways."""
    first = store.add(file)
    assert store.add(file) == first
    assert store.add_bytes(DATA) == first
    assert store.artifacts() == [first]
    assert not leftovers(store)


@pytest.mark.parametrize("data", [b"", b"x", bytes(256 * 1024), bytes(1_100_000)])
def test_any_size_is_kept(store, data):
    """Empty files too."""
    artifact = store.add_bytes(data)
    assert store.read(artifact) == data
    assert store.check(artifact.digest)


def test_a_store_that_is_opened_again_holds_the_same(tmp_path, file):
    """Rows and files outlive the process."""
    store = Store(tmp_path / "home")
    artifact = store.add(file)
    store.close()
    store.close()
    again = Store(tmp_path / "home")
    assert again.artifacts() == [artifact]
    assert again.read(artifact) == DATA
    again.close()


def test_export_replaces_the_target_at_once(store, file, tmp_path):
    """A reader sees the old or the new file, never half of one."""
    artifact = store.add(file)
    target = tmp_path / "out" / "target"
    target.parent.mkdir()
    target.write_bytes(b"old")
    store.export(artifact, target)
    assert target.read_bytes() == DATA
    assert [entry.name for entry in target.parent.iterdir()] == ["target"]
    with pytest.raises(StoreError, match="does not exist"):
        store.export(artifact, tmp_path / "none" / "target")


def test_a_removed_artifact_is_gone_but_open_files_live(store, file):
    """Whoever reads it goes on reading."""
    artifact = store.add(file)
    descriptor = store.open_checked(artifact)
    store.remove(artifact.aliases["sha1"])
    assert os.pread(descriptor, len(DATA), 0) == DATA
    os.close(descriptor)
    assert store.find(artifact.digest) is None
    assert not store.path(artifact).exists()
    with pytest.raises(NotHeldError):
        store.remove(artifact.digest)
    assert store.add(file) == store.find(artifact.digest)


def test_damage_is_found_and_set_aside(store, file):
    """A check hashes everything; the artifact is no longer listed."""
    told = []
    store.on_quarantine = told.append
    artifact = store.add(file)
    assert store.check(artifact.digest)
    flip(store, artifact)
    assert not store.check(artifact.digest)
    assert store.artifacts() == []
    assert told == [artifact]
    aside = list((store.folder / "quarantine").iterdir())
    assert [entry.name[:64] for entry in aside] == [artifact.digest.hex]
    assert store.read(store.add(file)) == DATA


@pytest.mark.parametrize("use", ["open_checked", "read", "export"])
def test_a_changed_file_is_checked_before_it_is_used(store, file, tmp_path, use):
    """Other times or another size betray most changes."""
    artifact = store.add(file)
    flip(store, artifact)
    further = [tmp_path / "out"] if use == "export" else []
    with pytest.raises(DamagedError):
        getattr(store, use)(artifact, *further)
    assert store.find(artifact.digest) is None


def test_a_good_copy_that_took_the_name_is_not_set_aside(store, file):
    """The damaged one was removed, and fetched again, while it was hashed."""
    told = []
    store.on_quarantine = told.append
    artifact = store.add(file)
    flip(store, artifact)
    with store.path(artifact).open("rb") as damaged:
        store.remove(artifact.digest)
        store.quarantine(artifact, damaged.fileno())
        again = store.add(file)
        store.quarantine(artifact, damaged.fileno())
    assert store.read(again) == DATA
    assert told == []


def test_after_a_restart_everything_is_checked_once(tmp_path, file):
    """What was damaged while no node ran is found before it is served."""
    store = Store(tmp_path / "home")
    artifact = store.add(file)
    status = store.path(artifact).stat()
    flip(store, artifact)
    os.utime(store.path(artifact), ns=(status.st_atime_ns, status.st_mtime_ns))
    store.close()
    again = Store(tmp_path / "home")
    with pytest.raises(DamagedError):
        again.open_checked(artifact)
    again.close()


def test_a_row_without_a_file_is_dropped(tmp_path, file):
    """Somebody removed the file by hand."""
    store = Store(tmp_path / "home")
    artifact = store.add(file)
    store.path(artifact).unlink()
    with pytest.raises(NotHeldError):
        store.open_checked(artifact)
    assert store.find(artifact.digest) is None
    artifact = store.add(file)
    store.close()
    store.path(artifact).unlink()
    again = Store(tmp_path / "home")
    assert again.artifacts() == []
    again.close()


def test_a_file_without_a_row_is_verified_and_kept(tmp_path, file):
    """A crash came between the renaming and the row."""
    store = Store(tmp_path / "home")
    good, bad = store.add(file), store.add_bytes(b"other")
    for artifact in (good, bad):
        store.index.delete(artifact.digest)
    store.close()
    store.path(bad).write_bytes(b"damaged")
    again = Store(tmp_path / "home")
    assert [artifact.digest for artifact in again.artifacts()] == [good.digest]
    assert again.read(again.artifacts()[0]) == DATA
    assert not again.path(bad).exists()
    assert not leftovers(again)
    again.close()


def test_unfinished_copies_are_removed(tmp_path):
    """They were never verified."""
    folder = tmp_path / "home" / "partial"
    folder.mkdir(parents=True)
    (folder / "add-1234.new").write_bytes(b"half")
    store = Store(tmp_path / "home")
    assert not leftovers(store)
    store.close()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("calls", range(1, 8))
def test_a_failing_disk_leaves_the_store_as_it_was(tmp_path, file, calls, code):
    """Whichever call fails, nothing is listed and one sentence says why."""
    Store(tmp_path / "home").close()
    fs = FailingFs(calls, code)
    store = Store(tmp_path / "home", fs=fs)
    try:
        artifact = store.add(file)
    except StoreError as error:
        told = str(error)
        assert told.endswith(ADVICE[code])
        assert store.artifacts() == []
    else:
        assert fs.left > 0
        assert store.read(artifact) == DATA
    finally:
        store.close()
    again = Store(tmp_path / "home")
    for artifact in again.artifacts():
        assert again.read(artifact) == DATA
    assert not leftovers(again)
    again.close()


def test_what_is_no_file_is_refused(store, tmp_path):
    """One sentence each."""
    with pytest.raises(StoreError, match="not a regular file"):
        store.add(tmp_path)
    with pytest.raises(StoreError, match="does not exist"):
        store.add(tmp_path / "none")


def test_aliases_are_computed_when_they_are_asked_for(store):
    """A download commits before it knows them."""
    from transfer.content.hashing import Contents

    name = Digest.of(DATA)
    contents = Contents({"sha256": name}, Manifest.of(DATA))
    told = []
    store.on_aliases = told.append
    assert store.add_verified(DATA, contents).aliases == {}
    assert store.lacking_aliases() == [name]
    artifact = store.with_aliases(name)
    assert set(artifact.aliases) == set(ALIAS_ALGORITHMS)
    assert told == [artifact]
    assert store.lacking_aliases() == []
    assert store.find(Digest.of(DATA, "md5")) == artifact


def test_what_was_not_checked_for_a_week_is_due(tmp_path):
    """And not before."""
    now = [1000.0]
    store = Store(tmp_path / "home", clock=lambda: now[0])
    artifact = store.add_bytes(DATA)
    now[0] += 6 * 24 * 3600
    assert store.due_for_check() is None
    now[0] += 2 * 24 * 3600
    assert store.due_for_check() == artifact.digest
    assert store.check(artifact.digest)
    assert store.due_for_check() is None
    store.close()


def test_many_threads_add_the_same_and_others(store):
    """One artifact for one content, whoever comes first."""
    contents = [bytes([number]) * 5000 for number in range(4)] * 6
    adding = [
        threading.Thread(target=store.add_bytes, args=(data,)) for data in contents
    ]
    for thread in adding:
        thread.start()
    for thread in adding:
        thread.join()
    assert {a.digest for a in store.artifacts()} == set(map(Digest.of, contents))
    assert len(store.artifacts()) == 4
    assert not leftovers(store)


def test_a_pending_alias_is_computed_when_it_is_asked_for(store, file):
    """And only for those artifacts whose digest of that kind is not known."""
    artifact = store.add(file, algorithms=["sha256"])
    other = store.add_bytes(b"complete")
    assert artifact.aliases == {}
    alias = Digest.of_file(file, "md5")
    assert store.find(alias) is None
    found = store.find_pending(alias)
    assert found == artifact
    assert found.has_all_aliases
    assert store.find(alias) == artifact
    assert store.find_pending(Digest("md5", bytes(16))) is None
    assert store.find(other.aliases["md5"]) == other


def test_an_alias_that_cannot_be_noted_is_no_error(store, file, monkeypatch):
    """On a full disk what is asked for is not held, as far as can be told."""
    store.add(file, algorithms=("sha256",))

    def refuse(_aliases):
        raise StoreError("The catalogue failed: database or disk is full.")

    monkeypatch.setattr(store.index, "set_aliases", refuse)
    assert store.find_pending(Digest("sha512", bytes(64))) is None


def test_many_threads_that_want_aliases_hash_once(store, file, monkeypatch):
    artifact = store.add(file, algorithms=["sha256"])
    hashed = []
    compute = store_module.digests_of

    def slowly(*args, **options):
        hashed.append(1)
        return compute(*args, **options)

    monkeypatch.setattr(store_module, "digests_of", slowly)
    with ThreadPoolExecutor(8) as threads:
        done = list(threads.map(store.with_aliases, [artifact.digest] * 8))
    assert all(one.has_all_aliases for one in done)
    assert hashed == [1]


async def test_what_was_found_is_remembered_until_something_is_deleted(
    store, monkeypatch
):
    held, other = store.add_bytes(b"held"), store.add_bytes(b"other")
    assert await store.find_soon(held.digest) == held
    reads = []
    find = store.index.find
    monkeypatch.setattr(
        store.index, "find", lambda digest: reads.append(digest) or find(digest)
    )
    assert await store.find_soon(held.digest) == held
    assert reads == []
    store.remove(other.digest)
    reads.clear()
    assert await store.find_soon(other.digest) is None
    assert await store.find_soon(held.digest) == held
    assert reads == [other.digest, held.digest]


async def test_what_is_deleted_while_it_is_looked_for_is_not_remembered(
    store, monkeypatch
):
    held = store.add_bytes(b"held")
    find = store.index.find

    def find_and_lose(digest):
        monkeypatch.setattr(store.index, "find", find)
        found = find(digest)
        store.remove(digest)
        return found

    monkeypatch.setattr(store.index, "find", find_and_lose)
    assert await store.find_soon(held.digest) == held
    assert await store.find_soon(held.digest) is None


async def test_what_was_found_is_bounded(store, monkeypatch):
    monkeypatch.setattr("transfer.store.store.FOUND_MAX", 3)
    for number in range(10):
        await store.find_soon(store.add_bytes(bytes([number])).digest)
    assert len(store._found) <= 3


def test_only_the_newest_checks_are_remembered(tmp_path, monkeypatch):
    """What was checked long ago is hashed once more before it is sent."""
    monkeypatch.setattr("transfer.store.commit.SIGNATURES_MAX", 3)
    with Store(tmp_path) as store:
        held = [store.add_bytes(b"%d" % number) for number in range(9)]
        assert len(store.committer._signatures) == 3
        for one in held:
            os.close(store.open_checked(one))
        assert len(store.committer._signatures) == 3
        path = store.path(held[0])
        path.chmod(0o600)
        path.write_bytes(b"x")
        with pytest.raises(DamagedError):
            store.open_checked(held[0])


def test_pages_hold_everything_once(tmp_path):
    """In the order of their names."""
    with Store(tmp_path) as store:
        held = {store.add_bytes(b"%d" % number).digest.raw for number in range(10)}
        found, after = [], b""
        while page := store.page(after, 3):
            found += [one.digest.raw for one in page]
            after = found[-1]
        assert found == sorted(held)
        shelves = [store.index.names_on(shelf) for shelf in range(256)]
        assert set().union(*shelves) == held
