"""JSON as lenient clients read it: strangers write more than the standard has."""

from __future__ import annotations

import json
from typing import Any


def loads(body: bytes) -> Any:
    """Return the document of a JSON text; ValueError, RecursionError. Blocks.

    A byte order mark is skipped, bytes that are no UTF-8 are replaced, halves of
    surrogates stay, and NaN and the infinities are None (RFC 8259 has none of them).
    """
    return json.loads(
        body.decode("utf-8-sig", "replace"), parse_constant=lambda _: None
    )


def is_text(value: object) -> bool:
    """Tell whether a value is a text that can be written as UTF-8."""
    if not isinstance(value, str):
        return False
    return value.isascii() or not any("\ud800" <= one <= "\udfff" for one in value)
