"""Pages of upstreams: asked once, kept, stale when the upstream is down."""

from __future__ import annotations

import asyncio
import gzip
import json
import time

import pytest

from node.gateway import limits
from node.gateway.bounded import BoundedCache
from node.gateway.origin import BusyError, DownError, SlowError
from node.gateway.page_cache import StoredPage
from node.gateway.pages import PageMissingError, UnreachableError
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
    found = await rig.gateway.indexes["pypi"].project("toy")
    assert isinstance(found, StoredPage)
    return [one["filename"] for one in json.loads(found.forms["json"])["files"]]


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


async def test_an_origin_that_cannot_be_reached_is_left_alone_for_a_while(
    tmp_path, monkeypatch
):
    """Each time it is asked costs seconds."""
    monkeypatch.setattr(limits, "PAGE_FRESH_SECONDS", 0.0)
    async with rig_in(tmp_path) as rig:
        rig.origin.pages[f"{INDEX}/toy/"] = project("1.0")
        await files(rig)
        rig.origin.dead = True
        start = time.time()
        rig.gateway.pages._now = lambda: start
        assert await files(rig) == [FILE]
        asked = len(rig.origin.asked)
        for later, more in ((-1, 0), (1, 1)):
            now = start + limits.DOWN_SECONDS + later
            rig.gateway.pages._now = lambda now=now: now
            assert await files(rig) == [FILE]
            assert len(rig.origin.asked) == asked + more


async def test_one_slow_page_makes_no_other_wait(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "PAGE_ATTEMPTS", 1)
    async with rig_in(tmp_path) as rig:
        rig.origin.dead = True
        rig.origin.error = SlowError("nothing came")
        with pytest.raises(UnreachableError):
            await files(rig)
        rig.origin.dead = False
        rig.origin.pages[f"{INDEX}/toy/"] = project("1.0")
        assert await files(rig) == [FILE]


async def test_without_an_old_page_a_dead_upstream_is_no_404_of_its_own(tmp_path):
    async with rig_in(tmp_path) as rig:
        rig.origin.dead = True
        with pytest.raises(UnreachableError) as raised:
            await files(rig)
        assert isinstance(raised.value.cause, DownError)


async def test_a_busy_upstream_is_asked_again_when_it_says(tmp_path):
    async with rig_in(tmp_path) as rig:
        rig.origin.dead = True
        rig.origin.error = BusyError(503, 0.1)
        rig.origin.pages[f"{INDEX}/toy/"] = project("1.0")
        asking = asyncio.create_task(files(rig))
        await rig.origin.was_asked.wait()
        rig.origin.dead = False
        assert await asking == [FILE]
        assert len(rig.origin.asked) == 2


async def test_a_page_a_little_old_is_answered_at_once(tmp_path):
    """It is asked for again in the background."""
    async with rig_in(tmp_path) as rig:
        rig.origin.pages[f"{INDEX}/toy/"] = project("1.0")
        await files(rig)
        rig.origin.pages[f"{INDEX}/toy/"] = project("2.0")
        later = time.time() + limits.PAGE_FRESH_SECONDS + 1
        rig.gateway.pages._now = lambda: later
        assert await files(rig) == [FILE]
        async with asyncio.timeout(10):
            while await files(rig) == [FILE]:  # noqa: ASYNC110 - nothing says so
                await asyncio.sleep(0.01)
        assert await files(rig) == [FILE.replace("1.0", "2.0")]


async def test_a_name_that_the_upstream_does_not_have(tmp_path):
    async with rig_in(tmp_path) as rig:
        with pytest.raises(PageMissingError):
            await files(rig)


async def test_an_absence_is_believed_for_a_day_and_no_longer(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "PAGE_FRESH_SECONDS", 0.0)
    async with rig_in(tmp_path) as rig:
        with pytest.raises(PageMissingError):
            await files(rig)
        rig.origin.dead = True
        with pytest.raises(PageMissingError):
            await files(rig)
        monkeypatch.setattr(limits, "ABSENT_SECONDS", 0.0)
        with pytest.raises(UnreachableError):
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
        with pytest.raises(UnreachableError):
            await rig.gateway.indexes["pypi"].project("bad")
        assert await files(rig) == [FILE]


