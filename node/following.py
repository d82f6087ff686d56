"""The commands `follow`, `unfollow` and `updates`."""

from __future__ import annotations

import re

from node import commands
from node.catalogue import Catalogue
from node.commands import Document, Progress
from node.errors import NodeError, UsageError
from node.keys import publisher_text
from node.provide import Provide
from node.releases import Releases
from node.targets import parse_followed
from node.updates import Updates

_NICKNAME = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,31}")


class Following:
    """Says which publishers this user believes, and what is new."""

    def __init__(
        self,
        catalogue: Catalogue,
        releases: Releases,
        updates: Updates,
        provide: Provide,
    ) -> None:
        self._catalogue = catalogue
        self._releases = releases
        self._updates = updates
        self._provide = provide

    async def follow(self, command: commands.Follow, _progress: Progress) -> Document:
        """Believe a publisher about a name; says what its newest release is."""
        publisher, name = parse_followed(command.target, self._catalogue)
        if command.nickname is not None:
            if not _NICKNAME.fullmatch(command.nickname):
                raise UsageError(
                    f"{command.nickname!r} cannot be a nickname: use up to 32 "
                    "letters, digits, '.', '_' and '-', a letter first"
                )
            self._catalogue.set_nickname(command.nickname, publisher)
        self._catalogue.follow(publisher, name, command.auto)
        self._provide.offer_follow(publisher, name)
        await self._releases.refresh(publisher, name)
        await self._provide.settled()
        release = self._releases.known(publisher, name)
        return {
            "publisher": publisher_text(publisher),
            "name": name,
            "auto": command.auto,
            "nickname": command.nickname,
            "newest": release.record.version if release else None,
        }

    async def unfollow(
        self, command: commands.Unfollow, _progress: Progress
    ) -> Document:
        """No longer believe a publisher about a name."""
        publisher, name = parse_followed(command.target, self._catalogue)
        if not self._catalogue.unfollow(publisher, name):
            raise NodeError(f"{command.target} is not followed here")
        self._provide.withdraw_follow(publisher, name)
        return {"publisher": publisher_text(publisher), "name": name}

    async def updates(self, command: commands.Updates, progress: Progress) -> Document:
        """Say what is newer than what is held; fetch it if so wished."""
        if command.apply:
            return {"updates": await self._updates.apply(progress), "applied": True}
        return {"updates": await self._updates.report(), "applied": False}

    def follow_quietly(self, publisher: bytes, name: str) -> None:
        """Follow a name because it was fetched, unless it is followed already."""
        if self._catalogue.followed(publisher, name) is None:
            self._catalogue.follow(publisher, name, "never")
            self._provide.offer_follow(publisher, name)
