"""The description of the API names every command, and only what there is."""

from __future__ import annotations

import json
from typing import Any

import pytest

from node.commands import COMMANDS
from node.web.openapi import openapi
from tests.node.doors import TOKEN, opened, receive, send


def references(document: Any) -> set[str]:
    """Return every $ref below `document`."""
    if isinstance(document, dict):
        own = {document["$ref"]} if "$ref" in document else set()
        return own.union(*(references(value) for value in document.values()))
    if isinstance(document, list):
        return set().union(*(references(value) for value in document))
    return set()


def test_every_command_has_a_path_with_its_fields():
    document = openapi()
    assert set(document["paths"]) == {f"/api/{name}" for name in COMMANDS}
    fetch = document["components"]["schemas"]["FetchCommand"]
    assert "targets" in fetch["properties"]
    assert fetch["additionalProperties"] is False


def test_every_reference_leads_somewhere():
    document = openapi()
    schemas = document["components"]["schemas"]
    for reference in references(document):
        assert reference.removeprefix("#/components/schemas/") in schemas


@pytest.mark.parametrize(("token", "status"), [(TOKEN, 200), ("wrong", 401)])
async def test_it_is_served_to_the_owner(token, status):
    async with opened() as (address, _):
        request = (
            f"GET /api/openapi.json HTTP/1.0\r\nHost: {address}\r\n"
            f"Authorization: Bearer {token}\r\n\r\n"
        )
        answer = await receive(*await send(address, request.encode()))
    assert answer.status == status
    if status == 200:
        assert json.loads(answer.body)["openapi"] == "3.1.0"
