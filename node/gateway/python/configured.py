"""Which index pip and uv on this machine are configured to use.

Their files and variables are read as they read them, without running them: running pip
takes half a second. An answer that leads to a Caravan gateway, because `caravan connect
pip` wrote it there, is passed over for what pip used before that.
"""

from __future__ import annotations

import os
import re
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from node.gateway.connecting import used_before, user_file
from node.gateway.ini import Option, options
from node.gateway.upstream import Proxies, Upstream

PIP_DEFAULT = "https://pypi.org/simple"
GATEWAY_PATH = "/pypi/simple"
_INDEX_NAMES = ("index-url", "pypi-url")
_COMMANDS = ("install", "download", "wheel", "lock")
"""The sections of commands that fetch packages; each counts over [global]."""
_HEADER = re.compile(r"\s*(\[.*\])\s*(?:#.*)?$")
_INDEX_URL = re.compile(r"\s*index-url\s*=")


def index_in_use(home: Path) -> str:
    """Return the URL of the index that pip uses, or else uv, or pip's own. Blocks.

    `home` is the node's folder, which remembers what `connect` put aside.
    """
    for url in _candidates(home):
        if url.startswith(("http://", "https://")) and not is_gateway(url):
            return url
    return PIP_DEFAULT


def as_pip_asks(upstream: Upstream) -> Upstream:
    """Return an upstream with the certificates and the proxy that pip uses. Blocks.

    Certificates also as requests and uv use them.
    """
    said: dict[str, str] = {}
    for path in pip_files():
        said |= {
            one.name: one.value
            for one in pip_options(text_of(path))
            if one.section in ("global", "install")
        }
    environ = os.environ
    authorities = [
        environ.get("PIP_CERT") or said.get("cert"),
        environ.get("REQUESTS_CA_BUNDLE") or environ.get("CURL_CA_BUNDLE"),
    ]
    client = environ.get("PIP_CLIENT_CERT") or said.get("client-cert")
    client = client or environ.get("SSL_CLIENT_CERT")  # of uv
    proxy = environ.get("PIP_PROXY") or said.get("proxy", "")
    return replace(
        upstream,
        ca_files=tuple(Path(one) for one in authorities if one),
        client_certificate=Path(client) if client else None,
        proxies=Proxies(proxy, proxy),
    )


def is_gateway(url: str) -> bool:
    """Tell whether a URL is that of a gateway on this machine."""
    try:
        parts = urlsplit(url)
        local = parts.hostname in ("127.0.0.1", "localhost", "::1")
    except ValueError:
        return False
    return local and parts.path.rstrip("/") == GATEWAY_PATH


def pip_options(text: str) -> list[Option]:
    """Return the options of a pip.conf, their names as pip normalizes them."""
    found = list(options(text, delimiters="=:", continues=True))
    for one in found:
        one.name = one.name.lower().replace("_", "-").removeprefix("--")
    return found


def index_options(text: str) -> list[Option]:
    """Return the options of a pip.conf that say where packages come from."""
    return [
        one
        for one in pip_options(text)
        if one.name in _INDEX_NAMES and one.section in ("global", *_COMMANDS)
    ]


def index_of(found: list[Option]) -> str:
    """Return the index that `pip install` uses by these options, or "".

    Where only another command has one, that counts.
    """
    by_section = {one.section: one.value for one in found}
    for section in ("install", "global", *_COMMANDS):
        if value := by_section.get(section):
            return value
    return ""


def _candidates(home: Path) -> Iterator[str]:
    yield os.environ.get("PIP_INDEX_URL", "")
    found: list[Option] = []
    for path in pip_files():
        found += index_options(text_of(path))
    # Those of the gateway are no answer; what they replaced is remembered.
    yield index_of([one for one in found if not is_gateway(one.value)])
    yield used_before(home, "pip")
    yield from uv_indexes()
    yield used_before(home, "uv")


