"""Published names beside upstream ones: one rule for every index, over a door."""

from __future__ import annotations

import io
import json
import tarfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import pytest

from node.errors import NobodyOffersError
from node.gateway import limits
from node.gateway.published import PublishedPackage
from node.model.packages import ArtifactEntry
from node.releases.newest import Release
from node.settings import Winner
from tests.end_to_end.packages import crate, npm_package, opam_text, tarball
from tests.node.gateway.door import Opened, opened_in
from tests.node.publishers import record
from transfer import Digest

CRATES, NPM, OPAM = (
    "https://index.crates.io",
    "https://registry.npmjs.org",
    "https://opam.ocaml.org",
)


@dataclass
class Ecosystem:
    """One index: where it has `toy`, what is published there, what upstream says."""

    path: str
    files: dict[str, bytes]
    upstream: dict[str, bytes]
    """Pages of an upstream that has the name."""
    base: dict[str, bytes]
    """Pages of one that has not."""


def cargo() -> Ecosystem:
    config = {f"{CRATES}/config.json": b'{"dl": "https://crates.test"}'}
    line = {"name": "toy", "vers": "1.0.0", "cksum": "00" * 32}
    return Ecosystem(
        "/cargo/index/3/t/toy",
        {"toy-1.0.0.crate": crate("toy", "hello")},
        config | {f"{CRATES}/3/t/toy": json.dumps(line).encode()},
        config,
    )


def npm() -> Ecosystem:
    page = {"name": "toy", "versions": {}}
    return Ecosystem(
        "/npm/toy",
        {"toy-1.0.0.tgz": npm_package("toy", "hello")},
        {f"{NPM}/toy": json.dumps(page).encode()},
        {},
    )


def opam() -> Ecosystem:
    def index(name: str) -> dict[str, bytes]:
        files = {f"packages/{name}/{name}.0.1/opam": opam_text(name)}
        return {f"{OPAM}/index.tar.gz": tarball(files)}

    return Ecosystem(
        "/opam/published/packages/toy/toy.1.0.0/opam",
        {"opam": opam_text("toy").encode()},
        index("toy"),
        index("other"),
    )


DEEP = "[" * 100_000
ALL = pytest.mark.parametrize("make", [cargo, npm, opam])
Make = Callable[[], Ecosystem]


def publish(
    door: Opened, files: dict[str, bytes], name: str = "toy", *, why_not: str = ""
) -> None:
    """Have a followed publisher offer a package, whose files are here."""
    entries = []
    for file, data in files.items():
        door.rig.store.add_bytes(data)
        entries.append(ArtifactEntry(file, len(data), str(Digest.of(data)), "00" * 32))
    published = door.rig.gateway.indexes["cargo"]._context.published
    published._trust.follow(bytes(32), name, "never")

    async def newest(publisher: bytes, name: str) -> PublishedPackage:
        found = [] if why_not else entries
        return PublishedPackage(publisher, name, "1.0.0", found, why_not)

    published._newest = newest


def prefer(door: Opened, winner: Winner) -> None:
    context = door.rig.gateway.indexes["cargo"]._context
    cast("dict[str, Winner]", context.winners)["toy"] = winner


@ALL
async def test_a_name_that_the_upstream_does_not_have_is_served(
    tmp_path, make: Make, monkeypatch
):
    """Later, with the upstream down, its word is believed for a day."""
    monkeypatch.setattr(limits, "PAGE_FRESH_SECONDS", 0.0)
    async with opened_in(tmp_path) as door:
        ecosystem = make()
        publish(door, ecosystem.files)
        door.rig.origin.pages |= ecosystem.base
        answer = await door.ask(ecosystem.path)
        assert answer.status == 200
        door.rig.origin.dead = True
        assert (await door.ask(ecosystem.path)).body == answer.body
        monkeypatch.setattr(limits, "ABSENT_SECONDS", 0.0)
        answer = await door.ask(ecosystem.path)
        assert answer.status == 409
        assert "cannot be asked" in answer.document["error"]


