"""Work that nobody waits for pauses while content moves, within bounds."""

from __future__ import annotations

import os
import threading
import time

import pytest

from transfer import Store
from transfer.errors import ClosedError
from transfer.store import aliases, quiet
from transfer.store.quiet import Activity, Pauses

DATA = os.urandom(700_000)


def never() -> bool:
    return False


def test_while_nothing_moves_there_is_no_pause():
    began = time.monotonic()
    Pauses(Activity(), threading.Event()).pause(never)
    assert time.monotonic() - began < quiet.QUIET_SECONDS / 2


def test_a_pause_lasts_until_nothing_has_moved_for_a_moment():
    moving = Activity()
    moving.mark()
    began = time.monotonic()
    Pauses(moving, threading.Event()).pause(never)
    assert time.monotonic() - began >= quiet.QUIET_SECONDS * 0.9


def test_a_job_pauses_for_so_long_and_no_longer(monkeypatch):
    """A peer that always sends does not keep aliases from being known."""
    monkeypatch.setattr(quiet, "PAUSES_SECONDS_MAX", 0.1)

    class Endless(Activity):
        def quiet_in(self, now):
            return quiet.QUIET_SECONDS

    pauses = Pauses(Endless(), threading.Event())
    pauses.pause(never)
    began = time.monotonic()
    for _ in range(100):
        pauses.pause(never)
    assert time.monotonic() - began < 0.05


def test_what_becomes_urgent_waits_no_longer():
    moving = Activity()
    moving.mark()
    began = time.monotonic()
    Pauses(moving, threading.Event()).pause(lambda: True)
    assert time.monotonic() - began < quiet.QUIET_SECONDS / 2


def test_a_stop_ends_a_pause():
    moving, stop = Activity(), threading.Event()
    moving.mark()
    stop.set()
    with pytest.raises(ClosedError):
        Pauses(moving, stop).pause(never)


def test_aliases_that_are_asked_for_end_the_pause_of_the_background(
    tmp_path, monkeypatch
):
    """Who asks does not wait for other transfers, and the file is hashed once."""
    path = tmp_path / "file"
    path.write_bytes(DATA)
    paused = threading.Event()

    class Endless(Activity):
        begun = False

        def quiet_in(self, now):
            if not self.begun:  # so that the job takes the file up
                self.begun = True
                return 0.0
            paused.set()
            return quiet.QUIET_SECONDS

    with Store(tmp_path / "home") as store:
        artifact = store.add(path, algorithms=["sha256"])
        store.activity = Endless()
        stop = threading.Event()
        job = threading.Thread(target=aliases.fill, args=(store, stop))
        monkeypatch.setattr(aliases, "EAGER_BYTES_MAX", 1)
        monkeypatch.setattr(quiet, "PAUSES_SECONDS_MAX", 60.0)
        job.start()
        try:
            assert paused.wait(5)
            began = time.monotonic()
            found = store.with_aliases(artifact.digest)
            assert found.has_all_aliases
            assert time.monotonic() - began < 2
        finally:
            job.join(5)
            stop.set()
            job.join(5)


async def test_a_transfer_is_activity_at_both_ends(new_node):
    """Whatever its size."""
    for data in (DATA, DATA[:1000]):
        seeder, leecher = await new_node(), await new_node()
        artifact = seeder.store.add_bytes(data)
        for node in (seeder, leecher):
            assert not node.store.activity.quiet_in(time.monotonic())
        await leecher.download(artifact.digest, [seeder.peer])
        for node in (seeder, leecher):
            assert node.store.activity.quiet_in(time.monotonic())
