"""Announcements: new keys are handed to the DHT, few at once, many in turn.

1. A key is put as soon as it is known, and withdrawn the same way. So what is
   announced is never more than what is on offer.
2. Few new keys are announced at once, as a command waits for them.
3. Many are announced by one sweep at a time. A new key changes a slice that its keepers
   have already: sweeps over what keeps growing would send most slices again each time,
   and take the processor from that by which it grows. So the next one begins after
   `REST` times the length of the last, or when nothing was put for `QUIET_SECONDS`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Final

from dht import Dht
from node.background import Background

FEW_KEYS: Final = 256
REST: Final = 3.0
QUIET_SECONDS: Final = 5.0
_LOOK_SECONDS: Final = 0.25


class Announcements:
    """What is on its way to the DHT."""

    def __init__(self, dht: Dht, background: Background, port: int) -> None:
        self._dht = dht
        self._background = background
        self.port = port
        self._few: list[bytes] = []
        self._are_many = False
        self._put_at = 0.0
        self._waiting: list[asyncio.Future[None]] = []
        """Resolved with the end of the next sweep of many."""
        self._sweeping: asyncio.Task[None] | None = None

    def put(self, keys: Sequence[bytes]) -> None:
        """Offer keys; `send` announces them."""
        if not keys:
            return
        self._dht.put_offers(keys)
        self._few += keys
        self._put_at = time.monotonic()
        if len(self._few) > FEW_KEYS:
            self._are_many = True
            self._few.clear()

    def withdraw(self, keys: Sequence[bytes]) -> None:
        """Offer keys no more; their first eight bytes are enough."""
        if keys:
            self._dht.withdraw(keys)

    def send(self, announced: asyncio.Future[None]) -> None:
        """Announce what was put since the last call; then `announced` is resolved."""
        few, self._few = self._few, []
        are_many, self._are_many = self._are_many, False
        if are_many:
            self._waiting.append(announced)
            if self._sweeping is None or self._sweeping.done():
                self._sweeping = self._background.start(
                    self._announce_many(), "announcement of many"
                )
        elif few:
            sending = self._announce(few, announced)
            self._background.start(sending, "announcement")
        else:
            _resolve([announced])

    def send_all(self, port: int) -> None:
        """Announce everything under another port."""
        announcing = self._dht.announce_offers(port)
        self._background.start(announcing, "announcing under another port")

    async def _announce(
        self, keys: Sequence[bytes], announced: asyncio.Future[None]
    ) -> None:
        try:
            await self._dht.announce_offers(self.port, keys)
        finally:
            _resolve([announced])

    async def _announce_many(self) -> None:
        while self._waiting:
            began = time.monotonic()
            waiting, self._waiting = self._waiting, []
            try:
                await self._dht.announce_offers(self.port)
            finally:
                _resolve(waiting)
            ended = time.monotonic()
            rested_at = ended + REST * (ended - began)
            while (now := time.monotonic()) < rested_at:
                if now - max(self._put_at, ended) > QUIET_SECONDS:
                    break
                await asyncio.sleep(_LOOK_SECONDS)


def _resolve(futures: Sequence[asyncio.Future[None]]) -> None:
    for one in futures:
        if not one.done():
            one.set_result(None)
