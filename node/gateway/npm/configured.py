"""Which registry npm on this machine is configured to use, and with which password.

Its files and variables are read as npm reads them, without running it. A registry that
npm sends a token or password to is private, and the same is sent by the node.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from node.gateway.connecting import remembered_for, used_before
from node.gateway.ini import Option, options
from node.gateway.upstream import Proxies, Upstream

_OFF = ("null", "false")
_IN_VARIABLES = ("proxy", "https-proxy", "noproxy", "cafile")
DEFAULT = "https://registry.npmjs.org/"
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*+)\??\}")


def registry(home: Path, url: str) -> Upstream:
    """Return the registry at `url`, or the one that npm uses, as an upstream. Blocks.

    `home` is the node's folder, which remembers what `connect` put aside.
    """
    said = _settings(home)
    https = said.get("https-proxy") or said.get("proxy", "")
    bypassed = (said.get("noproxy") or said.get("no-proxy", "")).replace("[]", " ")
    return Upstream(
        "npm",
        url or registry_in_use(home, said),
        authorization=authorization_for(url or registry_in_use(home, said), said),
        ca_files=tuple(
            Path(one)
            for one in (os.environ.get("NODE_EXTRA_CA_CERTS"), said.get("cafile"))
            if one
        ),
        proxies=Proxies(said.get("proxy", ""), https, bypassed),
    )


def registry_in_use(home: Path, said: Mapping[str, str]) -> str:
    """Return the URL of the registry that npm uses, with its settings `said`."""
    environ = {name.lower(): value for name, value in os.environ.items()}
    before = used_before(home, "npm")
    for one in (environ.get("npm_config_registry"), before, said.get("registry")):
        if one and _is_url(one) and not is_gateway(one):
            return one
    return DEFAULT


def scoped_registries(home: Path) -> dict[str, str]:
    """Return the registries that npm uses for packages of one scope, by scope."""
    said = _settings(home)
    return {
        name.partition(":")[0]: url
        for name, url in said.items()
        if name.startswith("@") and name.endswith(":registry")
        if _is_url(url) and not is_gateway(url)
    }


def is_gateway(url: str) -> bool:
    """Tell whether a URL is that of a gateway on this machine."""
    parts = urlsplit(url)
    local = parts.hostname in ("127.0.0.1", "localhost", "::1")
    return local and parts.path.rstrip("/") == "/npm"


def user_file() -> Path:
    """Return the user's .npmrc."""
    for name, value in os.environ.items():
        if name.lower() == "npm_config_userconfig" and value:
            return Path(value)
    return Path.home() / ".npmrc"


def npm_options(text: str) -> list[Option]:
    """Return the options of an .npmrc, their names and values as npm reads them."""
    found = list(options(text, delimiters="=", continues=False))
    for one in found:
        one.name = _plain(one.name)
        one.value = _plain(one.value)
    return found


def authorization_for(url: str, said: Mapping[str, str]) -> str:
    """Return the Authorization header that npm sends to a registry, or "".

    npm looks under `//host/path/`, then under each folder above.
    """
    parts = urlsplit(url)
    place = f"//{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}/"
    while place.count("/") > 2:
        if token := said.get(f"{place}:_authToken"):
            return f"Bearer {token}"
        if basic := said.get(f"{place}:_auth"):
            return f"Basic {basic}"
        user = said.get(f"{place}:username")
        password = said.get(f"{place}:_password")
        if user and password:
            try:
                plain = base64.b64decode(password)
            except (binascii.Error, ValueError):
                return ""
            pair = user.encode() + b":" + plain
            return f"Basic {base64.b64encode(pair).decode()}"
        place = place[:-1].rpartition("/")[0] + "/"
    return ""


def _settings(home: Path) -> dict[str, str]:
    """Return what npm's files say, the user's own over the machine's."""
    named = remembered_for(home, "npm").get("file")
    files = [Path("/etc/npmrc"), Path("/usr/local/etc/npmrc"), Path("/usr/etc/npmrc")]
    files.append(user_file())
    if named:
        files.append(Path(str(named)))
    found: dict[str, str] = {}
    for path in files:
        try:
            if not path.is_file():
                continue
            text = path.read_text("utf-8", "replace")
        except (OSError, ValueError):
            continue
        found |= {one.name: one.value for one in npm_options(text) if not one.section}
    for name, value in os.environ.items():  # which npm reads in any case
        lower = name.lower().replace("_", "-")
        if value and (option := lower.removeprefix("npm-config-")) in _IN_VARIABLES:
            found[option] = value
    return {name: value for name, value in found.items() if value not in _OFF}


def _plain(text: str) -> str:
    """Return a name or value without quotes, with the variables in it filled in."""
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "\"'":
        text = text[1:-1]
    return _VARIABLE.sub(lambda match: os.environ.get(match[1], match[0]), text)


def _is_url(text: str) -> bool:
    return text.startswith(("http://", "https://"))
