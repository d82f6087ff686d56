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
    return _authorization(parts.hostname or "", "default", environ)


def named_authorization(host: str, environ: Mapping[str, str] = os.environ) -> str:
    """Return the header for a host that netrc itself names, or "". Blocks."""
    return _authorization(host, "", environ)


def _authorization(host: str, otherwise: str, environ: Mapping[str, str]) -> str:
    """Return the header of an entry for a host in any case, or else of another."""
    named = environ.get("NETRC")
    home = Path.home()
    files = [Path(named).expanduser()] if named else [home / ".netrc", home / "_netrc"]
    for path in files:
        try:
            hosts = netrc.netrc(path).hosts
        except (OSError, netrc.NetrcParseError, UnicodeDecodeError, RuntimeError):
            continue
        lower = {name.lower(): entry for name, entry in hosts.items()}
        found = lower.get(host.lower()) or lower.get(otherwise)
        if found is not None and found[2]:
            return basic(found[0] or "", found[2])
    return ""


def basic(user: str, password: str) -> str:
    """Return the header of basic authentication (RFC 7617)."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
