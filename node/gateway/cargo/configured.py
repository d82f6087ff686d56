"""With which certificates and through which proxy cargo on this machine asks.

Its configuration is read as it reads it, without running it: environment variables
count over the file in the user's folder.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from node.gateway import toml
from node.gateway.upstream import Proxies, Upstream


def as_cargo_asks(upstream: Upstream) -> Upstream:
    """Return an upstream with the certificates and the proxy of cargo. Blocks."""
    root = Path(os.environ.get("CARGO_HOME") or Path.home() / ".cargo")
    http = _http_table(root)
    authorities = os.environ.get("CARGO_HTTP_CAINFO") or http.get("cainfo")
    proxy = os.environ.get("CARGO_HTTP_PROXY") or http.get("proxy")
    proxy = proxy if isinstance(proxy, str) else ""
    files: tuple[Path, ...] = ()
    if isinstance(authorities, str) and authorities:
        files = (root.parent / authorities,)  # relative to the folder of .cargo
    return replace(upstream, ca_files=files, proxies=Proxies(proxy, proxy))


def _http_table(root: Path) -> dict[str, Any]:
    """Return the table `http` of cargo's configuration, or an empty one."""
    for name in ("config", "config.toml"):
        path = root / name
        try:
            if path.is_file():
                found = toml.loads(path.read_text("utf-8", "replace")).get("http", {})
                return found if isinstance(found, dict) else {}
        except (OSError, ValueError, RecursionError):
            return {}
    return {}
