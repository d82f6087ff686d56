"""The laboratory as a fixture; where it cannot be made, the tests say why."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import pytest

from tests.reach.lab import Lab, why_not

if TYPE_CHECKING:
    from collections.abc import Iterator

_reason = cache(why_not)


@pytest.fixture
def lab(tmp_path) -> Iterator[Lab]:
    if reason := _reason():
        pytest.skip(reason)
    made = Lab(tmp_path)
    try:
        yield made
    finally:
        made.close()
