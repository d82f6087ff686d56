"""Many files by one command: their peers are asked for all, without a search each."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from node.commands import FetchCommand, ShareCommand
from node.errors import NodeError
from tests.node.running import running
from transfer import Digest


def new_files(folder, count, size=1000):
    folder.mkdir()
    paths = [folder / f"file{number}" for number in range(count)]
    for path in paths:
        path.write_bytes(os.urandom(size))
    return [str(path) for path in paths]


def same(one, other):
    return Path(one).read_bytes() == Path(other).read_bytes()


def count_searches(node, monkeypatch):
    """Return the digests that are searched for from now on."""
    searched = []
    router, search = node.parts.content.router, node.parts.content.router.peers

    def counted(digest, *more):
        searched.append(digest)
        return search(digest, *more)

    monkeypatch.setattr(router, "peers", counted)
    return searched


async def test_one_search_finds_who_has_them_all(tmp_path, monkeypatch):
    """Each keeps its source, its name and its place in the answer."""
    files = new_files(tmp_path / "files", 80)
    async with (
        running(tmp_path / "giver") as giver,
        running(tmp_path / "taker", giver) as taker,
    ):
        shared = (await giver.run(ShareCommand(files=files))).artifacts
        searched = count_searches(taker, monkeypatch)
        targets = [one.digest for one in shared]
        output = tmp_path / "out"
        found = await taker.run(FetchCommand(targets=targets, output=f"{output}/"))
        assert len(searched) == 1
        assert [one.digest for one in found.artifacts] == targets
        assert [one.file for one in found.artifacts] == [
            file.rpartition("/")[2] for file in files
        ]
        for file, one in zip(files, found.artifacts, strict=True):
            (source,) = one.sources
            assert (source.address, source.bytes) == (str(giver.address), 1000)
            assert same(file, one.path)
        assert taker.layers.storage.catalogue.directs() == set(targets)
        again = await taker.run(FetchCommand(targets=targets))
        assert len(searched) == 1
        assert all(one.sources == [] for one in again.artifacts)


async def test_what_its_peers_lack_is_searched_for(tmp_path, monkeypatch):
    """Large files, and those of another peer, come as by a command of their own."""
    files = new_files(tmp_path / "files", 20)
    others = new_files(tmp_path / "others", 3)
    large = new_files(tmp_path / "large", 1, size=600_000)
    async with (
        running(tmp_path / "giver") as giver,
        running(tmp_path / "other", giver) as other,
        running(tmp_path / "taker", giver) as taker,
    ):
        shared = (await giver.run(ShareCommand(files=files + large))).artifacts
        theirs = (await other.run(ShareCommand(files=others))).artifacts
        searched = count_searches(taker, monkeypatch)
        targets = [one.digest for one in shared + theirs]
        found = await taker.run(FetchCommand(targets=targets))
        assert [one.digest for one in found.artifacts] == targets
        assert set(searched[1:]) == {
            Digest.parse(one.digest) for one in [shared[-1], *theirs]
        }
        assert {one.sources[0].address for one in found.artifacts[-3:]} == {
            str(other.address)
        }


async def test_large_files_of_a_folder_wait_for_no_other(tmp_path, monkeypatch):
    """Their sizes are known: there is a search for each, and for the list."""
    new_files(tmp_path / "folder", 5, size=300_000)
    async with (
        running(tmp_path / "giver") as giver,
        running(tmp_path / "taker", giver) as taker,
    ):
        shared = await giver.run(ShareCommand(files=[str(tmp_path / "folder")]))
        searched = count_searches(taker, monkeypatch)
        await taker.run(FetchCommand(targets=[shared.folder]))
        assert len(set(searched)) == len(searched) == 6


async def test_what_nobody_offers_fails_the_command(tmp_path):
    """What came by then stays."""
    files = new_files(tmp_path / "files", 10)
    async with (
        running(tmp_path / "giver") as giver,
        running(tmp_path / "taker", giver) as taker,
    ):
        shared = (await giver.run(ShareCommand(files=files))).artifacts
        targets = [one.digest for one in shared]
        with pytest.raises(NodeError, match="1 of 11 failed: nobody offers it"):
            await taker.run(FetchCommand(targets=[*targets, "ab" * 32]))
        assert taker.layers.storage.store.count == 10


async def test_a_folder_of_many_files_comes_at_once(tmp_path, monkeypatch):
    """One search for the list, one for its files."""
    new_files(tmp_path / "folder", 30)
    async with (
        running(tmp_path / "giver") as giver,
        running(tmp_path / "taker", giver) as taker,
    ):
        shared = await giver.run(ShareCommand(files=[str(tmp_path / "folder")]))
        searched = count_searches(taker, monkeypatch)
        output = f"{tmp_path / 'out'}/"
        await taker.run(FetchCommand(targets=[shared.folder], output=output))
        assert len(searched) == 2
        for path in (tmp_path / "folder").iterdir():
            written = (tmp_path / "out" / path.name).read_bytes()
            assert written == path.read_bytes()


async def test_one_that_nobody_has_leaves_the_others_together(tmp_path, monkeypatch):
    """Only what is missing is searched for by itself."""
    files = new_files(tmp_path / "files", 80)
    async with (
        running(tmp_path / "giver") as giver,
        running(tmp_path / "taker", giver) as taker,
    ):
        shared = (await giver.run(ShareCommand(files=files))).artifacts
        targets = [one.digest for one in shared]
        missing = str(Digest.of(b"nobody has this"))
        searched = count_searches(taker, monkeypatch)
        with pytest.raises(NodeError, match="1 of 81 failed") as failure:
            await taker.run(
                FetchCommand(targets=[*targets[:40], missing, *targets[40:]])
            )
        brought = [one["digest"] for one in failure.value.details["artifacts"]]
        assert brought == targets
        assert set(map(str, searched)) == {targets[0], missing}
        assert len(searched) <= 3
