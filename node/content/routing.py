"""What the rest of the node needs of the content router: four methods."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Protocol

from dht import ProviderSearch
from transfer import Digest, Peer


class Routing(Protocol):
    """Finds who offers content, and keeps the own offers true.

    `node.content.router.ContentRouter` is the one that ships.
    """

    async def sync(self) -> None:
        """Announce what is offered now, and withdraw what is not."""

    def silence(self, digest: str) -> None:
        """Stop serving an artifact at once, before the next `sync`."""

    def search(self, digest: Digest) -> ProviderSearch:
        """Start a search for the providers of `digest`, this node among them."""

    def peers(self, digest: Digest) -> AsyncGenerator[Peer, None]:
        """Yield the other peers that offer `digest`, as they are found."""
