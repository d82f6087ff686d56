"""Callers that want the same at the same time share one run."""

from __future__ import annotations

import asyncio

import pytest

from transfer.errors import ClosedError
from transfer.single_flight import SingleFlight


class Work:
    """Counts its runs, and ends when it is let go."""

    def __init__(self) -> None:
        self.started = self.cancelled = self.running = self.most = 0
        self.go = asyncio.Event()
        self.clean_up = asyncio.Event()
        self.clean_up.set()

    async def __call__(self) -> int:
        self.started += 1
        self.running += 1
        self.most = max(self.most, self.running)
        number = self.started
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            await self.clean_up.wait()
            raise
        finally:
            self.running -= 1
        return number


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_many_callers_share_one_run():
    flights, work = SingleFlight(), Work()
    calls = [asyncio.create_task(flights.run("a", work)) for _ in range(20)]
    await turns()
    assert "a" in flights
    assert len(flights) == 1
    work.go.set()
    assert await asyncio.gather(*calls) == [1] * 20
    assert "a" not in flights
    assert work.started == 1


async def test_keys_are_apart():
    flights, work = SingleFlight(), Work()
    work.go.set()
    got = await asyncio.gather(flights.run("a", work), flights.run("b", work))
    assert sorted(got) == [1, 2]


async def test_a_cancelled_caller_leaves_the_others_alone():
    flights, work = SingleFlight(), Work()
    first = asyncio.create_task(flights.run("a", work))
    second = asyncio.create_task(flights.run("a", work))
    await turns()
    first.cancel()
    await turns()
    assert first.cancelled()
    assert not work.cancelled
    work.go.set()
    assert await second == 1


async def test_the_last_caller_ends_the_run_and_waits_for_its_end():
    flights, work = SingleFlight(), Work()
    work.clean_up.clear()
    call = asyncio.create_task(flights.run("a", work))
    await turns()
    call.cancel()
    await turns()
    assert work.cancelled == 1
    assert not call.done()
    work.clean_up.set()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert work.running == 0
    assert len(flights) == 0


async def test_a_new_run_waits_until_the_cancelled_one_has_cleaned_up():
    flights, work = SingleFlight(), Work()
    work.clean_up.clear()
    first = asyncio.create_task(flights.run("a", work))
    await turns()
    first.cancel()
    await turns()
    assert "a" not in flights
    second = asyncio.create_task(flights.run("a", work))
    await turns()
    assert work.started == 1
    work.clean_up.set()
    work.go.set()
    assert await second == 2
    assert work.most == 1
    await asyncio.gather(first, return_exceptions=True)


async def test_an_error_reaches_every_caller_and_is_not_remembered():
    flights = SingleFlight()
    runs = []

    async def fail() -> None:
        runs.append(1)
        await asyncio.sleep(0)
        raise ValueError("no")

    calls = [asyncio.create_task(flights.run("a", fail)) for _ in range(3)]
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(one) for one in results] == [ValueError] * 3
    assert len(runs) == 1
    with pytest.raises(ValueError, match="no"):
        await flights.run("a", fail)
    assert len(runs) == 2


async def test_a_run_may_linger_for_who_comes_next():
    flights, work = SingleFlight(linger=0.1), Work()
    flights.join("a", work).leave()
    await turns()
    assert not work.cancelled
    caller = flights.join("a", work)
    await asyncio.sleep(0.2)
    assert not work.cancelled
    assert work.started == 1
    caller.leave()
    await asyncio.sleep(0.2)
    assert work.cancelled == 1
    assert "a" not in flights


async def test_close_ends_all_and_callers_learn_why():
    flights, work = SingleFlight(), Work()
    call = asyncio.create_task(flights.run("a", work))
    await turns()
    await flights.close()
    with pytest.raises(ClosedError):
        await call
    with pytest.raises(ClosedError):
        await flights.run("a", work)
    assert work.running == 0
