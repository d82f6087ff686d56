"""Pages of upstreams: asked once, kept, stale when the upstream is down."""

from __future__ import annotations

import asyncio
import json
import time

import pytest

from node.gateway import limits
from node.gateway.origin import DownError, SilentError
from node.gateway.published import AbsentError
from tests.node.gateway.rig import INDEX, rig_in
from transfer import Digest

FILE = "toy-1.0-py3-none-any.whl"


def project(*versions: str) -> bytes:
    files = [
        {
            "filename": f"toy-{version}-py3-none-any.whl",
            "url": f"https://files.test/{version}",
            "hashes": {"sha256": Digest.of(version.encode()).hex},
        }
        for version in versions
    ]
    return json.dumps({"meta": {"api-version": "1.0"}, "files": files}).encode()


async def files(rig) -> list[str]:
    return [one.name for one in (await rig.gateway.pypi.project("toy")).files]


async def test_many_who_ask_at_once_cause_one_request(tmp_path):
    async with rig_in(tmp_path) as rig:
        rig.origin.pages[f"{INDEX}/toy/"] = project("1.0")
        found = await asyncio.gather(*(files(rig) for _ in range(10)))
        assert found == [[FILE]] * 10
        assert len(rig.origin.asked) == 1


async def test_a_page_is_asked_for_again_after_a_while(tmp_path, monkeypatch):
    async with rig_in(tmp_path) as rig:
        rig.origin.pages[f"{INDEX}/toy/"] = project("1.0")
        await files(rig)
        rig.origin.pages[f"{INDEX}/toy/"] = project("1.0", "2.0")
        assert len(await files(rig)) == 1
        monkeypatch.setattr(limits, "PAGE_FRESH_SECONDS", 0.0)
        assert len(await files(rig)) == 2


async def test_an_old_page_is_served_when_the_upstream_is_down(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "PAGE_FRESH_SECONDS", 0.0)
    async with rig_in(tmp_path) as rig:
        rig.origin.pages[f"{INDEX}/toy/"] = project("1.0")
        await files(rig)
        rig.origin.dead = True
        assert await files(rig) == [FILE]


async def test_an_origin_that_is_silent_is_left_alone_for_longer(tmp_path, monkeypatch):
    """Each time it is asked costs seconds; one that refuses says so at once."""
    monkeypatch.setattr(limits, "PAGE_FRESH_SECONDS", 0.0)
    async with rig_in(tmp_path) as rig:
        rig.origin.pages[f"{INDEX}/toy/"] = project("1.0")
        await files(rig)
        rig.origin.dead = True
        for error, seconds in (
            (DownError("refused"), limits.DOWN_SECONDS),
            (SilentError("silent"), limits.SILENT_SECONDS),
        ):
            start = time.time()
            rig.gateway.pages._down_until.clear()
            rig.gateway.pages._now = lambda start=start: start
            rig.origin.error = error
            assert await files(rig) == [FILE]
            asked = len(rig.origin.asked)
            for later, more in ((seconds - 1, 0), (seconds + 1, 1)):
                rig.gateway.pages._now = lambda now=start + later: now
                assert await files(rig) == [FILE]
                assert len(rig.origin.asked) == asked + more


async def test_without_an_old_page_a_dead_upstream_is_no_404_of_its_own(tmp_path):
    """The sentence says that it could not be asked."""
    async with rig_in(tmp_path) as rig:
        rig.origin.dead = True
        with pytest.raises(AbsentError, match="cannot be asked"):
            await files(rig)


async def test_a_name_that_the_upstream_does_not_have(tmp_path):
    async with rig_in(tmp_path) as rig:
        with pytest.raises(AbsentError, match="nothing is called"):
            await files(rig)


async def test_an_absence_is_believed_for_a_day_and_no_longer(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "PAGE_FRESH_SECONDS", 0.0)
    async with rig_in(tmp_path) as rig:
        with pytest.raises(AbsentError):
            await files(rig)
        rig.origin.dead = True
        with pytest.raises(AbsentError, match="nothing is called"):
            await files(rig)
        monkeypatch.setattr(limits, "ABSENT_SECONDS", 0.0)
        with pytest.raises(AbsentError, match="cannot be asked"):
            await files(rig)


async def test_a_page_that_cannot_be_read_changes_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "PAGE_FRESH_SECONDS", 0.0)
    async with rig_in(tmp_path) as rig:
        rig.origin.pages[f"{INDEX}/toy/"] = project("1.0")
        await files(rig)
        rig.origin.pages[f"{INDEX}/toy/"] = b"<html>log in to this hotel</html>"
        assert await files(rig) == [FILE]


async def test_one_bad_page_does_not_make_an_upstream_seem_dead(tmp_path):
    async with rig_in(tmp_path) as rig:
        rig.origin.pages[f"{INDEX}/bad/"] = b"{"
        rig.origin.pages[f"{INDEX}/toy/"] = project("1.0")
        with pytest.raises(AbsentError):
            await rig.gateway.pypi.project("bad")
        assert await files(rig) == [FILE]
