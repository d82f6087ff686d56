"""A Debian archive over a door: what is learned from signed files, what passes on."""

from __future__ import annotations

import hashlib
import lzma

import pytest

from tests.node.gateway.door import Opened, opened_in
from tests.node.gateway.rig import ARCHIVE

DEB = b"a package" * 100
PATH = "pool/main/t/toy_1.0+b1_all.deb"
BINARY = "dists/stable/main/binary-all"


def put(
    door: Opened, deb: bytes = DEB, algorithm: str = "sha256", path: str = PATH
) -> bytes:
    """Let the archive have one package, signed; returns its packed Packages file."""
    text = (
        f"Package: toy\nFilename: {path}\nSize: {len(deb)}\n"
        f"SHA256: {hashlib.sha256(deb).hexdigest()}\n"
    )
    packed = lzma.compress(text.encode())
    field = {"sha256": "SHA256", "sha512": "SHA512"}[algorithm]
    digest = hashlib.new(algorithm, packed).hexdigest()
    listed = f" {digest} {len(packed)} main/binary-all/Packages.xz\n"
    release = f"Suite: stable\n{field}:\n{listed}"
    origin = door.rig.origin
    origin.pages[f"{ARCHIVE}/dists/stable/InRelease"] = release.encode()
    origin.files[f"{ARCHIVE}/{BINARY}/Packages.xz"] = packed
    origin.files[f"{ARCHIVE}/{BINARY}/by-hash/{field}/{digest}"] = packed
    for written in (path, path.replace("+", "%2b")):
        origin.files[f"{ARCHIVE}/{written}"] = deb
    return packed


async def updated(door: Opened, *paths: str) -> None:
    """Ask for what `apt-get update` asks for."""
    for path in ("dists/stable/InRelease", *paths):
        assert (await door.ask(f"/debian/{path}")).status == 200


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
@pytest.mark.parametrize("by_hash", [True, False])
async def test_packages_are_verified_by_the_signed_lists(tmp_path, algorithm, by_hash):
    """With or without by-hash; a path goes out as apt writes it."""
    async with opened_in(tmp_path) as door:
        packed = put(door, algorithm=algorithm)
        digest = hashlib.new(algorithm, packed).hexdigest()
        name = f"by-hash/{algorithm.upper()}/{digest}" if by_hash else "Packages.xz"
        await updated(door, f"{BINARY}/{name}")
        answer = await door.ask("/debian/" + PATH.replace("+", "%2b"))
        assert (answer.status, answer.body) == (200, DEB)
        assert door.rig.origin.asked[-1] == f"{ARCHIVE}/{PATH.replace('+', '%2b')}"
        assert door.rig.origin.relayed == []
        assert str(hashlib.sha256(DEB).hexdigest()) in answer.headers["ETag"]


async def test_a_new_node_reads_the_lists_that_apt_has_already(tmp_path):
    """Apt asks only whether the signed file has changed."""
    async with opened_in(tmp_path) as door:
        put(door)
        await updated(door)
        assert (await door.ask(f"/debian/{PATH}")).body == DEB
        assert door.rig.origin.relayed == []
        await door.wait_for_artifacts(2)


async def test_a_percent_sign_is_part_of_a_name(tmp_path):
    """An epoch is written %3a in the name of a file; apt asks for it as %253a."""
    path, asked = "pool/x_1%3a2.0_all.deb", "pool/x_1%253a2.0_all.deb"
    async with opened_in(tmp_path) as door:
        put(door, path=path)
        del door.rig.origin.files[f"{ARCHIVE}/{path}"]
        door.rig.origin.files[f"{ARCHIVE}/{asked}"] = DEB
        await updated(door, f"{BINARY}/Packages.xz")
        answer = await door.ask(f"/debian/{asked}")
        assert (answer.status, answer.body) == (200, DEB)
        assert door.rig.origin.relayed == []
        for wrong in ("pool/%252e%252e/x", "%2e%2e/x", "pool/%2500"):
            assert (await door.ask(f"/debian/{wrong}")).status == 404


