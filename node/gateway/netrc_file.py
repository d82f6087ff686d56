"""What the user's netrc says of a host, as pip, curl and git read it."""

from __future__ import annotations

import base64
import netrc
import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit


def authorization_for(url: str, environ: Mapping[str, str] = os.environ) -> str:
    """Return the Authorization header for a URL's host, or "". Blocks.

    User and password in the URL count over netrc (RFC 7617).
    """
    parts = urlsplit(url)
    if parts.username is not None:
        return basic(unquote(parts.username), unquote(parts.password or ""))
    named = environ.get("NETRC")
    files = [Path(named)] if named else [Path.home() / ".netrc", Path.home() / "_netrc"]
    for path in files:
        try:
            found = netrc.netrc(path).authenticators(parts.hostname or "")
        except (OSError, netrc.NetrcParseError, UnicodeDecodeError):
            continue
        if found is not None and found[2]:
            return basic(found[0] or "", found[2])
    return ""


def basic(user: str, password: str) -> str:
    """Return the header of basic authentication (RFC 7617)."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
