"""The API reference: every public name has a place, and nothing is fetched."""

from __future__ import annotations

import re

import pytest

import dht
import transfer
from scripts.reference import MODULES, build


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reference")
    build(folder)
    return folder


@pytest.mark.parametrize("module", [dht, transfer], ids=["dht", "transfer"])
def test_every_public_name_is_there(reference, module):
    page = (reference / f"{module.__name__}.html").read_text("utf-8")
    missing = [name for name in module.__all__ if f'id="{name}"' not in page]
    assert missing == []


def test_every_module_has_a_page(reference):
    pages = [reference / f"{name.replace('.', '/')}.html" for name in MODULES]
    assert all(page.is_file() for page in pages)


def test_no_page_loads_anything_from_elsewhere(reference):
    loads = re.compile(r"<(?:script|link|img|iframe)[^>]*(?:src|href)=\"https?:")
    for page in reference.rglob("*.html"):
        assert not loads.search(page.read_text("utf-8")), page
