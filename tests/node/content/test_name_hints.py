"""Names travel with content as hints: labels, never paths, never believed further."""

from __future__ import annotations

import pytest

from node.commands import FetchCommand, ListCommand, ShareCommand, UnshareCommand
from tests.node.running import running
from transfer import Digest


async def test_a_fetch_into_a_folder_gives_real_names(tmp_path):
    """Also small and large ones, and from a node that was given the names itself."""
    files = {"notes (2).txt": b"small", "disk.img": b"large" * 100_000}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    async with (
        running(tmp_path / "a") as first,
        running(tmp_path / "b", first) as second,
    ):
        paths = [str(tmp_path / name) for name in files]
        shared = (await first.run(ShareCommand(files=paths))).artifacts
        digests = [one.digest for one in shared]
        folder = tmp_path / "out"
        command = FetchCommand(targets=digests, output=f"{folder}/")
        fetched = (await second.run(command)).artifacts
        assert {one.file for one in fetched} == set(files)
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == files
        assert {one.file for one in (await second.run(ListCommand())).artifacts} == set(
            files
        )
        # The third knows only the second.
        await first.stop()
        async with running(tmp_path / "c", second) as third:
            fetched = (await third.run(FetchCommand(targets=digests))).artifacts
            assert {one.file for one in fetched} == set(files)


@pytest.mark.parametrize("name", [".bashrc", "a\\b", "CON.txt", "end.", "{}"])
async def test_what_is_no_plain_name_is_no_hint(tmp_path, name):
    (tmp_path / "file").write_bytes(b"content")
    async with (
        running(tmp_path / "a") as first,
        running(tmp_path / "b", first) as second,
    ):
        command = ShareCommand(files=[str(tmp_path / "file")])
        (shared,) = (await first.run(command)).artifacts
        first.layers.seeder._uploads.small._name_of = lambda _digest: name
        folder = tmp_path / "out"
        command = FetchCommand(targets=[shared.digest], output=f"{folder}/")
        await second.run(command)
        expected = Digest.parse(shared.digest).hex
        assert [path.name for path in folder.iterdir()] == [expected]


async def test_what_is_not_served_has_no_name(tmp_path):
    (tmp_path / "secret.txt").write_bytes(b"content")
    async with (
        running(tmp_path / "a") as first,
        running(tmp_path / "b", first) as second,
    ):
        command = ShareCommand(files=[str(tmp_path / "secret.txt")])
        (shared,) = (await first.run(command)).artifacts
        digest = Digest.parse(shared.digest)
        await second.run(FetchCommand(targets=[shared.digest]))
        (peer,) = second.layers.leecher._context.connections._warm
        assert await second.layers.leecher.names(peer, [digest]) == {
            digest: "secret.txt"
        }
        await first.run(UnshareCommand(targets=[shared.digest]))
        assert await second.layers.leecher.names(peer, [digest]) == {}
