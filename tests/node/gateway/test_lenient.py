"""Pages as indexes write them in real life: odd texts, bad entries, no page at all."""

from __future__ import annotations

import base64
import hashlib
import json

import pytest

from node.gateway import json_text
from node.gateway.cargo.index import read_crate
from node.gateway.npm.packument import BASE, read_packument
from node.gateway.origin import OriginPage
from node.gateway.python import simple
from tests.node.gateway.door import opened_in

SHA = "ab" * 32
URL = "https://index.test/simple/toy/"
GOOD = {
    "filename": "toy-1.0.tar.gz",
    "url": "https://files.test/toy-1.0.tar.gz",
    "hashes": {"sha256": SHA},
}
LINK = f'<a href="https://files.test/toy-1.0.tar.gz#sha256={SHA}">toy</a>'
NPM = "https://npm.test/"


def page(body: bytes | str, kind: str = simple.JSON_TYPE) -> OriginPage:
    data = body.encode() if isinstance(body, str) else body
    return OriginPage(data, kind, "", URL)


def names(read: simple.Project) -> list[str]:
    return [one.name for one in read.files if one.digests]


def document(*entries: object, **more: object) -> str:
    return json.dumps({"meta": {"api-version": "1.0"}, "files": entries, **more})


@pytest.mark.parametrize(
    "body",
    [
        document({**GOOD, "filename": "\ud800.whl"}, GOOD),
        document(GOOD, versions=["\ud800", None, "1.0"]),
        document({**GOOD, "requires-python": "\ud800", "yanked": "\udfff"}),
        document(GOOD, score=float("nan"), more=float("inf")),
        b"\xef\xbb\xbf" + document(GOOD).encode(),
        document(GOOD, note="zz").encode().replace(b"zz", b"\xe9"),
        json.dumps({"files": [GOOD]}),
        json.dumps({"meta": None, "files": [None, GOOD]}),
    ],
)
def test_odd_texts_spoil_no_json_page(body):
    read = simple.read_project("toy", page(body))
    assert names(read) == ["toy-1.0.tar.gz"]
    assert json.loads(simple.write_json(read))["files"][0]["hashes"] == {"sha256": SHA}


def test_a_hash_counts_in_the_fragment_of_a_json_url():
    for fragment in (f"sha256={SHA}", f"egg=toy&sha256={SHA}&x=y"):
        entry = {**GOOD, "url": f"{GOOD['url']}#{fragment}", "hashes": {}}
        (file,) = simple.read_project("toy", page(document(entry))).files
        assert (file.url, file.digests) == (GOOD["url"], (f"sha256:{SHA}",))


def test_a_hash_that_only_clients_verify_is_passed_on():
    value = "cd" * 48
    for one in (
        page(document({**GOOD, "hashes": {"sha384": value}})),
        page(f"<a href='/toy-1.0.tar.gz#sha384={value}'>toy</a>", "text/html"),
    ):
        ours = simple.write_json(simple.read_project("toy", one))
        assert json.loads(ours)["files"][0]["hashes"] == {"sha384": value}
        assert b"unverified/toy/toy-1.0.tar.gz#sha384=" in simple.html_of(ours)


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("<base href='/f/'><base href='/other/'>", "https://index.test/f/x-1.whl"),
        ("<base href='//cdn.test/g/'>", "https://cdn.test/g/x-1.whl"),
        ("", "https://index.test/simple/toy/x-1.whl"),
    ],
)
def test_the_first_base_counts(text, url):
    body = f"{text}<a href='x-1.whl#sha256={SHA}'>x</a>"
    (file,) = simple.read_project("toy", page(body, "text/html")).files
    assert file.url == url


@pytest.mark.parametrize("charset", ["utf-8", "utf-16", "iso-8859-1", "unknown-8"])
def test_a_page_in_the_encoding_that_it_names(charset):
    coding = "utf-8" if charset == "unknown-8" else charset
    body = f"<p>caf\xe9</p>{LINK}".encode(coding)
    read = simple.read_project("toy", page(body, f'text/html; charset="{charset}"'))
    assert names(read) == ["toy-1.0.tar.gz"]


@pytest.mark.parametrize(
    "link",
    [
        "<a href='/agent-setup.exe'>our agent</a>",
        "<a href='https://portal.test/root-ca.zip'>its authority</a>",
        "<a href='/tool-1.0-py3-none-any.whl'>a tool</a>",
        "<a href='/login?next=x'>log in</a>",
    ],
)
def test_a_portal_with_something_to_download_is_no_index(link):
    with pytest.raises(ValueError, match=r"project"):
        simple.read_project("toy", page(f"<h1>Welcome</h1>{link}", "text/html"))


def test_a_bare_page_with_a_file_of_the_project_is_one():
    body = "<a href='/Toy-1.0.zip'>it</a><a href='/toy-1.0-setup.exe'>old</a>"
    assert len(simple.read_project("toy", page(body, "text/html")).files) == 2