@ALL
async def test_a_name_that_appears_upstream_later_is_a_clash(
    tmp_path, make: Make, monkeypatch
):
    monkeypatch.setattr(limits, "PAGE_FRESH_SECONDS", 0.0)
    async with opened_in(tmp_path) as door:
        ecosystem = make()
        publish(door, ecosystem.files)
        door.rig.origin.pages |= ecosystem.base
        assert (await door.ask(ecosystem.path)).status == 200
        door.rig.origin.pages |= ecosystem.upstream
        answer = await door.ask(ecosystem.path)
        assert answer.status == 409
        assert "[gateway.names]" in answer.document["error"]


@ALL
async def test_a_setting_says_who_wins(tmp_path, make: Make):
    async with opened_in(tmp_path) as door:
        ecosystem = make()
        publish(door, ecosystem.files)
        door.rig.origin.pages |= ecosystem.upstream
        prefer(door, "network")
        assert (await door.ask(ecosystem.path)).status == 200
        prefer(door, "upstream")
        answer = await door.ask(ecosystem.path)
        assert answer.status == (404 if make is opam else 200)
        assert answer.status == 404 or b"1.0.0.crate" not in answer.body


@ALL
async def test_an_upstream_cannot_take_a_name_whose_release_is_lost(
    tmp_path, make: Make
):
    """It is known that somebody published it, and not what."""
    async with opened_in(tmp_path) as door:
        ecosystem = make()
        publish(door, ecosystem.files, why_not="its package file cannot be had now")
        door.rig.origin.pages |= ecosystem.upstream
        answer = await door.ask(ecosystem.path)
        assert answer.status == 409
        assert "cannot be had now" in answer.document["error"]


@pytest.mark.parametrize(
    ("make", "files"),
    [
        (cargo, {"toy-1.0.0.crate": crate("other", "a trap")}),
        (cargo, {"toy-1.0.0.crate": b"no archive"}),
        (npm, {"toy-1.0.0.tgz": npm_package("other", "a trap")}),
        (npm, {"toy-1.0.0.tgz": tarball({"package/package.json": "{"})}),
        (npm, {"toy-1.0.0.tgz": tarball({"package/package.json": DEEP})}),
        (cargo, {"toy-1.0.0.crate": tarball({"toy-1.0.0/Cargo.toml": "a=" + DEEP})}),
        (opam, {"opam": b"\xff\xfe"}),
        (opam, {"opam": opam_text("toy", 'name: "other"').encode()}),
        (opam, {"opam": b"x" * (limits.ARCHIVE_MEMBER_BYTES_MAX + 1)}),
    ],
)  # fmt: skip
async def test_a_file_that_is_not_what_it_is_called_is_not_served(
    tmp_path, make: Make, files
):
    async with opened_in(tmp_path) as door:
        publish(door, files)
        door.rig.origin.pages |= make().base
        answer = await door.ask(make().path)
        assert answer.status == 404
        assert "cannot be served" in answer.document["error"]


@pytest.mark.parametrize("make", [cargo, npm])
async def test_a_page_that_takes_too_long_is_a_404(tmp_path, make: Make, monkeypatch):
    """In good time: clients wait for about fifteen seconds, and then ask again."""
    monkeypatch.setattr(limits, "MISS_SECONDS_MAX", 0.2)
    async with opened_in(tmp_path) as door:
        publish(door, make().files)
        door.rig.origin.pages |= make().base
        missing = next(iter(door.rig.store.artifacts()))
        door.rig.store.remove(missing.digest)
        door.rig.peers.hang = True
        answer = await door.ask(make().path)
        assert answer.status == 404
        assert "no peer started" in answer.document["error"]


