"""Files that find no room are passed on from their origin, verified at their end."""

from __future__ import annotations

import base64
import hashlib
import json

import pytest

from tests.node.gateway.door import opened_in
from tests.node.gateway.rig import INDEX
from transfer import StoreError

NPM = "https://registry.npmjs.org"
SMALL, LARGE = b"tarball", b"0123456789" * 100_000


@pytest.fixture(autouse=True)
def full_disk(monkeypatch):
    """Let nothing that comes be kept."""

    def refuse(*_arguments, **_options):
        raise StoreError("The disk is full; free some space and try again.")

    monkeypatch.setattr("node.gateway.origin_fetch.OriginFetch.alone", refuse)


def put_npm(door, body, named=None):
    digest = base64.b64encode(hashlib.sha512(named or body).digest()).decode()
    url = f"{NPM}/toy/-/toy-1.0.0.tgz"
    dist = {"tarball": url, "integrity": f"sha512-{digest}"}
    version = {"name": "toy", "version": "1.0.0", "dist": dist}
    packument = {"name": "toy", "versions": {"1.0.0": version}, "dist-tags": {}}
    door.rig.origin.pages[f"{NPM}/toy"] = json.dumps(packument).encode()
    door.rig.origin.files[url] = body


@pytest.mark.parametrize("body", [SMALL, LARGE])
async def test_a_file_that_cannot_be_kept_is_passed_on(tmp_path, body):
    async with opened_in(tmp_path) as door:
        put_npm(door, body)
        assert (await door.ask("/npm/toy")).status == 200
        answer = await door.ask("/npm/toy/-/toy-1.0.0.tgz")
        assert (answer.status, answer.body) == (200, body)
        assert answer.headers["Cache-Control"] == "no-store"
        assert door.rig.store.artifacts() == []


@pytest.mark.parametrize("body", [SMALL, LARGE])
async def test_a_wrong_file_is_never_passed_on_whole(tmp_path, body):
    async with opened_in(tmp_path) as door:
        put_npm(door, body, named=b"another")
        await door.ask("/npm/toy")
        try:
            answer = await door.ask("/npm/toy/-/toy-1.0.0.tgz")
        except OSError:
            return  # cut off
        assert len(answer.body) < len(body)


async def test_without_an_origin_the_reason_is_said(tmp_path):
    async with opened_in(tmp_path) as door:
        door.rig.origin.pages[f"{INDEX}/toy/"] = b"<html></html>"
        digest = hashlib.sha256(SMALL).hexdigest()
        assert (await door.ask(f"/blob/sha256/{digest}")).status == 404
