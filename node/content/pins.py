"""The commands `pin` and `unpin`: keep what the cache would make room with."""

from __future__ import annotations

import asyncio

from node import commands, results
from node.commands import Progress
from node.content.routing import Routing
from node.content.several import do_each
from node.errors import NodeError
from node.model.catalogue import Catalogue
from node.model.targets import DigestTarget, FileTarget, parse_target
from node.model.trust_store import TrustStore
from transfer import Store


class Pins:
    """Pins artifacts and packages that the store holds."""

    def __init__(
        self,
        *,
        store: Store,
        catalogue: Catalogue,
        trust_store: TrustStore,
        router: Routing,
    ) -> None:
        self._store = store
        self._catalogue = catalogue
        self._trust_store = trust_store
        self._router = router

    async def pin(
        self, command: commands.PinCommand, _progress: Progress
    ) -> results.PinResult:
        """Keep what the targets name, whatever the cache needs room for.

        What was withheld of it is offered again: a pin is its owner's word.
        """
        held = await do_each(command.targets, self._held)
        for digest in held.done:
            self._catalogue.pin(digest)
        await self._router.sync()
        result = results.PinResult(pinned=held.done)
        held.check(result)
        return result

    async def unpin(
        self, command: commands.UnpinCommand, _progress: Progress
    ) -> results.UnpinResult:
        """No longer pin what the targets name."""
        unpinned = await do_each(command.targets, self._unpin)
        await self._router.sync()
        result = results.UnpinResult(unpinned=unpinned.done)
        unpinned.check(result)
        return result

    async def _unpin(self, text: str) -> str:
        digest = await self._held(text)
        if not self._catalogue.unpin(digest):
            raise NodeError(f"{digest} is not pinned")
        return digest

    async def _held(self, text: str) -> str:
        """Return the digest of what a target names, if it is held."""
        target = parse_target(text, self._catalogue, self._trust_store)
        if isinstance(target, FileTarget):
            raise NodeError(f"say the digest or the name of what {text} describes")
        if isinstance(target, DigestTarget):
            artifact = await asyncio.to_thread(self._store.find, target.digest)
            if artifact is not None:
                return str(artifact.digest)
        else:
            for row in self._catalogue.packages_named(target.publisher, target.name):
                if row.held and target.version in (None, row.version):
                    return row.digest
        raise NodeError(f"{text} is not held here; fetch it first")
