"""Reads `[upstreams]` and `[gateway]` of the settings."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import get_args

from node.settings import (
    ECOSYSTEMS,
    GatewaySettings,
    UpstreamSettings,
    Winner,
)
from node.settings.source import SettingSource, read_as_switch

VARIABLE = "UPSTREAM_"
NONE = "none"
GATEWAY_SWITCHES = ("stream", "lease", "member_pages")
_LABEL = re.compile(r"[a-z0-9][a-z0-9-]{0,30}")


def upstreams_in(environ: Mapping[str, str], prefix: str) -> dict[str, object]:
    """Return the upstreams that variables name.

    CARAVAN_UPSTREAM_PYPI is a URL, CARAVAN_UPSTREAM_PYPI_SHARE says whether it is
    shared; CARAVAN_UPSTREAM_DEBIAN_SECURITY is the upstream `debian-security`.
    """
    found: dict[str, dict[str, object]] = {}
    start = prefix + VARIABLE
    for variable, value in environ.items():
        if not variable.startswith(start) or not value:
            continue
        name = variable.removeprefix(start).lower().replace("_", "-")
        key = "share" if name.endswith("-share") else "url"
        found.setdefault(name.removesuffix("-share"), {})[key] = value
    return dict(found)


def read_upstreams(value: object, source: SettingSource) -> dict[str, UpstreamSettings]:
    """Read {name: URL} or {name: {url, share}}; "none" switches one off.

    A name is that of an ecosystem; behind a hyphen it may have a label, for another
    index of the same kind.
    """
    if not isinstance(value, dict):
        raise source.mistake('expected a table of names and URLs, like pypi = "URL"')
    found = {}
    for name, said in value.items():
        ecosystem, hyphen, label = name.partition("-")
        if ecosystem not in ECOSYSTEMS or (hyphen and not _LABEL.fullmatch(label)):
            known = ", ".join(ECOSYSTEMS)
            raise source.mistake(f"there is no upstream {name!r}; there are {known}")
        table = {"url": said} if isinstance(said, str) else said
        if not isinstance(table, dict) or not table.keys() <= {"url", "share"}:
            raise source.mistake(f"{name}: expected a URL, or a table with url, share")
        share = _share(name, table.get("share"), source)
        url = _url(name, table["url"], source) if "url" in table else None
        if url is None and (hyphen or share is None):
            raise source.mistake(f"{name}: expected a URL")
        found[name] = UpstreamSettings(url, share)
    return found


def merge_upstreams(
    base: Mapping[str, UpstreamSettings], over: Mapping[str, UpstreamSettings]
) -> dict[str, UpstreamSettings]:
    """Return `over` on top of `base`; one that has no URL keeps the one below it."""
    merged = dict(base)
    for name, one in over.items():
        below = merged.get(name)
        url = below.url if one.url is None and below is not None else one.url
        merged[name] = UpstreamSettings(url, one.share)
    return merged


def read_gateway(value: object, source: SettingSource) -> GatewaySettings:
    """Read the switches, and who wins where a name would be refused."""
    known = {*GATEWAY_SWITCHES, "names"}
    if not isinstance(value, dict) or not value.keys() <= known:
        raise source.mistake(f"expected a table with {', '.join(sorted(known))}")
    names = value.get("names", {})
    switches = {one: value.get(one, True) for one in GATEWAY_SWITCHES}
    for one, said in switches.items():
        if not isinstance(said, bool):
            raise source.mistake(f"{one}: expected true or false")
    winners = get_args(Winner)
    if not isinstance(names, dict) or not all(one in winners for one in names.values()):
        raise source.mistake(
            'names: expected a table like NAME = "network" or "upstream"'
        )
    return GatewaySettings(names=names, **switches)


def _share(name: str, value: object, source: SettingSource) -> bool | None:
    if value is None:
        return None
    said = read_as_switch(value, source)
    if said is None:
        raise source.mistake(f"{name}: share: expected true or false")
    return said


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
        raise source.mistake(f'{name}: expected a URL with http or https, or "none"')
    return text