async def test_a_file_is_read_once(tmp_path, monkeypatch):
    async with opened_in(tmp_path) as door:
        ecosystem = cargo()
        publish(door, ecosystem.files)
        door.rig.origin.pages |= ecosystem.base
        first = await door.ask(ecosystem.path)
        monkeypatch.setattr("node.gateway.cargo.index.read_line", None)
        assert (await door.ask(ecosystem.path)).body == first.body


async def test_a_crate_is_not_taken_for_one_spelled_otherwise(tmp_path, monkeypatch):
    """crates.io tells neither case nor - from _, so neither does the rule."""
    monkeypatch.setattr(limits, "PAGE_FRESH_SECONDS", 0.0)
    async with opened_in(tmp_path) as door:
        publish(door, {"toy_box-1.0.0.crate": crate("toy_box", "a trap")}, "toy_box")
        line = {"name": "toy-box", "vers": "1.0.0", "cksum": "00" * 32}
        door.rig.origin.pages |= cargo().base
        path = "/cargo/index/to/y_/toy_box"
        assert (await door.ask(path)).status == 200
        door.rig.origin.pages[f"{CRATES}/to/y-/toy-box"] = json.dumps(line).encode()
        assert (await door.ask(path)).status == 409


async def test_an_upstream_without_its_config_has_not_said_404(tmp_path):
    """A hotel's login page, or a moved index, is no word about any name."""
    async with opened_in(tmp_path) as door:
        publish(door, cargo().files)
        assert (await door.ask(cargo().path)).status == 409


async def test_a_release_that_is_known_but_not_to_be_had_is_lost(tmp_path):
    """The package file is nowhere; that differs from never published."""

    class Releases:
        def known(self, *_: object):
            return known

        async def newest(self, *_: object):
            raise NobodyOffersError("nobody")

        async def package_of(self, *_: object):
            raise NobodyOffersError("nobody")

    async with opened_in(tmp_path) as door:
        published = door.rig.gateway.indexes["cargo"]._context.published
        published._trust.follow(bytes(32), "toy", "never")
        published._releases = Releases()
        known = None
        door.rig.origin.pages |= cargo().upstream
        assert (await door.ask(cargo().path)).status == 200
        known = Release(record(name="toy", expires_at=4e9), 0, 0.0)
        assert (await door.ask(cargo().path)).status == 409


async def test_opams_repository_does_not_wait_for_what_does_not_come(
    tmp_path, monkeypatch
):
    """However many packages are missing: what is there is served, in time."""
    monkeypatch.setattr(limits, "MISS_SECONDS_MAX", 0.5)
    text = opam_text("toy").encode()
    async with opened_in(tmp_path) as door:
        publish(door, {"opam": text})
        published = door.rig.gateway.indexes["opam"]._context.published
        here = ArtifactEntry("opam", len(text), str(Digest.of(text)), "00" * 32)
        for number in range(4):
            published._trust.follow(bytes(32), f"gone{number}", "never")

        async def newest(publisher: bytes, name: str) -> PublishedPackage:
            away = ArtifactEntry("opam", 9, str(Digest.of(name.encode())), "00" * 32)
            entry = here if name == "toy" else away
            return PublishedPackage(publisher, name, "1.0.0", [entry], "")

        published._newest = newest
        door.rig.peers.hang = True
        prefer(door, "network")
        winners = cast(
            "dict[str, Winner]", door.rig.gateway.indexes["opam"]._context.winners
        )
        winners.update({f"gone{number}": "network" for number in range(4)})
        began = time.monotonic()
        answer = await door.ask("/opam/published/index.tar.gz")
        assert time.monotonic() - began < 1.4
        with tarfile.open(fileobj=io.BytesIO(answer.body)) as archive:
            assert archive.getnames() == ["repo", "packages/toy/toy.1.0.0/opam"]
            said = archive.extractfile("repo").read().decode()
        assert all(f"gone{number}" in said or "in time" in said for number in range(4))
