"""`fetch -o` destroys nothing: links are followed, devices written through."""

from __future__ import annotations

import os
import sqlite3
import stat
import threading

import pytest

from node.content import output
from node.content.output import NamedArtifact, OutputWriter
from node.errors import NodeError
from node.model.written_files import WrittenFiles
from transfer import Store

CONTENT = b"what was fetched" * 1000


class Place:
    """A store with one artifact, and a writer."""

    def __init__(self, folder) -> None:
        self.store = Store(folder / "home")
        self.artifact = self.store.add_bytes(CONTENT)
        self.written = WrittenFiles(sqlite3.connect(":memory:", isolation_level=None))
        self.writer = OutputWriter(self.store, self.written)
        self.folder = folder / "out"
        self.folder.mkdir()

    async def into_folder(self, name="conftest.py", content=CONTENT, *, force=False):
        artifact = self.store.add_bytes(content)
        named = [NamedArtifact(artifact, name)]
        return await self.writer.write_folder(named, self.folder, force=force)


def names(folder) -> list[str]:
    return [path.name for path in folder.iterdir()]


@pytest.fixture
def place(tmp_path):
    made = Place(tmp_path)
    yield made
    made.store.close()


async def test_a_named_file_is_replaced_and_keeps_its_mode(place):
    target = place.folder / "file"
    target.write_bytes(b"old")
    target.chmod(0o600)
    await place.writer.write_file(place.artifact, target)
    assert target.read_bytes() == CONTENT
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert names(place.folder) == ["file"]


async def test_a_link_is_followed_and_stays_a_link(place):
    real, link = place.folder / "real", place.folder / "link"
    real.write_bytes(b"old")
    link.symlink_to("real")
    await place.writer.write_file(place.artifact, link)
    assert link.is_symlink()
    assert real.read_bytes() == CONTENT


