"""Fixtures of the end-to-end tests: a `Caravan` for one test or for a whole module."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.caravan import Caravan, caravan_in
from tests.end_to_end.origin import Origin


@pytest.fixture
def caravan(tmp_path: Path) -> Iterator[Caravan]:
    """Nodes for one test."""
    with caravan_in(tmp_path) as caravan:
        yield caravan


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Caravan]:
    """Nodes that the tests of a module share."""
    with caravan_in(tmp_path_factory.mktemp("caravan")) as caravan:
        yield caravan


@pytest.fixture
def origin() -> Iterator[Origin]:
    """Serve an index on loopback, for one test."""
    with Origin() as origin:
        yield origin
