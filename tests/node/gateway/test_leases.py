"""Bringing a file or a page together: who is followed, and what a liar gains."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from node.gateway import limits
from node.gateway.leases import HOLDERS_MAX, KEPT_BYTES_MAX, OriginLeases
from node.gateway.named_files import NamedFiles
from node.gateway.origin import OriginPage
from node.gateway.pages import PageMissingError, PageRequest, ReadPage
from node.gateway.resolver import MissError, StreamedFile
from node.gateway.site_pages import decode, encode
from node.gateway.upstream import Upstream
from tests.node.gateway.rig import INDEX, rig_in
from tests.transfer.conftest import until
from transfer import Digest, Peer, PeerError
from transfer.arrivals import Arrivals, HeldBytes

DATA = random.Random(1).randbytes(300_000)
LARGE = random.Random(2).randbytes(limits.STREAM_BYTES_MIN + 1000)
ONE, TWO = Peer("127.0.0.1", 4001, b"1" * 32), Peer("127.0.0.1", 4002, b"2" * 32)
UPSTREAM = Upstream("pypi", f"{INDEX}/")


@dataclass
class Site:
    """Who holds each lease in turn, and what the holders give; a made-up network."""

    holders: list[Peer | None] = field(default_factory=list)
    gives: dict[Peer, list[bytes | Exception]] = field(default_factory=dict)
    failed: list[bytes | None] = field(default_factory=list)
    starts: list[tuple[Peer, int]] = field(default_factory=list)
    is_leased: bool = True
    hold: asyncio.Event | None = None

    async def lease_holder(
        self, kind: str, name: bytes, failed: bytes | None
    ) -> Peer | None:
        self.failed.append(failed)
        return self.holders.pop(0) if self.holders else None

    async def follow(
        self, peer: Peer, kind: str, name: bytes, *, start: int = 0
    ) -> AsyncIterator[tuple[bytes, int | None]]:
        self.starts.append((peer, start))
        for part in self.gives[peer]:
            if isinstance(part, Exception):
                raise part
            if self.hold is not None:
                await self.hold.wait()
            yield part, self.size
        return

    size: int | None = len(DATA)


def leases_of(site: Site, **options: Any) -> OriginLeases:
    follower: Any = site
    return OriginLeases(
        router=site, arrivals=Arrivals(), follower=follower, is_private=True,
        has_pages=True, **options,
    )  # fmt: skip


def has_begun(leases: OriginLeases, digest: Digest) -> bool:
    """Whether there is something of a file to follow."""
    found = leases.arrivals.find(digest.algorithm, digest.raw)
    return found is not None and found.file is not None and found.file.length > 0


async def test_the_holder_asks_the_origin_and_lets_others_follow(tmp_path):
    site = Site([None])
    leases = leases_of(site)
    async with rig_in(tmp_path, leases=leases) as rig:
        digest, named = rig.name(DATA)
        rig.origin.pause = asyncio.Event()
        task = asyncio.create_task(rig.gateway.resolver.resolve(digest, named))
        await until(lambda: has_begun(leases, digest))
        found = leases.arrivals.find("sha256", digest.raw)
        assert found.file.read(0, 10) == DATA[:10]
        assert not found.file.ended
        rig.origin.pause.set()
        await task
        assert found.file.ended
        assert found.file.error is None
        assert leases.arrivals.find("sha256", digest.raw) is None, "it is in the store"


async def test_others_follow_the_holder_and_verify(tmp_path):
    site = Site([ONE], {ONE: [DATA[:1000], DATA[1000:]]})
    async with rig_in(tmp_path, leases=leases_of(site)) as rig:
        digest, named = rig.name(DATA)
        artifact = await rig.gateway.resolver.resolve(digest, named)
        assert rig.store.read(artifact) == DATA
        assert rig.origin.asked == []
        assert rig.gateway.sources.source_of(artifact) == "peers"


async def test_nothing_is_passed_on_to_other_nodes_before_it_is_verified(tmp_path):
    site = Site([ONE], {ONE: [DATA[:1000], DATA[1000:]]}, hold=asyncio.Event())
    leases = leases_of(site)
    async with rig_in(tmp_path, leases=leases) as rig:
        digest, named = rig.name(DATA)
        task = asyncio.create_task(rig.gateway.resolver.resolve(digest, named))
        await until(lambda: bool(site.starts))
        assert leases.arrivals.find("sha256", digest.raw) is None
        site.hold.set()
        await task


async def test_a_holder_that_fails_half_way_is_replaced_where_it_ended(tmp_path):
    site = Site(
        [ONE, TWO], {ONE: [DATA[:1000], PeerError()], TWO: [DATA[1000:]]}
    )  # fmt: skip
    async with rig_in(tmp_path, leases=leases_of(site)) as rig:
        digest, named = rig.name(DATA)
        assert rig.store.read(await rig.gateway.resolver.resolve(digest, named)) == DATA
        assert site.failed == [None, ONE.public_key]
        assert site.starts[0] == (ONE, 0)
        assert rig.origin.asked == []


async def test_whoever_takes_over_asks_the_origin_and_is_followed(tmp_path):
    site = Site([ONE, None], {ONE: [DATA[:1000], PeerError()]})
    leases = leases_of(site)
    async with rig_in(tmp_path, leases=leases) as rig:
        digest, named = rig.name(DATA)
        rig.origin.pause = asyncio.Event()
        task = asyncio.create_task(rig.gateway.resolver.resolve(digest, named))
        await until(lambda: has_begun(leases, digest))
        rig.origin.pause.set()
        assert rig.store.read(await task) == DATA


@pytest.mark.parametrize(
    "lies",
    [
        [b"x" * len(DATA)],
        [DATA[:-1]],
        [DATA + b"more"],
        [b""],
        [],
        [b"y" * 1000, PeerError()],
    ],
)
async def test_a_liar_gains_nothing(tmp_path, lies):
    """Its bytes are not kept, the origin's are, and it is not followed again."""
    site = Site([ONE, None], {ONE: lies})
    leases = leases_of(site)
    async with rig_in(tmp_path, leases=leases) as rig:
        digest, named = rig.name(DATA)
        artifact = await rig.gateway.resolver.resolve(digest, named)
        assert rig.store.read(artifact) == DATA
        assert leases.is_distrusted(ONE)
        other, named = rig.name(DATA + b"2", "https://files.test/2")
        site.holders = [ONE, None]
        await rig.gateway.resolver.resolve(other, named)
        assert [peer for peer, _ in site.starts].count(ONE) == 1


