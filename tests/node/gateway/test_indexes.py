"""cargo, npm and opam indexes, wheels' names, and digests in URLs."""

from __future__ import annotations

import base64
import bz2
import gzip
import hashlib
import io
import json
import lzma
import zipfile

import pytest

from node.gateway import limits, urls
from node.gateway.cargo import index as cargo
from node.gateway.debian import packages as debian
from node.gateway.npm import index as npm
from node.gateway.npm.packument import BASE, read_packument
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
    body = json.dumps(line).encode() + b"\n"
    page = cargo.read_crate(body, "https://dl.test/c", "cargo")
    file = page.files.find(Digest.parse(f"sha256:{SHA}"))
    assert file.url == "https://dl.test/c/toy/1.0.0/download"
    assert page.forms[""] == body


def test_a_bad_line_is_left_out():
    good = json.dumps({"name": "toy", "vers": "1.0.0", "cksum": SHA}).encode()
    body = b'{"name":"toy","vers":"0.1.0"}\n' + good + b"\n{\n"
    page = cargo.read_crate(body, "https://dl.test", "cargo")
    assert page.forms[""] == good + b"\n"


def test_markers_of_a_download_template_are_filled_in():
    template = "https://dl.test/{lowerprefix}/{crate}/{version}/{sha256-checksum}"
    url = cargo.download_url(template, cargo.CrateLine("Abcd", "1.0", SHA))
    assert url == f"https://dl.test/ab/cd/Abcd/1.0/{SHA}"


@pytest.mark.parametrize(
    "body", [b"[]", b"{", b'{"name":"a"}', b'{"name":"a","vers":"1","cksum":"x"}']
)
def test_what_is_no_crate_file_is_refused(body):
    with pytest.raises(ValueError, match=r".+"):
        cargo.read_crate(body, "https://dl.test", "cargo")


def packument(**dist: object) -> bytes:
    integrity = "sha512-" + base64.b64encode(SHA512).decode()
    tarball_url = "https://npm.test/toy/-/toy-1.0.0.tgz"
    made = {"tarball": tarball_url, "integrity": integrity, **dist}
    return json.dumps({"name": "toy", "versions": {"1.0.0": {"dist": made}}}).encode()


def test_a_packument_is_read_and_rewritten():
    page = read_packument(packument(), "npm", "toy")
    file = page.files.find_file("toy-1.0.0.tgz")
    assert (file.file, file.strong.raw) == ("toy-1.0.0.tgz", SHA512)
    ours = json.loads(page.forms[""].replace(BASE.encode(), b"http://127.0.0.1:1/npm"))
    url = ours["versions"]["1.0.0"]["dist"]["tarball"]
    assert url == "http://127.0.0.1:1/npm/toy/-/toy-1.0.0.tgz"


def test_a_tarball_without_a_digest_is_passed_through():
    """Its registry may want a password, which only the node has."""
    page = read_packument(packument(integrity=""), "npm", "toy")
    assert page.files.find_file("toy-1.0.0.tgz") is None
    url = page.files.url_without_digest("toy-1.0.0.tgz")
    assert url == "https://npm.test/toy/-/toy-1.0.0.tgz"
    assert b"npm.test" not in page.forms[""]


def test_tarballs_of_one_name_are_told_apart_by_their_versions():
    versions = {
        version: {
            "dist": {
                "tarball": f"https://npm.test/{version}/package.tgz",
                "shasum": hashlib.sha1(version.encode()).hexdigest(),
            }
        }
        for version in ("1.0.0", "1.1.0")
    }
    body = json.dumps({"name": "toy", "versions": versions}).encode()
    files = read_packument(body, "npm", "toy").files
    for version in versions:
        url = files.find_file(f"toy-{version}.tgz").url
        assert url == f"https://npm.test/{version}/package.tgz"


def test_a_bad_version_of_a_packument_is_left_out():
    document = json.loads(packument())
    document["versions"]["0.1.0"] = {"dist": {"tarball": 5}}
    page = read_packument(json.dumps(document).encode(), "npm", "toy")
    assert list(json.loads(page.forms[""])["versions"]) == ["1.0.0"]


@pytest.mark.parametrize("body", [b"[]", b"{}", b"{", b'{"name": "a", "versions": 5}'])
def test_what_is_no_packument_is_refused(body):
    with pytest.raises(ValueError, match=r".+"):
        read_packument(body, "npm", "toy")


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
    files = opam.read_index(body, "opam").files
    archive = files.find(Digest.of(b"x", "md5"))
    assert archive.url == "https://a.test/toy-1.0.tar.gz"
    assert [one.algorithm for one in archive.digests] == ["sha512", "md5"]
    assert files.find(Digest.parse(SHA)).url == "https://a.test/fix"
    assert b"\n=toy\n" in files.text


