"""`updates --apply` writes files where their user keeps them."""

from __future__ import annotations

import pytest

from node.commands import (
    FetchCommand,
    FollowCommand,
    MeetCommand,
    PublishCommand,
    UpdatesCommand,
)
from node.errors import NodeError, UsageError
from tests.node.running import running


async def publish(node, folder, version: str) -> str:
    path = folder / f"tool-{version}.txt"
    path.write_text(version)
    made = await node.run(
        PublishCommand(files=[str(path)], name="tool", version=version)
    )
    return f"{made.publisher}/tool"


@pytest.mark.parametrize("where", ["remembered", "given", "nowhere"])
async def test_updates_are_written_beside_the_version_before(tmp_path, where):
    folder, given = tmp_path / "tools", tmp_path / "given"
    async with (
        running(tmp_path / "a") as author,
        running(tmp_path / "b", author) as user,
    ):
        target = await publish(author, tmp_path, "1")
        output = f"{folder}/" if where != "nowhere" else None
        await user.run(FetchCommand(targets=[target], output=output))
        await publish(author, tmp_path, "2")
        await user.run(FollowCommand(target=target))  # reads what is newest
        command = UpdatesCommand(
            apply=True, output=str(given) if where == "given" else None
        )
        (update,) = (await user.run(command)).updates
        expected = {"remembered": folder, "given": given}.get(where)
        assert update.paths == ([str(expected / "tool-2.txt")] if expected else [])
        if expected:
            assert (expected / "tool-2.txt").read_text() == "2"


async def test_an_update_overwrites_no_file_of_the_users(tmp_path):
    folder = tmp_path / "tools"
    async with (
        running(tmp_path / "a") as author,
        running(tmp_path / "b", author) as user,
    ):
        target = await publish(author, tmp_path, "1")
        await user.run(FetchCommand(targets=[target], output=f"{folder}/"))
        await publish(author, tmp_path, "2")
        await user.run(FollowCommand(target=target))
        (folder / "tool-2.txt").write_text("mine")
        with pytest.raises(NodeError, match="--force"):
            await user.run(UpdatesCommand(apply=True))
        assert (folder / "tool-2.txt").read_text() == "mine"


async def test_a_running_node_meets_further_contacts(tmp_path):
    async with running(tmp_path / "a") as first, running(tmp_path / "b") as second:
        met = await second.run(MeetCommand(contacts=[str(first.address)]))
        assert (met.asked, met.answered) == (1, 1)
        assert second.layers.dht.contacts()
        with pytest.raises(UsageError, match="nonsense"):
            await second.run(MeetCommand(contacts=["nonsense"]))
