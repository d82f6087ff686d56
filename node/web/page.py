"""The page at `/`: what this node is, in plain HTML without anything from elsewhere."""

from __future__ import annotations

import base64
import hashlib
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from node.results import NodeDescription, StatusResult

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:44rem;margin:3rem auto;"
    "padding:0 1rem;color-scheme:light dark}"
    "dt{font-weight:600;margin-top:.6rem}dd{margin:0;overflow-wrap:anywhere}"
    "code{font-family:ui-monospace,monospace}"
)
_STYLE_DIGEST = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()

CONTENT_SECURITY_POLICY = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_DIGEST}'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Caravan node {short}</title>
<style>{style}</style>
<h1>Caravan</h1>
<p>This is a node of a peer-to-peer network for software packages. It keeps what it
downloads and offers it to others, each file by its digest.</p>
<dl>
{facts}
</dl>
<p>On this machine, <code>caravan status</code> and <code>caravan list</code> tell
more; <code>caravan --help</code> shows what else there is.</p>
</html>
"""


def render_page(description: NodeDescription, status: StatusResult) -> str:
    """Return the page of a node, from what it is and what its status says."""
    node_id = description.node_id
    facts = {
        "Node id": node_id,
        "Address": description.address,
        "Contacts": status.contacts,
        "Artifacts": status.artifacts,
    }
    return _PAGE.format(
        short=escape(node_id[:10]),
        style=_STYLE,
        facts="\n".join(
            f"<dt>{name}</dt><dd>{escape(str(value))}</dd>"
            for name, value in facts.items()
        ),
    )