async def test_after_a_few_holders_the_origin_is_asked_without_a_lease(tmp_path):
    site = Site([ONE, TWO] * 10, {ONE: [PeerError()], TWO: [PeerError()]})
    async with rig_in(tmp_path, leases=leases_of(site)) as rig:
        digest, named = rig.name(DATA)
        await rig.gateway.resolver.resolve(digest, named)
        assert len(site.starts) == HOLDERS_MAX
        assert len(rig.origin.asked) == 1


async def test_a_client_never_gets_a_complete_wrong_file_of_a_holder(tmp_path):
    site = Site([ONE], {ONE: [LARGE[:-1], b"?"]}, size=len(LARGE))
    async with rig_in(tmp_path, leases=leases_of(site)) as rig:
        digest, named = rig.name(LARGE)
        rig.origin.files.clear()
        found = await rig.gateway.resolver.open(digest, named)
        assert isinstance(found, StreamedFile)
        with pytest.raises(MissError):
            await found.whole()
        found.close()


@pytest.mark.parametrize("options", [{"is_enabled": False}, {}])
async def test_where_leases_are_off_nobody_is_asked_for_one(tmp_path, options):
    site = Site([ONE], {ONE: [DATA]}, is_leased=bool(options))
    async with rig_in(tmp_path, leases=leases_of(site, **options)) as rig:
        digest, named = rig.name(DATA)
        await rig.gateway.resolver.resolve(digest, named)
        assert site.failed == []
        assert len(rig.origin.asked) == 1


async def test_files_of_a_private_upstream_have_no_lease(tmp_path):
    site = Site([ONE], {ONE: [DATA]})
    async with rig_in(tmp_path, leases=leases_of(site), share=False) as rig:
        digest, named = rig.name(DATA)
        await rig.gateway.resolver.resolve(digest, named)
        assert site.failed == []