@pytest.mark.parametrize(
    ("section", "url"),
    [
        ('src: "https://a.test/x" # a } in a comment', "https://a.test/x"),
        ('src: "https://a.test/}x"', "https://a.test/}x"),
        ('src: """https://a.test/x"""', "https://a.test/x"),
        ('archive: [ "https://a.test/x" ]', "https://a.test/x"),
    ],
)
def test_braces_in_comments_and_strings_end_no_section(section, url):
    text = f'url {{\n{section}\nchecksum: "{hashlib.md5(b"x").hexdigest()}"\n}}\n'
    files = opam.read_index(tarball({"packages/a/a.1/opam": text}), "opam").files
    assert files.find(Digest.of(b"x", "md5")).url == url


def test_an_old_repository_has_a_file_for_the_url():
    text = f'archive: "https://a.test/x"\nchecksum: "{hashlib.md5(b"x").hexdigest()}"\n'
    packed = tarball({"packages/a/a.1/opam": "", "packages/a/a.1/url": text})
    files = opam.read_index(packed, "opam").files
    assert files.find(Digest.of(b"x", "md5")).url == "https://a.test/x"


def test_a_repository_that_unpacks_to_too_much_is_refused(monkeypatch):
    monkeypatch.setattr(limits, "ARCHIVE_BYTES_MAX", 10_000)
    with pytest.raises(ValueError, match="too much"):
        opam.read_index(tarball({"packages/toy/toy.1.0/opam": "x" * 20_000}), "opam")


def stanza(path: str) -> bytes:
    return f"Package: toy\nFilename: {path}\nSize: 7\nSHA256: {SHA}\n\n".encode()


@pytest.mark.parametrize("pack", [bytes, gzip.compress, lzma.compress, bz2.compress])
@pytest.mark.parametrize(
    "path", ["pool/main/t/toy_1.0_all.deb", "packages/x+y~1.deb", "./toy.deb"]
)
def test_a_packages_file_of_debian_is_read(pack, path):
    body = stanza(path) + stanza("pool/main/\tx")
    found = debian.read_packages(io.BytesIO(pack(body)), "debian", "https://deb.test/")
    plain = path.removeprefix("./")
    file = found.find_file(plain)
    assert file.url == f"https://deb.test/{plain}"
    assert (file.strong.hex, file.size) == (SHA, 7)


@pytest.mark.parametrize(
    ("path", "is_one"),
    [
        ("pool/a_1:2~3+b=4.deb", True),
        ("./a.deb", True),
        ("../a.deb", False),
        ("pool/../../a", False),
        ("pool/..\\a", False),
        ("pool/./a", True),
        ("pool//a", True),
        ("/a", True),
        ("a/", False),
        ("a b{c}`\u00fc", True),
        ("a%2f..", False),
        ("a%2e%2e", False),
        ("a\nb", False),
        ("a\x00", False),
        ("a?b", True),
        ("./", False),
        ("", False),
    ],
)
def test_paths_below_an_archive(path, is_one):
    assert debian.is_path(path) == is_one


def test_a_sources_file_of_debian_is_read():
    text = f"Package: toy\nDirectory: pool/t\nChecksums-Sha256:\n {SHA} 7 toy.dsc\n\n"
    body = io.BytesIO(text.encode())
    file = debian.read_packages(body, "debian", "https://deb.test/").find_file(
        "pool/t/toy.dsc"
    )
    assert (file.strong.hex, file.size) == (SHA, 7)


def test_a_release_file_of_debian_is_read():
    sums = f"MD5Sum:\n {'0' * 32} 1 a/Packages\nSHA256:\n {SHA} 7 a/Packages\n"
    text = "Suite: stable\n" + sums
    (file,) = debian.read_release(text.encode())
    assert (file.path, file.digest, file.size) == ("a/Packages", f"sha256:{SHA}", 7)
    with pytest.raises(ValueError, match="no Release"):
        debian.read_release(b"<html>log in</html>")


def test_a_packages_file_that_unpacks_to_too_much_is_refused(monkeypatch):
    monkeypatch.setattr(limits, "ARCHIVE_BYTES_MAX", 100)
    for pack in (gzip.compress, lzma.compress, bz2.compress):
        packed = io.BytesIO(pack(b"x" * 1000))
        with pytest.raises(ValueError, match="too much"):
            debian.read_packages(packed, "debian", "https://deb.test/")


@pytest.mark.parametrize("body", [b"", b"no gzip", b"\x1f\x8b\x08\x00"])
def test_what_is_no_repository_is_refused(body):
    with pytest.raises(ValueError, match=r".+"):
        opam.read_index(body, "opam")


def test_metadata_comes_out_of_a_wheel(tmp_path):
    path = tmp_path / "toy-1.0-py3-none-any.whl"
    path.write_bytes(wheel("toy", "1.0", "hello", needs=("other",)))
    assert b"Requires-Dist: other" in (wheels.read_metadata(path) or b"")


def test_a_wheel_that_lies_about_its_size_is_bounded(tmp_path, monkeypatch):
    """A bomb: a few bytes that unpack to more than metadata may have."""
    monkeypatch.setattr(limits, "METADATA_BYTES_MAX", 1000)
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