async def test_a_link_to_nothing_is_refused(place):
    link = place.folder / "link"
    link.symlink_to("missing")
    with pytest.raises(NodeError, match="symbolic link"):
        await place.writer.write_file(place.artifact, link)
    assert link.is_symlink()
    assert names(place.folder) == ["link"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a device")
async def test_a_device_is_written_through_and_stays_a_device(place):
    """A device of our own, with the numbers of /dev/null."""
    device = place.folder / "null"
    try:
        os.mknod(device, 0o600 | stat.S_IFCHR, os.makedev(1, 3))
        device.open("wb").close()
    except OSError:
        pytest.skip("devices cannot be made or opened here")
    await place.writer.write_file(place.artifact, device)
    assert stat.S_ISCHR(device.stat().st_mode)
    assert device.stat().st_rdev == os.makedev(1, 3)
    link = place.folder / "link"
    link.symlink_to(device)
    await place.writer.write_file(place.artifact, link)
    assert link.is_symlink()
    assert stat.S_ISCHR(device.stat().st_mode)


async def test_a_pipe_is_written_through(place):
    pipe = place.folder / "pipe"
    os.mkfifo(pipe)
    read: list[bytes] = []
    opened = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    os.set_blocking(opened, True)

    def drain() -> None:
        while sum(map(len, read)) < len(CONTENT):
            read.append(os.read(opened, 4096))

    reader = threading.Thread(target=drain, daemon=True)
    reader.start()
    await place.writer.write_file(place.artifact, pipe)
    reader.join(5)
    os.close(opened)
    assert b"".join(read) == CONTENT
    assert stat.S_ISFIFO(pipe.stat().st_mode)


async def test_a_pipe_without_a_reader_is_one_sentence(place):
    pipe = place.folder / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(NodeError, match="pipe"):
        await place.writer.write_file(place.artifact, pipe)
    assert stat.S_ISFIFO(pipe.stat().st_mode)


async def test_a_pipe_whose_reader_sleeps_does_not_hold_up_for_ever(place, monkeypatch):
    monkeypatch.setattr(output, "STALLED_SECONDS_MAX", 0.2)
    pipe = place.folder / "pipe"
    os.mkfifo(pipe)
    opened = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    big = place.store.add_bytes(bytes(1 << 20))
    try:
        with pytest.raises(NodeError, match="took nothing"):
            await place.writer.write_file(big, pipe)
    finally:
        os.close(opened)


async def test_in_a_folder_the_users_own_file_stays(place):
    own = place.folder / "conftest.py"
    own.write_bytes(b"mine")
    with pytest.raises(NodeError, match="--force"):
        await place.into_folder()
    assert own.read_bytes() == b"mine"
    await place.into_folder(force=True)
    assert own.read_bytes() == CONTENT


async def test_the_same_file_in_a_folder_is_no_reason_to_stop(place):
    own = place.folder / "conftest.py"
    own.write_bytes(CONTENT)
    assert await place.into_folder() == [own]
    assert own.read_bytes() == CONTENT


async def test_nothing_is_written_where_one_name_is_taken(place):
    (place.folder / "b").write_bytes(b"mine")
    named = [NamedArtifact(place.artifact, name) for name in ("a", "b", "c")]
    with pytest.raises(NodeError, match="nothing was written"):
        await place.writer.write_folder(named, place.folder, force=False)
    assert names(place.folder) == ["b"]


async def test_what_fetch_wrote_is_overwritten_until_it_is_changed(place):
    (path,) = await place.into_folder()
    await place.into_folder(content=b"a new version")
    assert path.read_bytes() == b"a new version"
    path.write_bytes(b"edited")
    with pytest.raises(NodeError, match="--force"):
        await place.into_folder()
    assert path.read_bytes() == b"edited"


async def test_a_link_in_a_folder_is_not_followed_unasked(place, tmp_path):
    """A package's file name must not lead outside the folder."""
    victim = tmp_path / "victim"
    victim.write_bytes(b"mine")
    (place.folder / "conftest.py").symlink_to(victim)
    with pytest.raises(NodeError, match="--force"):
        await place.into_folder()
    assert victim.read_bytes() == b"mine"


async def test_a_file_that_appears_meanwhile_stays(place, monkeypatch):
    """Between the check and the writing somebody else may take the name."""
    target = place.folder / "file"
    export = place.store.export

    def slow_export(artifact, fresh):
        export(artifact, fresh)
        target.write_bytes(b"theirs")

    monkeypatch.setattr(place.store, "export", slow_export)
    with pytest.raises(NodeError):
        await place.into_folder("file")
    assert target.read_bytes() == b"theirs"
    assert names(place.folder) == ["file"]


async def test_two_files_of_one_name_get_two_names(place):
    other = place.store.add_bytes(b"other")
    named = [
        NamedArtifact(place.artifact, "Name"),
        NamedArtifact(other, "name"),
        NamedArtifact(place.artifact, "Name"),
    ]
    first, second, again = await place.writer.write_folder(
        named, place.folder, force=False
    )
    assert first == again
    assert {first.name, second.name} == {"Name", f"{other.digest.hex[:12]}-name"}


async def test_a_folder_where_a_file_is_expected_is_one_sentence(place):
    with pytest.raises(NodeError, match="is a folder"):
        await place.writer.write_file(place.artifact, place.folder)


async def test_a_file_where_a_folder_is_expected_is_one_sentence(place):
    place.folder.rmdir()
    place.folder.write_bytes(b"mine")
    with pytest.raises(NodeError, match="is a file; expected a folder"):
        await place.into_folder()
    assert place.folder.read_bytes() == b"mine"


@pytest.mark.parametrize("force", [False, True])
async def test_nothing_is_written_where_a_way_is_barred(place, force):
    """A file where a folder of the list is needed, a folder where its file is."""
    named = [NamedArtifact(place.artifact, name) for name in ("a", "sub/b")]
    (place.folder / "sub").write_bytes(b"mine")
    with pytest.raises(NodeError, match="Nothing was written"):
        await place.writer.write_folder(named, place.folder, force=force)
    assert names(place.folder) == ["sub"]
    (place.folder / "sub").unlink()
    (place.folder / "sub" / "b").mkdir(parents=True)
    with pytest.raises(NodeError, match="Nothing was written"):
        await place.writer.write_folder(named, place.folder, force=force)
    assert names(place.folder) == ["sub"]
