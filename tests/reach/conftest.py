"""The laboratory as a fixture; without one a skip with the reason, on CI a failure."""

from __future__ import annotations

import os
from functools import cache
from typing import TYPE_CHECKING

import pytest

from tests.reach.lab import Lab, why_not

if TYPE_CHECKING:
    from collections.abc import Iterator

_reason = cache(why_not)


def _made(folder) -> Iterator[Lab]:
    if reason := _reason():
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    made = Lab(folder)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def lab(tmp_path) -> Iterator[Lab]:
    """Return an empty laboratory."""
    yield from _made(tmp_path)


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Iterator[Lab]:
    """Return a laboratory that the tests of one file share."""
    yield from _made(tmp_path_factory.mktemp("world"))
