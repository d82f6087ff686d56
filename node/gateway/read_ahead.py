"""Read-ahead: an upstream is asked for what clients of its index will ask for next.

A resolver learns level by level what a package needs, and waits for an answer at each.
The node sees the same pages a little earlier, so it can ask for the next ones at once,
and for all of a level together.

1. Only pages and metadata are read ahead, never packages.
2. It is a guess, so it is bounded: at most UNUSED_MAX pages that no client has asked
   for yet. Others wait until a client has caught up, or a guess has turned out wrong.
   And few at once: an upstream sees no more connections than package managers open.
3. What is read ahead is nothing more than a request that came early: it passes the
   same rules, is verified like any other, and is kept in the same places.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from node.background import Background
from node.gateway import limits
from node.gateway.bounded import RecentKeys

Place = tuple[str, str]
Work = Callable[[], Coroutine[Any, Any, object]]


class ReadAhead:
    """Decides which pages are read before a client asks for them."""

    def __init__(self, background: Background) -> None:
        self._background = background
        self._unused: dict[Place, float] = {}
        """What was read ahead and not asked for yet, and since when."""
        self._waiting: OrderedDict[Place, Work] = OrderedDict()
        self._under_way = 0
        self._asked: RecentKeys[Place] = RecentKeys(limits.PAGE_FRESH_SECONDS)

    def begin(self, place: Place, work: Work) -> None:
        """Read a page ahead with `work`, now or later, unless it was asked for."""
        now = _now()
        if place in self._unused or self._asked.has(place, now):
            return
        self._waiting.setdefault(place, work)
        if len(self._waiting) > limits.READ_AHEAD_WAITING_MAX:
            self._waiting.popitem(last=False)
        self._go_on(now)

    def asked(self, place: Place) -> None:
        """Note that a client asks for a page."""
        now = _now()
        self._asked.add(place, now)
        self._waiting.pop(place, None)
        self._unused.pop(place, None)
        self._go_on(now)

    def follow(self, work: Work) -> None:
        """Find out in the background what a page or a file leads to."""
        self._background.start(_quietly(work), "reading ahead")

    def _go_on(self, now: float) -> None:
        """Begin what was waiting, as far as the bound allows."""
        if not self._waiting:
            return
        oldest = now - limits.READ_AHEAD_SECONDS
        self._unused = {one: at for one, at in self._unused.items() if at > oldest}
        while (
            self._waiting
            and len(self._unused) < limits.READ_AHEAD_UNUSED_MAX
            and self._under_way < limits.READ_AHEAD_AT_ONCE
        ):
            place, work = self._waiting.popitem(last=False)
            self._unused[place] = now
            self._under_way += 1
            self.follow(partial(self._read, work))

    async def _read(self, work: Work) -> None:
        try:
            await work()
        finally:
            self._under_way -= 1
            self._go_on(_now())


async def _quietly(work: Work) -> None:
    """Do what nobody waits for: whoever asks for it meets the same error again."""
    with contextlib.suppress(Exception):
        await work()


def _now() -> float:
    return asyncio.get_running_loop().time()
