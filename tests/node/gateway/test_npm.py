"""npm's documents in two forms, and its tarballs: whichever form is known serves."""

from __future__ import annotations

import base64
import hashlib
import json

import pytest

from node.gateway import limits
from node.gateway.npm.index import FULL_TYPE, SHORT_TYPE
from tests.node.gateway.door import opened_in

NPM = "https://registry.npmjs.org"
DATA = b"a tarball"
TARBALL = "https://files.test/toy/-/toy-1.0.0.tgz"
ACCEPTS = {"short": f"{SHORT_TYPE}; q=1.0, {FULL_TYPE}; q=0.8, */*", "full": FULL_TYPE}


def packument(**more: object) -> bytes:
    integrity = base64.b64encode(hashlib.sha512(DATA).digest()).decode()
    dist = {"tarball": TARBALL, "integrity": f"sha512-{integrity}"}
    document = {"name": "toy", "versions": {"1.0.0": {"dist": dist}}, **more}
    return json.dumps(document).encode()


@pytest.mark.parametrize(("known", "asked"), [("short", "full"), ("full", "short")])
async def test_the_other_form_serves_where_the_registry_cannot_be_asked(
    tmp_path, known, asked
):
    async with opened_in(tmp_path) as door:
        door.rig.origin.pages[f"{NPM}/toy"] = packument()
        first = await door.ask("/npm/toy", Accept=ACCEPTS[known])
        door.rig.origin.dead = True
        second = await door.ask("/npm/toy", Accept=ACCEPTS[asked])
        assert (second.status, second.body) == (200, first.body)
        assert second.headers["Content-Type"] == first.headers["Content-Type"]
        missing = await door.ask("/npm/other", Accept=ACCEPTS[asked])
        assert missing.status == 502


@pytest.mark.parametrize("form", list(ACCEPTS))
async def test_a_tarball_needs_no_document_beyond_the_one_that_named_it(
    tmp_path, monkeypatch, form
):
    """Also long after it was read, where the registry cannot be asked again."""
    async with opened_in(tmp_path) as door:
        door.rig.origin.pages[f"{NPM}/toy"] = packument()
        door.rig.origin.files[TARBALL] = DATA
        await door.ask("/npm/toy", Accept=ACCEPTS[form])
        asked = list(door.rig.origin.asked)
        answer = await door.ask("/npm/toy/-/toy-1.0.0.tgz")
        assert (answer.status, answer.body) == (200, DATA)
        assert door.rig.origin.asked == [*asked, TARBALL]
        monkeypatch.setattr(limits, "PAGE_FRESH_SECONDS", 0.0)
        door.rig.origin.dead = True
        answer = await door.ask("/npm/toy/-/toy-1.0.0.tgz")
        assert (answer.status, answer.body) == (200, DATA)


async def test_the_form_that_was_read_last_says_what_a_tarball_is(tmp_path):
    """A version can be built again under its old name."""
    async with opened_in(tmp_path) as door:
        door.rig.origin.pages[f"{NPM}/toy"] = packument()
        await door.ask("/npm/toy", Accept=ACCEPTS["short"])
        integrity = base64.b64encode(hashlib.sha512(b"built again").digest()).decode()
        dist = {"tarball": TARBALL, "integrity": f"sha512-{integrity}"}
        door.rig.origin.pages[f"{NPM}/toy"] = packument(
            versions={"1.0.0": {"dist": dist}}
        )
        door.rig.origin.files[TARBALL] = b"built again"
        await door.ask("/npm/toy", Accept=ACCEPTS["full"])
        answer = await door.ask("/npm/toy/-/toy-1.0.0.tgz")
        assert answer.body == b"built again"


@pytest.mark.parametrize("escaped", [False, True])
async def test_tarballs_are_at_the_address_that_was_asked(tmp_path, escaped):
    """Some registries write each slash of a URL with a backslash before it."""
    async with opened_in(tmp_path) as door:
        body = packument(readme='"tarball":"https://no.test/x.tgz" \\" tarball')
        if escaped:
            body = body.replace(b"/", b"\\/")
        door.rig.origin.pages[f"{NPM}/toy"] = body
        answer = await door.ask("/npm/toy", Accept=ACCEPTS["full"])
        document = json.loads(answer.body)
        url = document["versions"]["1.0.0"]["dist"]["tarball"]
        assert url == f"http://{door.address}/npm/toy/-/toy-1.0.0.tgz"
        assert document["readme"] == '"tarball":"https://no.test/x.tgz" \\" tarball'
