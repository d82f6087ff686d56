"""Share a folder, fetch it by one digest, and take back what was shared."""

from __future__ import annotations

import asyncio
import os

import pytest

from node.commands import (
    FetchCommand,
    LookupCommand,
    PinCommand,
    PublishCommand,
    ShareCommand,
    UnshareCommand,
)
from node.errors import NobodyOffersError, NodeError, UsageError
from tests.node.running import running
from transfer import Digest

FILES = {"a.txt": "one", "sub/b.txt": "two", "sub/deep/c.txt": "one"}


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "folder"
    for name, text in FILES.items():
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_text(text)
    return made


async def test_a_folder_is_fetched_by_one_digest(tmp_path, folder):
    """With its names, also where two files have one content."""
    async with (
        running(tmp_path / "giver") as giver,
        running(tmp_path / "taker", giver) as taker,
    ):
        shared = await giver.run(ShareCommand(files=[str(folder)]))
        assert shared.folder is not None
        assert len(shared.artifacts) == 3
        output = tmp_path / "out"
        await taker.run(FetchCommand(targets=[shared.folder], output=f"{output}/"))
        written = {
            path.relative_to(output).as_posix(): path.read_text()
            for path in output.rglob("*")
            if path.is_file()
        }
        assert written == FILES
        for one in shared.artifacts:
            found = await giver.run(LookupCommand(digest=one.digest))
            assert str(taker.address) in {who.address for who in found.providers}


@pytest.mark.parametrize("kind", ["fifo", "link", "name", "empty", "two"])
async def test_what_cannot_be_in_a_folder_is_refused_at_once(tmp_path, folder, kind):
    files = [str(folder)]
    if kind == "fifo":
        os.mkfifo(folder / "pipe")
    elif kind == "link":
        (folder / "link").symlink_to("/etc/passwd")
    elif kind == "name":
        (folder / ".hidden").write_text("x")
    elif kind == "empty":
        files = [str(tmp_path / "empty")]
        (tmp_path / "empty").mkdir()
    else:
        files.append(str(folder / "a.txt"))
    async with running(tmp_path / "node") as node, asyncio.timeout(20):
        with pytest.raises((NodeError, UsageError)):
            await node.run(ShareCommand(files=files))
        assert node.layers.storage.catalogue.directs() == set()


async def nobody_offers(node, digest):
    """Wait until the keepers have heard of a withdrawal; it is sent in one datagram."""
    async with asyncio.timeout(10):
        while True:
            try:
                await node.run(LookupCommand(digest=digest))
            except NobodyOffersError:
                return
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("remove", [False, True])
async def test_what_is_unshared_is_offered_no_more(tmp_path, remove):
    """By its file or its digest; `share` of it offers it again."""
    file = tmp_path / "exam.txt"
    file.write_text("exam questions of next week")
    async with (
        running(tmp_path / "giver") as giver,
        running(tmp_path / "taker", giver) as taker,
    ):
        (shared,) = (await giver.run(ShareCommand(files=[str(file)]))).artifacts
        digest = Digest.parse(shared.digest)
        await taker.run(LookupCommand(digest=shared.digest))
        short = shared.digest.removeprefix("sha256:")[:12]
        found = await giver.run(LookupCommand(digest=short))
        assert found.digest == shared.digest
        target = str(file) if remove else short
        taken = await giver.run(UnshareCommand(targets=[target], remove=remove))
        assert [one.digest for one in taken.artifacts] == [shared.digest]
        assert not giver.parts.content.router.may_serve(digest, whole=True) or remove
        held = await asyncio.to_thread(giver.layers.storage.store.find, digest)
        assert (held is None) is remove
        await nobody_offers(taker, shared.digest)
        with pytest.raises(NobodyOffersError):
            await taker.run(FetchCommand(targets=[shared.digest]))
        await giver.run(ShareCommand(files=[str(file)]))
        await taker.run(FetchCommand(targets=[shared.digest]))


async def test_what_is_needed_is_not_removed(tmp_path):
    file = tmp_path / "tool.txt"
    file.write_text("tool")
    async with running(tmp_path / "node") as node:
        made = await node.run(
            PublishCommand(files=[str(file)], name="tool", version="1")
        )
        with pytest.raises(NodeError, match="tool 1 needs"):
            await node.run(UnshareCommand(targets=[str(file)], remove=True))
        await node.run(UnshareCommand(targets=[str(file)]))
        package = await node.layers.storage.store.find_soon(Digest.parse(made.package))
        assert package is not None
        assert not node.parts.content.router.is_offered(package)
        other = tmp_path / "other.txt"
        other.write_text("other")
        (shared,) = (await node.run(ShareCommand(files=[str(other)]))).artifacts
        await node.run(PinCommand(targets=[shared.digest]))
        with pytest.raises(NodeError, match="pinned"):
            await node.run(UnshareCommand(targets=[shared.digest], remove=True))
        with pytest.raises(NodeError, match="not held"):
            await node.run(UnshareCommand(targets=[f"sha256:{9:064x}"]))