@pytest.mark.parametrize(
    "portal",
    [
        "<html><body><h1>Welcome</h1><a href='/login?next=x'>log in</a></body></html>",
        "<html><body><form action=/login></form></body></html>",
        "",
    ],
)
async def test_a_captive_portal_does_not_replace_a_page(tmp_path, monkeypatch, portal):
    monkeypatch.setattr(limits, "PAGE_FRESH_SECONDS", 0.0)
    async with rig_in(tmp_path) as rig:
        rig.origin.pages[f"{INDEX}/toy/"] = project("1.0")
        await files(rig)
        rig.origin.kind = "text/html"
        rig.origin.pages[f"{INDEX}/toy/"] = portal.encode()
        assert await files(rig) == [FILE]


async def test_pages_survive_a_restart(tmp_path):
    async with rig_in(tmp_path) as rig:
        rig.origin.pages[f"{INDEX}/toy/"] = project("1.0")
        await files(rig)
    async with rig_in(tmp_path) as rig:
        assert await files(rig) == [FILE]
        assert rig.origin.asked == []
        digest = Digest.of(b"1.0")
        assert [one.file for one in await rig.gateway.named(digest)] == [FILE]


async def test_pages_are_bounded(tmp_path, monkeypatch):
    """The ones asked for longest ago go first."""
    monkeypatch.setattr(limits, "PAGES_DISK_BYTES_MAX", 6_000)
    async with rig_in(tmp_path) as rig:
        index = rig.gateway.indexes["pypi"]
        for number in range(20):
            rig.origin.pages[f"{INDEX}/toy{number}/"] = project("1.0")
            await index.project(f"toy{number}")
        paths = await rig.gateway.pages.paths("pypi", "")
        assert 1 <= len(paths) < 12
        assert paths[0] == "toy19/"


async def test_a_page_is_packed_behind_the_first_answer(tmp_path, monkeypatch):
    """And once only; the first client gets it as it is."""
    monkeypatch.setattr(limits, "PAGE_REST_SECONDS", 0.05)
    async with rig_in(tmp_path) as rig:
        rig.origin.pages[f"{INDEX}/toy/"] = project("1.0")
        pages = rig.gateway.pages
        page = await rig.gateway.indexes["pypi"].project("toy")
        page.forms["html"] = b"a form that is not kept"
        assert pages.packed(page, "html") is None
        for form in ("json", "html"):
            async with asyncio.timeout(10):
                while (packed := pages.packed(page, form)) is None:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            assert gzip.decompress(packed) == page.forms[form]


async def test_clients_go_before_what_is_written(tmp_path, monkeypatch):
    """While one waits, a page is packed and written when it is to be read there."""
    monkeypatch.setattr(limits, "PAGE_REST_SECONDS", 3600.0)
    async with rig_in(tmp_path) as rig:
        rig.origin.pages[f"{INDEX}/toy/"] = project("1.0")
        pages = rig.gateway.pages
        other = pages._flights.run(("pypi", "slow/"), asyncio.Event().wait)
        waiting = asyncio.create_task(other)
        page = await rig.gateway.indexes["pypi"].project("toy")
        await asyncio.sleep(0.05)
        assert pages.packed(page, "json") is None
        assert await pages.paths("pypi", "") == ["toy/"]
        assert pages.packed(page, "json") is not None
        waiting.cancel()


async def test_forms_that_are_made_from_others_are_not_written(tmp_path):
    async with rig_in(tmp_path) as rig:
        rig.origin.pages[f"{INDEX}/toy/"] = project("1.0")
        page = await rig.gateway.indexes["pypi"].project("toy")
        page.forms["html"] = b"made later"
    async with rig_in(tmp_path) as rig:
        page = await rig.gateway.indexes["pypi"].project("toy")
        assert set(page.forms) == {"json"}


def test_a_value_that_grows_counts_with_its_new_weight():
    cache = BoundedCache(10, len)
    first = [0] * 2
    cache.put("first", first)
    first += [0] * 6
    cache.put("second", [0] * 4)
    assert cache.get("first") is first  # its growth is not known yet
    cache.put("first", first)
    assert cache.get("second") is None
    cache.remove("first")
    cache.put("third", [0] * 10)
    assert cache.get("third") is not None
    cache.put("fourth", [0])
    assert cache.get("third") is None


async def test_the_file_says_how_old_a_page_is(tmp_path):
    """What is done to it while the node runs counts, as a copy that is put back."""
    async with rig_in(tmp_path) as rig:
        rig.origin.pages[f"{INDEX}/toy/"] = project("1.0")
        await files(rig)
        await rig.gateway.pages.paths("pypi", "")  # once it is written
        rig.origin.pages[f"{INDEX}/toy/"] = project("2.0")
        assert await files(rig) == [FILE]
        rig.database.execute("UPDATE gateway_page SET asked_at = asked_at - 100")
        assert await files(rig) == [FILE.replace("1.0", "2.0")]