# --- pages -----------------------------------------------------------------------


def request(path: str = "toy/") -> PageRequest:
    def read(page: OriginPage) -> ReadPage:
        return ReadPage(NamedFiles("pypi"), {"raw": page.body})

    return PageRequest(UPSTREAM, path, "text/html", read)


def page(body: bytes = b"a page", **changes: Any) -> OriginPage:
    values = {"content_type": "text/html", "etag": '"1"', "url": f"{INDEX}/toy/"}
    return OriginPage(body, **{**values, **changes})


def sent(content: HeldBytes) -> list[bytes | Exception]:
    return [content.read(0, content.size)]


async def test_a_member_gives_a_page_that_it_has_asked_for(tmp_path):
    site = Site([ONE], {ONE: sent(encode(page()))})
    async with rig_in(tmp_path, leases=leases_of(site)) as rig:
        found = await rig.gateway.pages.get(request())
        assert found.forms["raw"] == b"a page"
        assert found.etag == '"1"'
        assert rig.origin.asked == []


async def test_the_holder_keeps_a_page_for_others(tmp_path):
    leases = leases_of(Site([None]))
    async with rig_in(tmp_path, leases=leases) as rig:
        rig.origin.pages[f"{INDEX}/toy/"] = b"a page"
        await rig.gateway.pages.get(request())
        ((_, kept),) = leases.arrivals._arrivals.items()
        assert decode(kept.file.read(0, kept.file.size), UPSTREAM).body == b"a page"


async def test_what_is_kept_is_bounded(monkeypatch):
    leases = leases_of(Site())
    for number in range(5):
        with leases.turn("page", bytes([number]) * 32) as turn:
            turn.keep(HeldBytes(bytes(KEPT_BYTES_MAX // 3)))
    assert len(leases.arrivals._arrivals) == 3


async def test_that_there_is_no_such_page_is_passed_on(tmp_path):
    site = Site([ONE], {ONE: sent(encode(None))})
    async with rig_in(tmp_path, leases=leases_of(site)) as rig:
        with pytest.raises(PageMissingError):
            await rig.gateway.pages.get(request())
        assert rig.origin.asked == []


async def test_unchanged_says_nothing_to_one_that_knows_nothing(tmp_path):
    site = Site([ONE, None], {ONE: sent(encode(page(b"", unchanged=True)))})
    async with rig_in(tmp_path, leases=leases_of(site)) as rig:
        rig.origin.pages[f"{INDEX}/toy/"] = b"of the upstream"
        assert (await rig.gateway.pages.get(request())).forms["raw"] == (
            b"of the upstream"
        )
        assert site.failed == [None, ONE.public_key]


@pytest.mark.parametrize(
    "lie",
    [
        b"nonsense",
        b"",
        encode(page()).read(0, 20),
        encode(page(url="http://169.254.169.254:22/")).read(0, 10_000),
        encode(page(url="file:///etc/passwd")).read(0, 10_000),
        encode(page(bytes(limits.PAGE_BYTES_MAX))).read(0, 10**9),
        b"x\x9c" + b"\0" * 100,
    ],
)
async def test_what_is_no_page_is_asked_of_the_upstream(tmp_path, lie):
    site = Site([ONE, None], {ONE: [lie]})
    async with rig_in(tmp_path, leases=leases_of(site)) as rig:
        rig.origin.pages[f"{INDEX}/toy/"] = b"of the upstream"
        found = await rig.gateway.pages.get(request())
        assert found.forms["raw"] == b"of the upstream"


async def test_pages_come_from_members_of_a_private_network_only(tmp_path):
    site = Site([ONE], {ONE: sent(encode(page()))})
    follower: Any = site
    leases = OriginLeases(
        router=site, arrivals=Arrivals(), follower=follower, has_pages=True
    )
    async with rig_in(tmp_path, leases=leases) as rig:
        rig.origin.pages[f"{INDEX}/toy/"] = b"of the upstream"
        found = await rig.gateway.pages.get(request())
        assert found.forms["raw"] == b"of the upstream"
        assert site.failed == []


def test_digests_and_pages_have_names_of_their_own() -> None:
    """A page can never be asked for as a file, nor the other way round."""
    assert Digest.of(b"").algorithm != "page"
