"""What a node is started with: the one place that names every setting."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

DEFAULT_LISTEN = ("0.0.0.0:4747", "[::]:4747")
DEFAULT_WEB = "127.0.0.1:4748"
PUBLIC_NETWORK = "caravan"

Sharing = Literal["all", "published", "none"]
"""What is offered: everything held, only what was published here, or nothing."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that a node's owner may choose; see `node.config` for the sources.

    Addresses are HOST:PORT texts with a numeric host; port 0 means any free one.
    """

    home: Path
    listen: tuple[str, ...] = DEFAULT_LISTEN
    web: str = DEFAULT_WEB
    contacts: tuple[str, ...] = ()
    network: str = PUBLIC_NETWORK
    secret_file: Path | None = None
    encryption: bool = True
    weak_digests: bool = False
    sharing: Sharing = "all"
    withdraw: bool = True
    store_bytes: int | None = None
    upload_bytes_per_second: int | None = None
    download_bytes_per_second: int | None = None