async def test_an_archive_without_suites_is_read_as_well(tmp_path):
    """`deb URL ./`: all of it lies in one folder, and names begin with "./"."""
    text = (
        f"Package: toy\nFilename: ./toy.deb\nSize: {len(DEB)}\n"
        f"SHA256: {hashlib.sha256(DEB).hexdigest()}\n"
    )
    sources = (
        "Package: toy\nDirectory: .\nChecksums-Sha256:\n"
        f" {hashlib.sha256(b'source').hexdigest()} 6 toy.dsc\n\n"
    )
    lists = {"Packages": text.encode(), "Sources": sources.encode()}
    release = "Suite: stable\nSHA256:\n" + "".join(
        f" {hashlib.sha256(body).hexdigest()} {len(body)} {name}\n"
        for name, body in lists.items()
    )
    async with opened_in(tmp_path) as door:
        origin = door.rig.origin
        origin.pages[f"{ARCHIVE}/InRelease"] = release.encode()
        for name, body in {**lists, "toy.deb": DEB, "toy.dsc": b"source"}.items():
            origin.files[f"{ARCHIVE}/{name}"] = body
            origin.files[f"{ARCHIVE}/./{name}"] = body
        for name in ("./InRelease", "./Packages", "./Sources"):
            assert (await door.ask(f"/debian/{name}")).status == 200
        assert (await door.ask("/debian/./toy.deb")).body == DEB
        assert (await door.ask("/debian/./toy.dsc")).body == b"source"
        assert origin.relayed == []
        await door.wait_for_artifacts(4)


async def test_what_no_signed_file_names_is_passed_on_and_not_kept(tmp_path):
    async with opened_in(tmp_path) as door:
        door.rig.origin.files[f"{ARCHIVE}/pool/x.deb"] = b"unknown"
        answer = await door.ask("/debian/pool/x.deb")
        assert (answer.status, answer.body) == (200, b"unknown")
        assert answer.headers["Cache-Control"] == "no-store"
        assert door.rig.store.artifacts() == []


async def test_the_newest_list_decides(tmp_path, monkeypatch):
    monkeypatch.setattr("node.gateway.limits.PAGE_FRESH_SECONDS", 0.0)
    async with opened_in(tmp_path) as door:
        for deb in (DEB, b"rebuilt under the same path"):
            packed = put(door, deb)
            digest = hashlib.sha256(packed).hexdigest()
            await updated(door, f"{BINARY}/by-hash/SHA256/{digest}")
            assert (await door.ask(f"/debian/{PATH}")).body == deb


async def test_a_wrong_package_is_not_served(tmp_path):
    async with opened_in(tmp_path) as door:
        packed = put(door)
        digest = hashlib.sha256(packed).hexdigest()
        await updated(door, f"{BINARY}/by-hash/SHA256/{digest}")
        door.rig.origin.files[f"{ARCHIVE}/{PATH}"] = b"something else"
        assert (await door.ask(f"/debian/{PATH}")).status == 404


NPM = "https://registry.npmjs.org"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "-/npm/v1/security/advisories/bulk"),
        ("POST", "-/npm/v1/security/audits/quick"),
        ("GET", "-/ping"),
        ("GET", "-/whoami"),
        ("GET", "-/v1/search?text=a%2Fb&size=20"),
        ("GET", "-/package/@s%2ftoy/dist-tags"),
        ("GET", "toy/1.0.0"),
    ],
)
async def test_what_npm_asks_beyond_packages_is_passed_on(tmp_path, method, path):
    """As it was asked, and without the credentials of the client."""
    async with opened_in(tmp_path) as door:
        door.rig.origin.files[f"{NPM}/{path}"] = b"{}"
        answer = await door.ask(
            f"/npm/{path}", method, Authorization="Bearer of-the-client"
        )
        assert (answer.status, answer.body) == (200, b"{}")
        (asked,) = door.rig.origin.relayed
        assert (asked.method, asked.url) == (method, f"{NPM}/{path}")
        assert "authorization" not in {name.lower() for name, _ in asked.headers}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "-/npm/v1/tokens"),
        ("POST", "-/npm/v1/tokens"),
        ("PUT", "-/package/toy/dist-tags/latest"),
        ("PUT", "toy"),
        ("POST", "-/v1/login"),
        ("GET", "-/user/org.couchdb.user:me"),
    ],
)
async def test_nothing_passes_that_reads_or_changes_an_account(tmp_path, method, path):
    """The upstream is asked with the owner's credentials."""
    async with opened_in(tmp_path) as door:
        assert (await door.ask(f"/npm/{path}", method)).status in (404, 405)
        assert door.rig.origin.relayed == []
