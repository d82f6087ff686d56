"""The simple API: both forms read, both forms written, nothing believed too much."""

from __future__ import annotations

import hashlib
import json
from urllib.parse import urljoin

import pytest

from node.gateway.origin import OriginPage
from node.gateway.python import simple
from node.gateway.python.plain_page import read_plain
from node.gateway.python.wheels import normalized
from transfer import Digest

SHA = hashlib.sha256(b"a wheel").hexdigest()
FILE = "toy-1.0-py3-none-any.whl"


def page(
    body: str, kind: str, url: str = "https://index.test/simple/toy/"
) -> OriginPage:
    return OriginPage(body.encode(), kind, "", url)


def json_page(**file: object) -> OriginPage:
    entry = {"filename": FILE, "url": f"../../f/{FILE}", "hashes": {"sha256": SHA}}
    document = {"meta": {"api-version": "1.1"}, "files": [{**entry, **file}]}
    return page(json.dumps(document), simple.JSON_TYPE)


def test_a_json_page_is_read():
    project = simple.read_project("toy", json_page(size=7, yanked="broken"))
    (file,) = project.files
    assert file.url == f"https://index.test/f/{FILE}"
    assert file.digests == (f"sha256:{SHA}",)
    assert (file.size, file.more) == (7, {"yanked": "broken"})


def test_an_html_page_is_read():
    text = (
        f'<a href="../../f/{FILE}#sha256={SHA}" data-requires-python="&gt;=3.8" '
        f'data-yanked="" data-core-metadata="sha256={SHA}">x</a>'
    )
    (file,) = simple.read_project("toy", page(text, "text/html")).files
    assert file.name == FILE
    assert file.more == {"requires-python": ">=3.8", "yanked": True}
    assert file.metadata == f"sha256:{SHA}"


def test_the_path_of_a_file_host_names_its_blake2b():
    """As a hint, beside the digest that the page states."""
    blake2b = hashlib.blake2b(b"a wheel", digest_size=32).hexdigest()
    url = (
        f"https://files.test/packages/{blake2b[:2]}/{blake2b[2:4]}/{blake2b[4:]}/{FILE}"
    )
    project = simple.read_project("toy", json_page(url=url))
    files = simple.named_files(project, "pypi")
    for digest in (f"blake2b-256:{blake2b}", f"sha256:{SHA}"):
        file = files.find(Digest.parse(digest))
        assert file.strong == Digest.parse(f"sha256:{SHA}")
        assert Digest.parse(f"blake2b-256:{blake2b}") in file.digests
        assert Digest.parse(digest).raw[:8] in files.prefixes()


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


@pytest.mark.parametrize(
    ("said", "kept"), [({"sha256": SHA}, f"sha256:{SHA}"), (True, True), (None, False)]
)
def test_our_pages_have_relative_urls_and_digests(said, kept):
    """Both forms, read back by our own reader; metadata as the index has it."""
    project = simple.read_project("toy", json_page(size=7, **{"core-metadata": said}))
    written = simple.write_json(project)
    for body, kind in [
        (written, simple.JSON_TYPE),
        (simple.html_of(written), "text/html"),
    ]:
        ours = page(body.decode(), kind, "http://127.0.0.1:1/pypi/simple/toy/")
        (file,) = simple.read_project("toy", ours).files
        assert file.url == f"http://127.0.0.1:1/pypi/files/sha256/{SHA}/{FILE}"
        assert file.digests == project.files[0].digests
        assert file.metadata == kept


def test_metadata_is_found_by_the_wheels_digest():
    """Two wheels may have one file name; each has its own metadata."""
    other = hashlib.sha256(b"metadata").hexdigest()
    project = simple.read_project(
        "toy", json_page(**{"core-metadata": {"sha256": other}})
    )
    files = simple.named_files(project, "pypi")
    found = files.find_file(simple.metadata_name(f"sha256:{SHA}"))
    assert (found.strong.hex, found.url) == (
        other,
        f"https://index.test/f/{FILE}.metadata",
    )
    assert files.find_file(simple.metadata_name(f"sha256:{other}")) is None


def test_a_file_without_a_digest_is_passed_through():
    """It cannot be verified here, so it is neither found by a digest nor kept."""
    project = simple.read_project("toy", json_page(hashes={}))
    entry = json.loads(simple.write_json(project))["files"][0]
    assert entry["url"] == f"../../unverified/toy/{FILE}"
    assert "core-metadata" not in entry
    files = simple.named_files(project, "pypi")
    assert files.find_file(FILE) is None
    assert files.url_without_digest(FILE) == f"https://index.test/f/{FILE}"


