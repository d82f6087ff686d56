"""cargo, npm and opam indexes, wheels' names, and digests in URLs."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import lzma
import zipfile

import pytest

from node.gateway import limits, urls
from node.gateway.cargo import index as cargo
from node.gateway.debian import index as debian
from node.gateway.npm import index as npm
from node.gateway.opam import index as opam
from node.gateway.python import wheels
from tests.end_to_end.packages import tarball, wheel
from transfer import Digest

SHA = hashlib.sha256(b"x").hexdigest()
SHA512 = hashlib.sha512(b"x").digest()


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("a", "1/a"),
        ("ab", "2/ab"),
        ("abc", "3/a/abc"),
        ("abcd", "ab/cd/abcd"),
        ("Serde_Json", "se/rd/serde_json"),
    ],
)
def test_where_a_sparse_index_has_a_crate(name, path):
    assert cargo.index_path(name) == path


def test_a_crate_file_is_read():
    line = {"name": "toy", "vers": "1.0.0", "cksum": SHA, "deps": []}
    (file,) = cargo.read_crate(json.dumps(line).encode() + b"\n", "https://dl.test/c")
    assert file.url == "https://dl.test/c/toy/1.0.0/download"
    assert file.digests == (Digest.parse(f"sha256:{SHA}"),)


def test_markers_of_a_download_template_are_filled_in():
    template = "https://dl.test/{lowerprefix}/{crate}/{version}/{sha256-checksum}"
    url = cargo.download_url(template, "Abcd", "1.0", SHA)
    assert url == f"https://dl.test/ab/cd/Abcd/1.0/{SHA}"


@pytest.mark.parametrize(
    "body", [b"[]", b"{", b'{"name":"a"}', b'{"name":"a","vers":"1","cksum":"x"}']
)
def test_what_is_no_crate_file_is_refused(body):
    with pytest.raises(ValueError, match=r".+"):
        cargo.read_crate(body, "https://dl.test")


def packument(**dist: object) -> bytes:
    integrity = "sha512-" + base64.b64encode(SHA512).decode()
    tarball_url = "https://npm.test/toy/-/toy-1.0.0.tgz"
    made = {"tarball": tarball_url, "integrity": integrity, **dist}
    return json.dumps({"name": "toy", "versions": {"1.0.0": {"dist": made}}}).encode()


def test_a_packument_is_read_and_rewritten():
    (file,) = npm.read_packument(packument(), "toy")
    assert (file.file, file.strong.raw) == ("toy-1.0.0.tgz", SHA512)
    ours = json.loads(npm.rewrite(packument(), "toy", "http://127.0.0.1:1"))
    url = ours["versions"]["1.0.0"]["dist"]["tarball"]
    assert url == "http://127.0.0.1:1/npm/toy/-/toy-1.0.0.tgz"


def test_a_tarball_without_a_digest_is_left_alone():
    body = packument(integrity="")
    assert npm.read_packument(body, "toy") == []
    ours = json.loads(npm.rewrite(body, "toy", "http://127.0.0.1:1"))
    assert "npm.test" in ours["versions"]["1.0.0"]["dist"]["tarball"]


@pytest.mark.parametrize(
    ("path", "name", "file"),
    [
        ("toy", "toy", None),
        ("@scope%2ftoy", "@scope/toy", None),
        ("@scope/toy/-/toy-1.0.0.tgz", "@scope/toy", "toy-1.0.0.tgz"),
        ("toy/-/toy-1.0.0.tgz", "toy", "toy-1.0.0.tgz"),
    ],
)
def test_paths_below_the_registry(path, name, file):
    assert npm.split_path(path) == (name, file)


@pytest.mark.parametrize(
    "name", ["..", "../x", "a/b", "@a/b/c", ".npmrc", "", "-/ping", "a b", "@/x"]
)
def test_what_no_package_is_called(name):
    assert not npm.is_package_name(name)


OPAM = f"""
url {{
  src: "https://a.test/toy-1.0.tar.gz"
  checksum: ["md5={hashlib.md5(b"x").hexdigest()}" "sha512={SHA512.hex()}"]
}}
extra-source "fix.patch" {{ src: "https://a.test/fix" checksum: "sha256={SHA}" }}
"""


def test_an_opam_repository_is_read():
    body = tarball({"packages/toy/toy.1.0/opam": OPAM, "repo": "", "x/opam": OPAM})
    archive, patch = opam.read_index(body)
    assert archive.url == "https://a.test/toy-1.0.tar.gz"
    assert [one.algorithm for one in archive.digests] == ["sha512", "md5"]
    assert patch.strong.hex == SHA


def test_a_repository_that_unpacks_to_too_much_is_refused(monkeypatch):
    monkeypatch.setattr(limits, "ARCHIVE_BYTES_MAX", 10_000)
    with pytest.raises(ValueError, match="too much"):
        opam.read_index(tarball({"packages/toy/toy.1.0/opam": "x" * 20_000}))


def stanza(path: str) -> bytes:
    return f"Package: toy\nFilename: {path}\nSize: 7\nSHA256: {SHA}\n\n".encode()


@pytest.mark.parametrize("pack", [bytes, gzip.compress, lzma.compress])
def test_a_packages_file_of_debian_is_read(pack):
    body = stanza("pool/main/t/toy_1.0_all.deb") + stanza("pool/../../etc/passwd")
    found = list(debian.read_packages(io.BytesIO(pack(body)), "https://deb.test/"))
    (file,) = found
    assert file.url == "https://deb.test/pool/main/t/toy_1.0_all.deb"
    assert (file.strong.hex, file.size) == (SHA, 7)


def test_a_packages_file_that_unpacks_to_too_much_is_refused(monkeypatch):
    monkeypatch.setattr(limits, "ARCHIVE_BYTES_MAX", 100)
    packed = io.BytesIO(gzip.compress(b"x" * 1000))
    with pytest.raises(ValueError, match="too much"):
        list(debian.read_packages(packed, "https://deb.test/"))


@pytest.mark.parametrize("body", [b"", b"no gzip", b"\x1f\x8b\x08\x00"])
def test_what_is_no_repository_is_refused(body):
    with pytest.raises(ValueError, match=r".+"):
        opam.read_index(body)


def test_metadata_comes_out_of_a_wheel(tmp_path):
    path = tmp_path / "toy-1.0-py3-none-any.whl"
    path.write_bytes(wheel("toy", "1.0", "hello", needs=("other",)))
    assert b"Requires-Dist: other" in (wheels.read_metadata(path) or b"")


def test_a_wheel_that_lies_about_its_size_is_bounded(tmp_path, monkeypatch):
    """A bomb: a few bytes that unpack to more than metadata may have."""
    monkeypatch.setattr(wheels, "METADATA_BYTES_MAX", 1000)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a-1.dist-info/METADATA", b"0" * 100_000)
    path = tmp_path / "a-1-py3-none-any.whl"
    path.write_bytes(stream.getvalue())
    assert wheels.read_metadata(path) is None
    path.write_bytes(b"no zip at all")
    assert wheels.read_metadata(path) is None


def test_digests_in_urls():
    assert urls.blob_digest("sha256", SHA) == Digest.parse(SHA)
    text = base64.urlsafe_b64encode(bytes.fromhex(SHA)).decode().rstrip("=")
    assert urls.ni_digest("sha-256", text) == Digest.parse(SHA)
    assert urls.opam_digest("sha256", SHA[:2], SHA) == Digest.parse(SHA)
    pool = urls.pool_digest(SHA[:2], SHA[2:4], SHA[4:])
    assert pool == Digest.parse(f"blake2b-256:{SHA}")


@pytest.mark.parametrize(
    ("algorithm", "text"),
    [("sha256", SHA[:-1]), ("sha3", SHA), ("sha256", "../../etc"), ("md5", SHA)],
)
def test_what_is_no_digest_in_a_url(algorithm, text):
    assert urls.blob_digest(algorithm, text) is None


def test_an_opam_path_whose_folder_differs_is_none():
    assert urls.opam_digest("sha256", "zz", SHA) is None
    assert urls.opam_digest("blake2b-256", SHA[:2], SHA) is None