def pip_files() -> list[Path]:
    """Return pip's configuration files, the one that counts most last."""
    named = os.environ.get("PIP_CONFIG_FILE", "")
    if named == os.devnull:
        return []
    folders = os.environ.get("XDG_CONFIG_DIRS") or "/etc/xdg"
    files = [Path(folder) / "pip/pip.conf" for folder in folders.split(os.pathsep)]
    files.append(Path("/etc/pip.conf"))
    if not (named and Path(named).exists()):
        files += [Path.home() / ".pip/pip.conf", user_file("", "pip", "pip.conf")]
    if prefix := os.environ.get("VIRTUAL_ENV") or sys.prefix:
        files.append(Path(prefix) / "pip.conf")
    return [*files, Path(named)] if named else files


def uv_indexes() -> Iterator[str]:
    """Yield the default indexes that uv is configured to use."""
    for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL"):
        said = os.environ.get(name, "")  # a URL, or NAME=URL
        yield said if said.startswith("http") else said.partition("=")[2]
    text = text_of(user_file("UV_CONFIG_FILE", "uv", "uv.toml"))
    yield uv_default(text)


def uv_default(text: str) -> str:
    """Return the default index that a uv.toml names, or ""."""
    try:
        document: dict[str, Any] = tomllib.loads(text.removeprefix("\ufeff"))
    except (tomllib.TOMLDecodeError, RecursionError):
        return ""
    indexes = document.get("index", [])
    for one in indexes if isinstance(indexes, list) else []:
        if isinstance(one, dict) and one.get("default") is True:
            return _with_credentials(str(one.get("url", "")), str(one.get("name", "")))
    pip = document.get("pip", {})
    nested = pip.get("index-url", "") if isinstance(pip, dict) else ""
    return str(document.get("index-url") or nested)


def default_index_lines(text: str) -> list[int] | None:
    """Return the lines of a uv.toml that name its default index, to be put aside.

    None where without them it would not be the same file without that index.
    """
    lines = text.split("\n")
    found: list[int] = []
    start, header = 0, ""
    for number, line in enumerate([*lines, "[end]"]):
        match = _HEADER.match(line)
        if match is None:
            is_place = header in ("", "[pip]")
            if is_place and _INDEX_URL.match(line.removeprefix("\ufeff")):
                found.append(number)
            continue
        if header == "[[index]]" and uv_default("\n".join([*lines[start:number], ""])):
            found += [
                one
                for one in range(start, number)
                if lines[one].strip() and not lines[one].lstrip().startswith("#")
            ]
        start, header = number, "".join(match[1].split())
    rest = [line for number, line in enumerate(lines) if number not in found]
    try:
        left = tomllib.loads("\n".join(rest).removeprefix("\ufeff"))
        whole = tomllib.loads(text.removeprefix("\ufeff"))
    except (tomllib.TOMLDecodeError, RecursionError):
        return None
    return found if left == _without_default(whole) else None


def _without_default(document: dict[str, Any]) -> dict[str, Any]:
    """Return a uv.toml without what names its default index."""
    document.pop("index-url", None)
    if isinstance(pip := document.get("pip"), dict):
        pip.pop("index-url", None)
    indexes = document.pop("index", [])
    others = [one for one in indexes if one.get("default") is not True]
    return {**document, "index": others} if others else document


def _with_credentials(url: str, name: str) -> str:
    """Return an index's URL with what uv takes from the environment for its name."""
    start = "UV_INDEX_" + re.sub("[^A-Z0-9]", "_", name.upper())
    user = os.environ.get(f"{start}_USERNAME", "")
    password = os.environ.get(f"{start}_PASSWORD", "")
    scheme, found, rest = url.partition("://")
    if not name or not found or not (user or password) or "@" in rest.split("/")[0]:
        return url
    return f"{scheme}://{quote(user, safe='')}:{quote(password, safe='')}@{rest}"


def text_of(path: Path) -> str:
    """Return a configuration file's text, "" where there is none. Blocks."""
    try:
        # Reading a pipe would wait for its writer.
        return path.read_text("utf-8", "replace") if path.is_file() else ""
    except (OSError, ValueError):
        return ""
