"""Debian archives as others make them: spellings, paths, what is missing."""

from __future__ import annotations

import gzip
import hashlib
import io
import lzma

import pytest

from node.gateway.debian import packages
from tests.node.gateway.door import Opened, opened_in
from tests.node.gateway.rig import ARCHIVE
from tests.node.gateway.test_archives_of_debian import BINARY, DEB, PATH, put, updated

SUITE = "dists/stable"
SHA256 = hashlib.sha256(DEB).hexdigest()


def read(text: str) -> packages.NamedFiles:
    return packages.read_packages(io.BytesIO(text.encode()), "debian", f"{ARCHIVE}/")


def put_lists(
    door: Opened, lists: dict[str, bytes], *, listed: tuple[str, ...]
) -> None:
    """Let the archive have these lists below its suite; name only those `listed`."""
    lines = "".join(
        f" {hashlib.sha256(body).hexdigest()} {len(body)} {name}\n"
        for name, body in lists.items()
        if name in listed
    )
    origin = door.rig.origin
    origin.pages[f"{ARCHIVE}/{SUITE}/InRelease"] = (
        f"Suite: x\nSHA256:\n{lines}".encode()
    )
    for name, body in lists.items():
        origin.files[f"{ARCHIVE}/{SUITE}/{name}"] = body


def stanza(path: str) -> bytes:
    return f"Package: toy\nFilename: {path}\nSHA256: {SHA256}\n".encode()


# --- what is read -----------------------------------------------------------------


def test_a_stanza_without_a_digest_takes_none_of_the_next():
    """Whatever the order of their fields is."""
    found = read(
        f"Filename: weak.deb\nMD5sum: {'0' * 32}\n\nSHA256: {SHA256}\nFilename: b.deb\n"
    )
    assert found.find_file("weak.deb") is None
    assert found.find_file("b.deb").strong.hex == SHA256


@pytest.mark.parametrize(
    "text",
    [
        f"filename:\ta.deb\nsha256: {SHA256}\n",
        f"FILENAME: a.deb \nSha256:  {SHA256.upper()}\n",
        f"Filename: a.deb\r\nSHA256: {SHA256}\r\n\r\n",
        f" \nFilename: .//a.deb\nSHA256: {SHA256}",
    ],
)
def test_spellings_of_fields_are_equal(text):
    assert read(text).find_file("a.deb").strong.hex == SHA256


@pytest.mark.parametrize("end", ["", "\n", "\n\n"])
@pytest.mark.parametrize("field", ["Checksums-Sha256", "checksums-sha256"])
def test_the_last_source_package_is_read(end, field):
    text = f"Package: toy\nDirectory: pool/t/\n{field}:\n {SHA256} 7 toy.dsc{end}"
    assert read(text).find_file("pool/t/toy.dsc").size == 7


def test_source_packages_by_sha512_alone_are_read():
    digest = hashlib.sha512(b"x").hexdigest()
    text = f"Package: toy\nDirectory: .\nChecksums-Sha512:\n {digest} 1 toy.dsc\n"
    assert read(text).find_file("toy.dsc").strong.hex == digest


# --- what is asked ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "asked", "origin"),
    [
        ("pool//a.deb", "pool//a.deb", "pool//a.deb"),
        ("/pool/a.deb", "pool/a.deb", "pool/a.deb"),
        ("pool/a b.deb", "pool/a%20b.deb", "pool/a%20b.deb"),
        ("pool/ü.deb", "pool/%c3%bc.deb", "pool/%c3%bc.deb"),
        ("pool/{a}|b.deb", "pool/{a}|b.deb", "pool/{a}|b.deb"),
    ],
)
async def test_any_path_that_a_list_names_is_served(tmp_path, path, asked, origin):
    async with opened_in(tmp_path) as door:
        put_lists(door, {"Packages": stanza(path)}, listed=("Packages",))
        door.rig.origin.files[f"{ARCHIVE}/{origin}"] = DEB
        await updated(door, f"{SUITE}/Packages")
        answer = await door.ask(f"/debian/{asked}")
        assert (answer.status, answer.body) == (200, DEB)
        assert door.rig.origin.relayed == []


