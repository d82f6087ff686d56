"""The shell completes what this node knows."""

from __future__ import annotations

import asyncio
import subprocess
import sys

from node.cli.answer import read_fields
from node.cli.completing import known_targets
from node.commands import FollowsCommand
from node.results import FollowEntry, FollowsResult, ListResult
from tests.node.cli.terminals import Node, environment, running

FOLLOWS = FollowsResult(
    follows=[
        FollowEntry(
            publisher="p" * 52, nickname="alice", name="app", auto="never", newest=None
        )
    ]
)


HELD = ListResult(artifacts=[], packages=[], count=0, bytes_held=0)


class Known(Node):
    """A node that follows one name and holds nothing."""

    async def run(self, command, progress):
        return FOLLOWS if isinstance(command, FollowsCommand) else HELD


def test_nicknames_stand_for_publishers():
    answers = {
        "follows": b'{"follows": [{"publisher": "pp", "nickname": "al", "name": "a"}]}',
        "list": b'{"packages": [{"publisher": "pp", "name": "b"}, {"publisher": "q",'
        b' "name": "c"}], "artifacts": [{"digest": "sha256:00"}]}',
    }
    found = known_targets(lambda command: read_fields(answers[command]))
    assert found == ["al/a", "al/b", "q/c", "sha256:00"]
    assert known_targets(lambda _: None) == []


async def test_the_shell_gets_what_the_running_node_follows(tmp_path):
    async with running(tmp_path, Known()):
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "node.cli.main"],
            env={
                **environment(tmp_path),
                "_CARAVAN_COMPLETE": "bash_complete",
                "COMP_WORDS": "caravan unfollow al",
                "COMP_CWORD": "2",
            },
            capture_output=True,
            text=True,
            timeout=40,
        )
    assert done.stdout == "plain,alice/app\n"
    assert done.stderr == ""
