"""Reads `[upstreams]` and `[gateway]` of the settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, get_args

from node.settings import (
    UPSTREAM_NAMES,
    GatewaySettings,
    UpstreamSettings,
    Winner,
)

if TYPE_CHECKING:
    from node.settings.source import SettingSource

VARIABLE = "UPSTREAM_"
NONE = "none"


def upstreams_in(environ: Mapping[str, str], prefix: str) -> dict[str, object]:
    """Return the upstreams that variables like CARAVAN_UPSTREAM_PYPI name."""
    return {
        name: url
        for name in UPSTREAM_NAMES
        if (url := environ.get(f"{prefix}{VARIABLE}{name.upper()}"))
    }


def read_upstreams(value: object, source: SettingSource) -> dict[str, UpstreamSettings]:
    """Read {name: URL} or {name: {url, share}}; "none" switches one off."""
    if not isinstance(value, dict):
        raise source.mistake('it is a table of names and URLs, like pypi = "URL"')
    found = {}
    for name, said in value.items():
        if name not in UPSTREAM_NAMES:
            known = ", ".join(UPSTREAM_NAMES)
            raise source.mistake(f"there is no upstream {name!r}; there are {known}")
        table = {"url": said} if isinstance(said, str) else said
        if not isinstance(table, dict) or not table.keys() <= {"url", "share"}:
            raise source.mistake(f"{name} is a URL, or a table with url and share")
        share = table.get("share", True)
        if not isinstance(share, bool):
            raise source.mistake(f"{name}: share is true or false")
        found[name] = UpstreamSettings(_url(name, table.get("url"), source), share)
    return found


def read_gateway(value: object, source: SettingSource) -> GatewaySettings:
    """Read `stream`, and who wins where a name would be refused."""
    if not isinstance(value, dict) or not value.keys() <= {"stream", "names"}:
        raise source.mistake("it is a table with stream and names")
    stream, names = value.get("stream", True), value.get("names", {})
    if not isinstance(stream, bool):
        raise source.mistake("stream is true or false")
    winners = get_args(Winner)
    if not isinstance(names, dict) or not all(one in winners for one in names.values()):
        raise source.mistake('names is a table like NAME = "network" or "upstream"')
    return GatewaySettings(stream, names)


def _url(name: str, url: object, source: SettingSource) -> str:
    """Return a URL that can be asked, or "" for none."""
    from urllib.parse import urlsplit  # here: commands that only ask a node are quick

    if url == NONE:
        return ""
    text = url.removeprefix("sparse+") if isinstance(url, str) else ""
    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname)
        usable = usable and (parts.port or 1) > 0
    except ValueError:
        usable = False
    if not usable:
        raise source.mistake(
            f'{name}: a URL with http or https belongs here, or "none"'
        )
    return text