async def test_an_index_that_by_hash_lacks_is_fetched_by_its_name(tmp_path):
    async with opened_in(tmp_path) as door:
        digest = hashlib.sha256(put(door)).hexdigest()
        path = f"{BINARY}/by-hash/SHA256/{digest}"
        del door.rig.origin.files[f"{ARCHIVE}/{path}"]
        await updated(door, path)
        assert (await door.ask(f"/debian/{PATH}")).body == DEB


async def test_signed_files_are_as_new_as_at_the_upstream(tmp_path):
    """Apt asks for what the newest names, and that may be all that is left."""
    async with opened_in(tmp_path) as door:
        put(door)
        await updated(door)
        put(door, b"another package")
        release = door.rig.origin.pages[f"{ARCHIVE}/{SUITE}/InRelease"]
        assert (await door.ask(f"/debian/{SUITE}/InRelease")).body == release
        await updated(door, f"{BINARY}/Packages.xz")
        assert (await door.ask(f"/debian/{PATH}")).body == b"another package"


async def test_a_signature_apart_is_known_while_the_upstream_is_down(tmp_path):
    async with opened_in(tmp_path) as door:
        origin = door.rig.origin
        for name in ("Release", "Release.gpg"):
            origin.pages[f"{ARCHIVE}/{SUITE}/{name}"] = f"Suite: {name}".encode()
            assert (await door.ask(f"/debian/{SUITE}/{name}")).status == 200
        origin.dead = True
        for name in ("Release", "Release.gpg"):
            answer = await door.ask(f"/debian/{SUITE}/{name}")
            assert answer.body == f"Suite: {name}".encode()


# --- lists older than the node ----------------------------------------------------


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress])
async def test_a_form_of_a_list_that_is_missing_is_no_end(tmp_path, pack):
    """A Release may name what its server lacks."""
    lists = {"Packages.xz": lzma.compress(b""), "Packages.gz": pack(stanza("a.deb"))}
    async with opened_in(tmp_path) as door:
        put_lists(door, lists, listed=tuple(lists))
        del door.rig.origin.files[f"{ARCHIVE}/{SUITE}/Packages.xz"]
        door.rig.origin.files[f"{ARCHIVE}/a.deb"] = DEB
        await updated(door)
        assert (await door.ask("/debian/a.deb")).body == DEB
        assert door.rig.origin.relayed == []


@pytest.mark.parametrize(
    ("folder", "name", "file"),
    [
        ("main/binary-sparc/Packages", "pool/toy_1_sparc.deb", "pool/toy_1_sparc.deb"),
        ("main/source/Sources", "toy_1.dsc", "pool/toy_1.dsc"),
    ],
)
async def test_lists_of_other_machines_and_of_sources_are_learned(
    tmp_path, folder, name, file
):
    source = f"Directory: pool\nChecksums-Sha256:\n {SHA256} 1 {name}\n".encode()
    text = stanza(name) if name.endswith(".deb") else source
    async with opened_in(tmp_path) as door:
        put_lists(door, {folder: text}, listed=(folder,))
        door.rig.origin.files[f"{ARCHIVE}/{file}"] = DEB
        await updated(door)
        assert (await door.ask(f"/debian/{file}")).body == DEB
        assert door.rig.origin.relayed == []
        await door.wait_for_artifacts(2)


async def test_a_list_that_was_forgotten_is_read_again(tmp_path):
    async with opened_in(tmp_path) as door:
        put(door)
        await updated(door, f"{BINARY}/Packages.xz")
        door.rig.gateway.pages._memory.clear()
        for table in ("gateway_page", "gateway_digests"):
            statement = f"DELETE FROM {table} WHERE path LIKE 'list:%'"
            door.rig.store.database.write(lambda one, said=statement: one.execute(said))
        assert (await door.ask(f"/debian/{PATH}")).body == DEB
        assert door.rig.origin.relayed == []
