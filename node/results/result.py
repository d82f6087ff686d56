"""What every command answers with: a struct."""

from __future__ import annotations

import msgspec


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What one command answers."""