@pytest.mark.parametrize("body", [b"", b"\n\n", b"<html>", b"null"])
def test_an_answer_without_a_line_of_a_crate_is_refused(body):
    with pytest.raises(ValueError, match=r".+"):
        read_crate(body, "https://dl.test", "cargo")


def test_a_line_that_is_no_utf8_is_left_out():
    bad = b'{"name":"to\xffy","vers":"0.1.0","cksum":"%s"}' % SHA.encode()
    good = b'{"name":"toy","vers":"1.0.0","cksum":"%s"}' % SHA.encode()
    read = read_crate(b"\n".join([bad, good]), "https://dl.test", "cargo")
    assert read.forms[""] == good + b"\n"


def packument(tarball: str = f"{NPM}t.tgz", **more: object) -> bytes:
    integrity = "sha512-" + base64.b64encode(hashlib.sha512(b"x").digest()).decode()
    versions = {"1.0.0": {"dist": {"tarball": tarball, "integrity": integrity}}}
    return json.dumps({"name": "toy", "versions": versions, **more}).encode()


@pytest.mark.parametrize(
    "body",
    [
        packument(name=None),
        packument(readme="\ud83d"),
        packument(score=float("nan")),
        packument(score=float("nan"), readme="\ud83d"),
        b"\xef\xbb\xbf" + packument(),
        packument(author="zz").replace(b"zz", b"Jos\xe9"),
    ],
)
def test_odd_texts_spoil_no_packument(body):
    read = read_packument(body, "npm", "toy")
    assert read.files.find_file("toy-1.0.0.tgz").strong.algorithm == "sha512"
    ours = json_text.loads(read.forms[""])["versions"]["1.0.0"]["dist"]["tarball"]
    assert ours == f"{BASE}/toy/-/toy-1.0.0.tgz"


@pytest.mark.parametrize(
    "body",
    [b'{"name":"Error","message":"x"}', b'{"name":"toy","error":"x"}', b"null", b"[]"],
)
def test_the_error_of_a_proxy_is_no_packument(body):
    with pytest.raises(ValueError, match=r".+"):
        read_packument(body, "npm", "toy")


@pytest.mark.parametrize(
    ("registry", "url"),
    [
        (NPM, f"{NPM}toy/-/toy-1.0.0.tgz"),
        (
            "https://registry.npmjs.org/",
            "https://registry.npmjs.org/toy/-/toy-1.0.0.tgz",
        ),
    ],
)
def test_the_public_registrys_host_stands_for_the_one_in_use(registry, url):
    body = packument("https://registry.npmjs.org/toy/-/toy-1.0.0.tgz")
    read = read_packument(body, "npm", "toy", registry=registry)
    assert read.files.find_file("toy-1.0.0.tgz").url == url


async def test_a_name_that_may_lead_to_other_bytes_is_asked_for_again(tmp_path):
    """Npm's tarball URLs hold no digest, and a version can be rebuilt."""
    async with opened_in(tmp_path) as door:
        origin = door.rig.origin
        origin.pages["https://registry.npmjs.org/toy"] = packument()
        origin.files[f"{NPM}t.tgz"] = b"x"
        answer = await door.ask("/npm/toy/-/toy-1.0.0.tgz")
        assert (answer.status, answer.body) == (200, b"x")
        assert answer.headers["Cache-Control"] == "no-cache"
        await door.wait_for_artifacts(1)
        held = await door.ask(f"/blob/sha256/{hashlib.sha256(b'x').hexdigest()}")
        assert "immutable" in held.headers["Cache-Control"]


async def test_a_web_page_is_no_package(tmp_path):
    async with opened_in(tmp_path) as door:
        origin = door.rig.origin
        link = "<a href='https://files.test/toy-1.0.tar.gz'>toy</a>"
        origin.kind, origin.pages[URL] = "text/html", link.encode()
        origin.files["https://files.test/toy-1.0.tar.gz"] = b"<h1>Welcome</h1>"
        origin.relay_kind = "text/html; charset=utf-8"
        await door.ask("/pypi/simple/toy/")
        path = "/pypi/unverified/toy/toy-1.0.tar.gz"
        assert (await door.ask(path)).status == 502
        origin.relay_kind = "application/octet-stream"
        answer = await door.ask(path, Range="bytes=0-3")
        assert answer.status == 200
        assert ("Range", "bytes=0-3") in origin.relayed[-1].headers


async def test_a_file_without_a_digest_is_asked_for_again(tmp_path):
    async with opened_in(tmp_path) as door:
        origin = door.rig.origin
        link = "<a href='https://files.test/toy-1.0.tar.gz'>toy</a>"
        origin.kind, origin.pages[URL] = "text/html", link.encode()
        origin.files["https://files.test/toy-1.0.tar.gz"] = b"bytes"
        path = "/pypi/unverified/toy/toy-1.0.tar.gz"
        for statuses, status in (([503, 200], 200), ([404, 200], 404)):
            origin.relay_statuses = statuses
            origin.relay_kind = "application/octet-stream"
            assert (await door.ask(path)).status == status
