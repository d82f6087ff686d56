"""Every command that a person can ask has a part that does it."""

from __future__ import annotations

from node.command_table import make_command_table
from node.commands import COMMANDS, LeaveCommand, OpenCommand
from tests.node.running import running


async def test_every_command_is_in_the_table(tmp_path):
    """The door opens the dashboard, and the node itself leaves."""
    async with running(tmp_path / "home") as node:
        table = make_command_table(node, node.layers, node.parts)
    assert {*table, LeaveCommand, OpenCommand} == set(COMMANDS.values())
