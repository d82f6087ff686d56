"""TCP as far as reach needs it: who can connect to whom, and when, through NATs.

No bytes are carried but the opening of a connection. An attempt that a NAT drops
ends without a word after its time, as a SYN does.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.simulation.loop import VirtualLoop
    from tests.simulation.nat import SocketAddress
    from tests.simulation.network import SimulatedNetwork

CONNECT_SECONDS = 3.0


class SimulatedTcp:
    """Connections between the hosts of a simulated network."""

    def __init__(self, loop: VirtualLoop, network: SimulatedNetwork) -> None:
        self._loop = loop
        self.network = network
        self._listening: dict[SocketAddress, Callable[[bytes, SocketAddress], None]]
        self._listening = {}
        self._opening: dict[tuple[str, SocketAddress], asyncio.Future[bool]] = {}

    def listen(
        self, at: SocketAddress, accept: Callable[[bytes, SocketAddress], None]
    ) -> None:
        """Pass the opening of each connection, and its other end, to `accept`."""
        self._listening[at] = accept

    async def connect(
        self, source: SocketAddress, to: SocketAddress, opening: bytes
    ) -> bool:
        """Connect and send an opening; False after 3 s where nothing answers."""
        seen = self.network.outward("tcp", source, to)
        there = self.network.delay()
        await asyncio.sleep(there)
        reached = self.network.inward("tcp", seen, to)
        accept = self._listening.get(reached) if reached is not None else None
        if accept is None:
            await asyncio.sleep(CONNECT_SECONDS - there)
            return False
        await asyncio.sleep(self.network.delay())
        self._loop.call_later(self.network.delay(), accept, opening, seen)
        return True

    async def open_together(
        self, source: SocketAddress, to: SocketAddress, seconds: float
    ) -> bool:
        """Send a SYN to an end that does the same; whether one came in."""
        met: asyncio.Future[bool] = self._loop.create_future()
        self._opening[source[0], to] = met
        seen = self.network.outward("tcp", source, to)
        self._loop.call_later(self.network.delay(), self._syn, seen, to)
        try:
            async with asyncio.timeout(seconds):
                return await met
        except TimeoutError:
            return False
        finally:
            if self._opening.get((source[0], to)) is met:
                del self._opening[source[0], to]

    def _syn(self, seen: SocketAddress, to: SocketAddress) -> None:
        """Let a SYN in where a hole is open; its answer opens the other end too."""
        reached = self.network.inward("tcp", seen, to)
        if reached is None:
            return
        here = self._opening.get((reached[0], seen))
        there = self._opening.get((self.network.host_of(seen), to))
        for end, delay in ((here, 0.0), (there, self.network.delay())):
            if here is not None and end is not None:
                self._loop.call_later(delay, _met, end)


def _met(end: asyncio.Future[bool]) -> None:
    if not end.done():
        end.set_result(True)
