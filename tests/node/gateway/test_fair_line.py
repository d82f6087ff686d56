"""The line to the origins is shared fairly between clients."""

from __future__ import annotations

import asyncio
import contextlib

from node.gateway.fair_line import FairLine


class Downloads:
    """Downloads of clients, which end when the test says so."""

    def __init__(self, turns: int) -> None:
        self._line = FairLine(turns)
        self.under_way: list[str] = []
        self._ends: list[tuple[str, asyncio.Event]] = []
        self._tasks: list[asyncio.Task[None]] = []

    def ask(self, client: str, count: int = 1) -> list[asyncio.Task[None]]:
        tasks = [asyncio.create_task(self._one(client)) for _ in range(count)]
        self._tasks += tasks
        return tasks

    async def _one(self, client: str) -> None:
        async with self._line.turn(client):
            self.under_way.append(client)
            end = asyncio.Event()
            self._ends.append((client, end))
            try:
                await end.wait()
            finally:
                self.under_way.remove(client)

    async def end_one(self, client: str) -> None:
        chosen = next(one for one in self._ends if one[0] == client)
        self._ends.remove(chosen)
        chosen[1].set()
        await settle()

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_client_of_few_files_is_next_whatever_another_waits_for() -> None:
    downloads = Downloads(4)
    async with contextlib.aclosing(_closing(downloads)):
        downloads.ask("greedy", 100)
        await settle()
        downloads.ask("modest", 2)
        await settle()
        assert downloads.under_way == ["greedy"] * 4
        await downloads.end_one("greedy")
        await downloads.end_one("greedy")
        assert sorted(downloads.under_way) == ["greedy"] * 2 + ["modest"] * 2
        await downloads.end_one("modest")
        await downloads.end_one("modest")
        assert downloads.under_way == ["greedy"] * 4


async def test_turns_of_those_that_leave_go_to_others() -> None:
    downloads = Downloads(1)
    async with contextlib.aclosing(_closing(downloads)):
        (first,) = downloads.ask("a")
        await settle()
        (second,) = downloads.ask("b")
        downloads.ask("c")
        await settle()
        second.cancel()
        await settle()
        first.cancel()
        await settle()
        assert downloads.under_way == ["c"]


async def test_one_that_leaves_at_the_moment_of_its_turn_gives_it_back() -> None:
    line = FairLine(1)
    async with line.turn("a"):
        waiting = asyncio.create_task(_take(line, "b"))
        await settle()
    waiting.cancel()  # its turn was granted, and it has not run since
    await settle()
    async with asyncio.timeout(5), line.turn("c"):
        pass


async def _take(line: FairLine, client: str) -> None:
    async with line.turn(client):
        pass


async def _closing(downloads: Downloads):  # type: ignore[no-untyped-def]
    try:
        yield
    finally:
        await downloads.close()
