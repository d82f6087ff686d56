"""The simple API: both forms read, both forms written, nothing believed too much."""

from __future__ import annotations

import hashlib
import json

import pytest

from node.gateway.page_cache import StoredPage
from node.gateway.python import simple
from transfer import Digest

SHA = hashlib.sha256(b"a wheel").hexdigest()
FILE = "toy-1.0-py3-none-any.whl"


def page(
    body: str, kind: str, url: str = "https://index.test/simple/toy/"
) -> StoredPage:
    return StoredPage(url, kind, "", 0.0, False, body.encode())


def json_page(**file: object) -> StoredPage:
    entry = {"filename": FILE, "url": f"../../f/{FILE}", "hashes": {"sha256": SHA}}
    document = {"meta": {"api-version": "1.1"}, "files": [{**entry, **file}]}
    return page(json.dumps(document), simple.JSON_TYPE)


def test_a_json_page_is_read():
    project = simple.read_project("toy", json_page(size=7, yanked="broken"))
    (file,) = project.files
    assert file.url == f"https://index.test/f/{FILE}"
    assert file.digests == (Digest.parse(f"sha256:{SHA}"),)
    assert (file.size, file.more) == (7, {"yanked": "broken"})


def test_an_html_page_is_read():
    text = (
        f'<a href="../../f/{FILE}#sha256={SHA}" data-requires-python="&gt;=3.8" '
        f'data-yanked="" data-core-metadata="sha256={SHA}">x</a>'
    )
    (file,) = simple.read_project("toy", page(text, "text/html")).files
    assert file.name == FILE
    assert file.more == {"requires-python": ">=3.8", "yanked": True}
    assert file.metadata == Digest.parse(f"sha256:{SHA}")


def test_the_path_of_a_file_host_names_its_blake2b():
    """As a hint, beside the digest that the page states."""
    blake2b = hashlib.blake2b(b"a wheel", digest_size=32).hexdigest()
    url = (
        f"https://files.test/packages/{blake2b[:2]}/{blake2b[2:4]}/{blake2b[4:]}/{FILE}"
    )
    (file,) = simple.read_project("toy", json_page(url=url)).files
    assert Digest.parse(f"blake2b-256:{blake2b}") in file.digests
    assert file.digests[0].algorithm == "sha256"


@pytest.mark.parametrize(
    "name", ["../evil.whl", "a/b.whl", "a\\b.whl", ".hidden", "", "a\nb.whl", "x" * 300]
)
def test_a_file_name_that_could_be_a_path_is_left_out(name):
    assert simple.read_project("toy", json_page(filename=name)).files == []


@pytest.mark.parametrize(
    "body", ["[]", "{}", '{"meta":{"api-version":"2.0"},"files":[]}', "{", "\x00"]
)
def test_what_is_no_page_is_refused(body):
    with pytest.raises(ValueError, match=r".+"):
        simple.read_project("toy", page(body, simple.JSON_TYPE))


def test_our_pages_have_relative_urls_and_digests():
    """Both forms, read back by our own reader."""
    project = simple.read_project("toy", json_page(size=7))
    for body, kind in [
        (simple.write_json(project), simple.JSON_TYPE),
        (simple.write_html(project), "text/html"),
    ]:
        ours = page(body.decode(), kind, "http://127.0.0.1:1/pypi/simple/toy/")
        (file,) = simple.read_project("toy", ours).files
        assert file.url == f"http://127.0.0.1:1/pypi/files/sha256/{SHA}/{FILE}"
        assert file.digests == project.files[0].digests
        assert file.metadata is True


def test_a_file_without_a_digest_keeps_its_own_url():
    """It cannot be verified here, so it does not come through here."""
    project = simple.read_project("toy", json_page(hashes={}))
    assert simple.named_files(project) == []
    entry = json.loads(simple.write_json(project))["files"][0]
    assert entry["url"] == f"https://index.test/f/{FILE}"
    assert "core-metadata" not in entry


def test_html_is_escaped():
    project = simple.read_project("toy", json_page(filename='a"><b>.whl'))
    assert b"<b>" not in simple.write_html(project)


def test_names_are_normalized():
    assert simple.normalized("Foo_.-Bar") == "foo-bar"
