"""Headers of the gateway's own, and what a door notes of a request for them."""

from __future__ import annotations

from aiohttp import web

SOURCE_HEADER = "Caravan-Source"
"""Tells the client where the node had a file from: "store", "peers" or "origin"."""
SOURCE = web.RequestKey("source", str)
"""Where a door's request notes what goes into that header."""
BASE_HEADER = "Caravan-Base"
"""Tells the node where the client asked, so that the URLs of an index lead there."""
BASE = web.RequestKey("base", str)
"""Where a door's request notes under which URL its client reached this node."""
