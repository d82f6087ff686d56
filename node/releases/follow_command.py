"""The commands `follow`, `unfollow` and `updates`."""

from __future__ import annotations

import asyncio
import re

from node import commands, results
from node.background import Background
from node.commands import Progress
from node.content.audit import describe
from node.content.routing import Routing
from node.content.withdrawal import Withdrawal
from node.errors import NodeError, UsageError
from node.model.keys import publisher_text
from node.model.targets import parse_followed
from node.model.trust_store import TrustStore
from node.releases.newest import Releases
from node.releases.update_output import UpdateOutput
from node.releases.updates import UpdateTracker

_NICKNAME = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,31}")


class FollowCommands:
    """Says which publishers this user believes, and what is new."""

    def __init__(
        self,
        *,
        trust_store: TrustStore,
        releases: Releases,
        updates: UpdateTracker,
        router: Routing,
        withdrawal: Withdrawal,
        background: Background,
        output: UpdateOutput,
    ) -> None:
        self._output = output
        self._trust_store = trust_store
        self._releases = releases
        self._updates = updates
        self._router = router
        self._withdrawal = withdrawal
        self._background = background

    async def follow(
        self, command: commands.FollowCommand, _progress: Progress
    ) -> results.FollowResult:
        """Believe a publisher about a name; says what its newest release is."""
        publisher, name = parse_followed(command.target, self._trust_store)
        if command.nickname is not None:
            if not _NICKNAME.fullmatch(command.nickname):
                raise UsageError(
                    f"{command.nickname!r} cannot be a nickname: use up to 32 "
                    "letters, digits, '.', '_' and '-', a letter first"
                )
            self._trust_store.set_nickname(command.nickname, publisher)
        self._trust_store.follow(publisher, name, command.auto)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._router.sync())
            tasks.create_task(self._releases.refresh(publisher, name))
        self._background.start(self._updates.pursue(publisher, name), "a new policy")
        release = self._releases.known(publisher, name)
        return results.FollowResult(
            publisher=publisher_text(publisher),
            name=name,
            auto=command.auto,
            nickname=command.nickname,
            newest=release.record.version if release else None,
        )

    async def follows(
        self, _command: commands.FollowsCommand, _progress: Progress
    ) -> results.FollowsResult:
        """List what is followed."""
        entries = []
        for row in self._trust_store.follows():
            release = self._releases.known(row.publisher, row.name)
            entries.append(
                results.FollowEntry(
                    publisher=publisher_text(row.publisher),
                    nickname=self._trust_store.nickname_of(row.publisher),
                    name=row.name,
                    auto=row.auto,
                    newest=release.record.version if release else None,
                )
            )
        return results.FollowsResult(follows=entries)

    async def unfollow(
        self, command: commands.UnfollowCommand, _progress: Progress
    ) -> results.UnfollowResult:
        """No longer believe a publisher about a name."""
        publisher, name = parse_followed(command.target, self._trust_store)
        if not self._trust_store.unfollow(publisher, name):
            raise NodeError(f"{command.target} is not followed here")
        await self._router.sync()
        return results.UnfollowResult(publisher=publisher_text(publisher), name=name)

    async def updates(
        self, command: commands.UpdatesCommand, progress: Progress
    ) -> results.UpdatesResult:
        """Say what is newer than what is held; fetch it if so wished."""
        if command.wait:
            entries = await self._updates.wait(command.seen)
        elif command.apply:
            entries = await self._updates.apply(progress)
            entries = await self._output.write(entries, command)
        else:
            entries = await self._updates.report()
        return results.UpdatesResult(
            updates=entries,
            applied=command.apply,
            doubts=self._updates.doubts(),
            dependents=[describe(one) for one in self._withdrawal.dependents()],
        )