def test_a_digest_is_found_anywhere_in_a_fragment():
    text = f'<a href="/f/{FILE}#egg=toy&amp;sha256={SHA}">x</a>'
    (file,) = simple.read_project("toy", page(text, "text/html")).files
    assert file.digests == (f"sha256:{SHA}",)


def test_html_is_escaped():
    project = simple.read_project("toy", json_page(filename='a"><b>.whl'))
    assert b"<b>" not in simple.html_of(simple.write_json(project))


@pytest.mark.parametrize(
    "bad", ["http://[bad/x.whl", "//[/y.whl", "http://a.test:x/z.whl"]
)
def test_a_link_that_is_no_url_spoils_no_page(bad):
    text = (
        f'<base href="//["><a href="{bad}">x</a><a href="/f/{FILE}#sha256={SHA}">x</a>'
    )
    found = simple.read_project("toy", page(text, "text/html")).files
    assert FILE in [one.name for one in found]
    document = {
        "meta": {"api-version": "1.0"},
        "files": [
            {"filename": "x.whl", "url": bad, "hashes": {}},
            {"filename": FILE, "url": f"/f/{FILE}", "hashes": {"sha256": SHA}},
            {"filename": 5},
            7,
        ],
    }
    found = simple.read_project(
        "toy", page(json.dumps(document), simple.JSON_TYPE)
    ).files
    assert FILE in [one.name for one in found]


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"size": None},
        {"yanked": "broken", "requires-python": ">=3.8", "upload-time": "2024-01-01"},
        {"core-metadata": {"sha256": SHA}},
        {"core-metadata": True},
        {"dist-info-metadata": {"sha256": SHA}},
    ],
)
def test_a_plain_page_is_read_as_any_other(scheme, changes):
    """There is a quick way for most pages; it says the same."""
    plain = json_page(**{"url": f"{scheme}://files.test/f/{FILE}", "size": 7} | changes)
    for versions in ({"versions": ["1.0"]}, {}):
        document = json.loads(plain.body) | versions
        body = json.dumps(document).encode()
        page = OriginPage(body, plain.content_type, "", plain.url)
        assert read_plain("pypi", "toy", page) is not None
        quick = simple.read_page("pypi", "toy", page)
        project = simple.read_project("toy", page)
        assert json.loads(quick.forms["json"]) == json.loads(simple.write_json(project))
        assert quick.files.text == simple.named_files(project, "pypi").text


@pytest.mark.parametrize(
    "changes",
    [
        {"url": f"../../f/{FILE}"},
        {"url": f"https://files.test/f/{FILE}#x"},
        {"url": f"https://files.test/f/{FILE}\n"},
        {"url": f"ftp://files.test/f/{FILE}"},
        {"filename": ".hidden"},
        {"filename": "a/b.whl"},
        {"filename": "a\nb.whl"},
        {"filename": ""},
        {"filename": "x" * 251},
        {"hashes": {}},
        {"hashes": {"sha256": SHA.upper()}},
        {"hashes": {"sha256": SHA, "md5": "0" * 32}},
        {"hashes": {"sha256": f"{SHA}\n{SHA}"}},
        {"core-metadata": {"sha256": "x"}},
        {"core-metadata": {"md5": "0" * 32}},
        {"size": -1},
        {"size": 2**60},
        {"size": "7"},
    ],
)
def test_a_page_that_is_not_plain_is_left_to_the_slow_reader(changes):
    page = json_page(**{"url": f"https://files.test/f/{FILE}"} | changes)
    assert read_plain("pypi", "toy", page) is None


@pytest.mark.parametrize(
    "link",
    [
        "a.whl", "../../f/a.whl", "../../../../../a.whl", "/f/a.whl", "./a.whl",
        "../f/../a.whl", "//other.test/a.whl", "?a.whl", "a.whl?q=../x", "a/b%2Fc.whl",
        "/", "../..", "", ".", "a//b.whl", "/./a.whl", "a/.b/c.whl", "mailto:a@b.test",
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    "base", ["https://index.test/simple/toy/", "http://a.test:81/x?y", "http://a.test"]
)
def test_links_lead_where_rfc_3986_says(base, link):
    assert simple._Base(base).joined(link) == urljoin(base, link)


def test_names_are_normalized():
    assert normalized("Foo_.-Bar") == "foo-bar"
