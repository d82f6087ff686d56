"""`caravan lockfile clean`: addresses of a gateway give way to those of the origins."""

from __future__ import annotations

import pytest

from tests.node.cli.terminals import Node, caravan, running

SITE = "http://cache.lab:4749/token/0123456789abcdef"
TARBALL = "npm/toy/-/toy-1.0.0.tgz"


async def cleaned(tmp_path, name: str, text: str, urls: list[str], *options: str):
    """Clean one file; returns how it ended, its text, and what the node was asked."""
    file = tmp_path / name
    file.write_bytes(text.encode())
    node = Node({"urls": urls})
    async with running(tmp_path, node):
        done = await caravan(
            tmp_path, "lockfile", "clean", str(file), *options, "--json"
        )
    asked = node.asked[0].paths if node.asked else []
    return done, file.read_bytes().decode(), asked


@pytest.mark.parametrize(
    ("written", "path", "url", "expected"),
    [
        (
            f'resolved "http://127.0.0.1:4748/{TARBALL}#abc"\r\n', TARBALL,
            "https://o.test/toy.tgz", 'resolved "https://o.test/toy.tgz#abc"\r\n',
        ),
        (
            '{ registry = "http://[::1]:1/pypi/simple" }', "pypi/simple",
            "https://o.test/simple/", '{ registry = "https://o.test/simple" }',
        ),
        (
            'url = "http://localhost:1/pypi/simple/"', "pypi/simple/",
            "https://o.test/simple/", 'url = "https://o.test/simple/"',
        ),
        (
            'source = "sparse+http://127.0.0.1:1/cargo/index/"', "cargo/index/",
            "https://o.test/", 'source = "sparse+https://o.test/"',
        ),
    ],
)  # fmt: skip
async def test_an_address_gives_way_and_ends_as_it_did(
    tmp_path, written, path, url, expected
):
    done, text, asked = await cleaned(tmp_path, "a.lock", written, [url])
    assert done.code == 0, done.err
    assert asked == [path]
    assert text == expected


async def test_other_addresses_on_loopback_stay(tmp_path):
    text = 'a "http://127.0.0.1:8000/other/x" "https://o.test/npm/x" "127.0.0.1:1/npm/"'
    done, after, asked = await cleaned(tmp_path, "yarn.lock", text, [])
    assert done.code == 0
    assert (after, asked) == (text, [])


async def test_what_has_no_known_origin_leaves_the_file(tmp_path):
    text = f'"http://127.0.0.1:1/{TARBALL}" "http://127.0.0.1:1/npm/other"'
    done, after, _ = await cleaned(tmp_path, "yarn.lock", text, ["https://o.test", ""])
    assert done.code == 1
    assert "npm/other" in done.document["error"]
    assert after == text


async def test_the_address_of_a_site_is_named(tmp_path):
    text = f'resolved "{SITE}/{TARBALL}"'
    kept = await cleaned(tmp_path, "yarn.lock", text, [])
    assert kept[1] == text
    url = "https://o.test/toy.tgz"
    site = ("--site", f"{SITE}/")
    done, after, asked = await cleaned(tmp_path, "yarn.lock", text, [url], *site)
    assert done.code == 0
    assert asked == [TARBALL]
    assert after == f'resolved "{url}"'


@pytest.mark.parametrize(
    ("name", "expected"),
    [("bun.lock", '["toy@1.0.0", "", {}]'), ("yarn.lock", None)],
)
async def test_bun_takes_the_public_registry_for_granted(tmp_path, name, expected):
    """It writes no address then, and asks the registry it is configured to use."""
    url = "https://registry.npmjs.org/toy/-/toy-1.0.0.tgz"
    text = f'["toy@1.0.0", "http://127.0.0.1:1/{TARBALL}", {{}}]'
    _, after, _ = await cleaned(tmp_path, name, text, [url])
    assert after == (expected or f'["toy@1.0.0", "{url}", {{}}]')
