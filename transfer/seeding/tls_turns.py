"""Turns for TLS handshakes: they begin at a bounded rate, and sources take turns."""

from __future__ import annotations

import asyncio
import time

from transfer.seeding.admission import Handshake, TlsBudget


class TlsTurns:
    """What makes a handshake wait for its turn; belongs to one event loop."""

    def __init__(self, per_second: float) -> None:
        self._delay = 1 / per_second
        self._budget = TlsBudget(per_second, time.monotonic())
        self._turns: dict[Handshake, asyncio.Future[None]] = {}
        self._timer: asyncio.TimerHandle | None = None

    async def wait(self, handshake: Handshake) -> None:
        """Return when this handshake may begin; the wait is no step of its own."""
        self._turns[handshake] = turn = asyncio.get_running_loop().create_future()
        self._budget.ask(handshake)
        self._grant()
        try:
            await turn
        finally:
            self.withdraw(handshake)
        handshake.step_at = time.monotonic()

    def withdraw(self, handshake: Handshake) -> None:
        """Let a handshake wait no longer; twice does no harm."""
        self._budget.withdraw(handshake)
        self._turns.pop(handshake, None)

    def close(self) -> None:
        """Give no more turns."""
        if self._timer is not None:
            self._timer.cancel()

    def _grant(self) -> None:
        """Let those begin whose turn it is; look again while others wait."""
        for handshake in self._budget.grant(time.monotonic()):
            turn = self._turns[handshake]
            if not turn.done():
                turn.set_result(None)
        if self._budget.is_waiting and self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._delay, self._grant_later)

    def _grant_later(self) -> None:
        self._timer = None
        self._grant()
