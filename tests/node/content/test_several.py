"""Commands over several targets do all they can; names are bytes."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from node.commands import (
    FetchCommand,
    ListCommand,
    PinCommand,
    ShareCommand,
    UnpinCommand,
    UnshareCommand,
)
from node.errors import NodeError
from node.model.paths import path_of, path_text
from node.printable import printable
from tests.node.running import running

NOWHERE = "f" * 64


async def shared(node, folder: Path, *contents: bytes) -> list[str]:
    """Share these files; return their digests."""
    paths = []
    for number, content in enumerate(contents):
        paths.append(folder / f"file-{number}")
        paths[-1].write_bytes(content)
    result = await node.run(ShareCommand(files=[str(one) for one in paths]))
    return [one.digest for one in result.artifacts]


async def failing(node, command) -> NodeError:
    with pytest.raises(NodeError) as caught:
        await node.run(command)
    return caught.value


async def test_share_does_all_it_can(tmp_path):
    async with running(tmp_path / "home") as node:
        (tmp_path / "good").write_bytes(b"good")
        files = [str(tmp_path / one) for one in ("missing", "good", "gone")]
        error = await failing(node, ShareCommand(files=files))
        assert error.exit_code == 1
        assert str(error).startswith("2 of 3 failed: ")
        assert [one["target"] for one in error.details["failed"]] == [
            files[0],
            files[2],
        ]
        assert [one["file"] for one in error.details["artifacts"]] == [files[1]]
        assert (await node.run(ListCommand())).count == 1


async def test_pin_unpin_and_unshare_do_all_they_can(tmp_path):
    async with running(tmp_path / "home") as node:
        both = await shared(node, tmp_path, b"one", b"two")
        targets = [both[0], NOWHERE, "no digest", both[1]]
        error = await failing(node, PinCommand(targets=targets))
        assert (error.exit_code, error.details["pinned"]) == (1, both)
        assert all(one.pinned for one in (await node.run(ListCommand())).artifacts)
        error = await failing(node, UnpinCommand(targets=targets))
        assert (error.exit_code, error.details["unpinned"]) == (1, both)
        error = await failing(node, UnshareCommand(targets=targets))
        assert error.exit_code == 1
        assert all(one.private for one in (await node.run(ListCommand())).artifacts)


async def test_fetch_does_all_it_can(tmp_path):
    async with running(tmp_path / "home") as node:
        one, two = await shared(node, tmp_path, b"one", b"two")
        out = tmp_path / "out"
        error = await failing(
            node, FetchCommand(targets=[one, NOWHERE, two], output=str(out))
        )
        assert error.exit_code == 1
        assert [entry["digest"] for entry in error.details["artifacts"]] == [one, two]
        assert sorted(path.read_bytes() for path in out.iterdir()) == [b"one", b"two"]
        # One of two is still several: it is no file at the path itself.
        error = await failing(
            node, FetchCommand(targets=[NOWHERE, two], output=str(tmp_path / "new"))
        )
        assert (tmp_path / "new/file-1").read_bytes() == b"two"
        assert "1 of 2 failed" in str(error)


async def test_where_all_fail_alike_the_exit_code_says_why(tmp_path):
    async with running(tmp_path / "home") as node:
        error = await failing(node, FetchCommand(targets=[NOWHERE, "e" * 64]))
        assert error.exit_code == 4


@pytest.mark.parametrize("name", [b"\xff\xfe.bin", b"caf\xe9", b"a\nb"])
async def test_a_name_is_bytes(tmp_path, name):
    file = tmp_path / os.fsdecode(name)
    file.write_bytes(b"content")
    async with running(tmp_path / "home") as node:
        result = await node.run(ShareCommand(files=[path_text(str(file))]))
        digest = result.artifacts[0].digest
        assert digest == f"sha256:{hashlib.sha256(b'content').hexdigest()}"
        (held,) = (await node.run(ListCommand())).artifacts
        assert held.file == printable(file.name)
        target = file.with_name(file.name + ".new")
        await node.run(FetchCommand(targets=[digest], output=path_text(str(target))))
        assert target.read_bytes() == b"content"
        await node.run(UnshareCommand(targets=[path_text(str(file))]))


@pytest.mark.parametrize("path", ["/a/b", "/a/\udcff b%20", "/file:/x", "rel", "/ü"])
def test_a_path_comes_back_as_it_was(path):
    text = path_text(path)
    text.encode()
    assert str(path_of(text)) == path


async def test_a_folder_with_such_a_name_is_refused_with_a_sentence(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "x\udcff").write_bytes(b"x")
    async with running(tmp_path / "home") as node:
        error = await failing(node, ShareCommand(files=[str(folder)]))
        assert "plain ASCII" in str(error)
        str(error).encode()
