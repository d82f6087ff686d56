"""Background loops: whatever one round meets, the next one comes."""

from __future__ import annotations

import asyncio
import sqlite3

import pytest

from node import background
from node.background import Background, describe


@pytest.fixture
async def tasks(monkeypatch):
    monkeypatch.setattr(background, "RETRY_SECONDS", 0.001)
    made = Background()
    yield made
    await made.close()


async def until(condition) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - a counter has no event
            await asyncio.sleep(0.001)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("bad bytes"),
        sqlite3.OperationalError("database is locked"),
        RecursionError(),
        ExceptionGroup("several", [KeyError("x")]),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_a_round_that_fails_does_not_end_the_loop(tasks, caplog, error):
    rounds = []

    async def work() -> float:
        rounds.append(len(rounds))
        if len(rounds) < 4:
            raise error
        return 60.0

    tasks.repeat(work, "looking")
    await until(lambda: len(rounds) == 3)
    (failing,) = tasks.failing
    assert (failing.name, failing.error) == ("looking", describe(error))
    assert failing.times >= 2
    assert "looking failed and is tried again" in caplog.text
    await until(lambda: len(rounds) == 4)
    await until(lambda: not tasks.failing)


async def test_a_loop_that_goes_on_failing_is_tried_ever_more_seldom(
    tasks, monkeypatch
):
    pauses = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 25:
            await asyncio.Event().wait()

    async def work() -> float:
        raise OSError("the disk is full")

    monkeypatch.setattr(background.asyncio, "sleep", sleep)
    task = tasks.repeat(work, "writing")
    async with asyncio.timeout(10):
        while len(pauses) < 25:
            await asyncio.wait([task], timeout=0.01)
    assert pauses == sorted(pauses)
    assert pauses[-1] == background.RETRY_SECONDS_MAX
    assert tasks.failing[0].times == 25


async def test_closing_ends_a_loop(tasks):
    async def work() -> float:
        return 3600.0

    task = tasks.repeat(work, "waiting")
    await asyncio.sleep(0)
    await tasks.close()
    assert task.cancelled()


def test_an_error_is_one_line():
    assert describe(ValueError("two\nlines")) == "two lines"
    assert describe(ValueError()) == "ValueError"
    assert describe(
        ExceptionGroup("several", [ExceptionGroup("x", [OSError("a")])])
    ) == ("a")


async def test_what_goes_on_for_ever_is_begun_anew_where_it_fails(tasks, caplog):
    begun = []

    async def work() -> None:
        begun.append(len(begun))
        if len(begun) < 4:
            raise ValueError("a router answered nonsense")
        await asyncio.sleep(60)

    tasks.run_forever(work, "port mapping")
    await until(lambda: len(begun) == 4)
    assert "port mapping failed and is tried again" in caplog.text
    await until(lambda: not tasks.failing)


async def test_what_fails_each_time_it_is_begun_is_shown(tasks):
    async def work() -> None:
        raise OSError("no interface")

    tasks.run_forever(work, "discovery")
    await until(lambda: tasks.failing and tasks.failing[0].times > 2)
    assert tasks.failing[0].error == "no interface"
