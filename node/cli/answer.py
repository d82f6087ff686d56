"""What a command answers, as the command line reads it.

The structs of `node.results` say which fields there are, and the type checker holds the
command line to them. But a command that only asks the node has no time to load them,
and msgspec with them (30 ms of the 100 that such a command may take). So its answer
stays the JSON document that it came as, with fields that can be read as attributes.
"""

from __future__ import annotations

import json
from typing import Any


class Fields(dict[str, Any]):
    """A JSON object whose values are attributes as well."""

    __getattr__ = dict.__getitem__


def read_fields(text: bytes | str) -> Any:
    """Decode JSON; every object in it is a `Fields`."""
    return json.loads(text, object_hook=Fields)


def json_text(result: object) -> str:
    """Encode a result: the fields of one, or a struct that was made here."""
    if not isinstance(result, dict):
        from msgspec import to_builtins

        result = to_builtins(result)
    return json.dumps(result)
