"""Recalling offers: keepers are told that what this node offered ends now.

A provider record cannot be taken back, but its own signer may replace it, and the new
one may end soon. Keepers that cannot be reached, or whose clock is ahead by more than
the rest of its life, forget the old one when it ends by itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from dht.offers import Offers

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterable

    from dht.asking import Asking
    from dht.core import Core

RECALL_SECONDS: Final = 20
"""Longer than a lookup takes, shorter than anybody would wait for."""


async def recall(
    core: Core,
    asking: Asking,
    loop: asyncio.AbstractEventLoop,
    keys: Iterable[bytes],
    port: int,
) -> None:
    """Replace this node's records of `keys` by records that end within seconds."""
    ending = Offers(core, asking, loop)
    chosen = ending.put(keys, port)
    ending.end_at(int(core.clock.time()) + RECALL_SECONDS)
    await ending.sweep(chosen, renew=False)
