"""The lines that point pip, uv, poetry, pdm and pipenv at this node."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

from node.gateway.connecting import InTheWay, Recipe, exports, plain_host, user_file
from node.gateway.python.configured import (
    default_index_lines,
    index_of,
    index_options,
    is_gateway,
    pip_files,
    pip_options,
    text_of,
    uv_default,
)
from node.printable import printable

_HAS_OUR_NAME = re.compile(r"""^\s*name\s*=\s*["']caravan["']""", re.MULTILINE)

PIP_NOTE = (
    "pdm, poetry and uv do not read this file, nor does pipx where it finds uv: "
    "connect each by its own name. pipenv writes this address into a Pipfile that it "
    "makes: `caravan lockfile clean Pipfile`, or `caravan connect pipenv`."
)
UV_LOCK_NOTE = (
    "`uv lock` and `uv sync` write this address into uv.lock: `caravan lockfile clean "
    "uv.lock` puts the origin's back. Of a uv.lock that names the origin, `uv sync "
    "--locked` says that it needs to be updated, and `uv sync --frozen` passes this "
    "node by: `caravan run -- uv sync --locked` installs through it."
)
POETRY_NOTE = (
    "poetry reads this with its plugin alone: `poetry self add "
    "poetry-plugin-pypi-mirror`. poetry.lock then names no address. An address in "
    "pyproject.toml is shared with the team and goes into poetry.lock: `caravan "
    "lockfile clean poetry.lock`."
)


def pip(home: Path, base: str) -> Recipe:
    """Return how pip is pointed at the gateway at `base`."""
    lines, environment = _pip_lines(base, "index-url")
    return Recipe(
        tool="pip",
        home=home,
        file=_pip_conf(),
        section="global",
        lines=lines,
        if_down="pip fails after some seconds of trying",
        for_once="pip --isolated install ...",
        environment=environment,
        notes=[PIP_NOTE, *_extra_indexes()],
        inspect=_in_pip_conf,
    )


def pip_beside_its_index(home: Path, base: str) -> Recipe:
    """Return how pip asks the gateway at `base` as well as its own index.

    Of a file that both have, pip takes the one of the later index, which is this.
    """
    lines, environment = _pip_lines(base, "extra-index-url")
    return Recipe(
        tool="pip",
        home=home,
        file=_pip_conf(),
        section="global",
        lines=lines,
        if_down="pip goes on with its own index after some seconds of trying",
        goes_on=True,
        environment=environment,
        notes=[PIP_NOTE, *_extra_indexes()],
        inspect=_extra_in_pip_conf,
    )


def _pip_lines(base: str, option: str) -> tuple[str, dict[str, str]]:
    """Return the lines that give pip the gateway by an option, and the variables."""
    index, host = f"{base}/pypi/simple", plain_host(base)
    lines = f"{option} = {index}"
    environment = {f"PIP_{option.upper().replace('-', '_')}": f"{index}/"}
    if host:
        lines += f"\ntrusted-host = {host}"
        environment["PIP_TRUSTED_HOST"] = host
    return lines, environment


def _pip_conf() -> Path:
    return user_file("PIP_CONFIG_FILE", "pip", "pip.conf")


def uv(home: Path, base: str) -> Recipe:
    """Return how uv is pointed at the gateway at `base`."""
    return Recipe(
        tool="uv",
        home=home,
        file=user_file("UV_CONFIG_FILE", "uv", "uv.toml"),
        lines=(
            f'[[index]]\nname = "caravan"\nurl = "{base}/pypi/simple"\ndefault = true'
        ),
        if_down="uv fails after some seconds of trying",
        for_once="uv --no-config",
        environment={"UV_DEFAULT_INDEX": f"{base}/pypi/simple/"},
        notes=[UV_LOCK_NOTE],
        inspect=_in_uv_toml,
        is_toml=True,
    )


def poetry(home: Path, base: str) -> Recipe:
    """Return how poetry's mirror plugin is pointed at the gateway at `base`."""
    folder = os.environ.get("POETRY_CONFIG_DIR")
    file = user_file("", "pypoetry", "config.toml")
    return Recipe(
        tool="poetry",
        home=home,
        file=Path(folder) / "config.toml" if folder else file,
        lines=f'[plugins.pypi_mirror]\nurl = "{base}/pypi/simple/"',
        if_down="poetry fails after some seconds of trying",
        for_once="poetry --no-plugins",
        environment={"POETRY_PYPI_MIRROR_URL": f"{base}/pypi/simple/"},
        notes=[POETRY_NOTE],
        inspect=lambda text: _in_toml(text, "plugins", "pypi_mirror"),
        is_toml=True,
    )


def pdm(home: Path, base: str) -> Recipe:
    """Return how pdm is pointed at the gateway at `base`."""
    lines = f'[pypi]\nurl = "{base}/pypi/simple/"'
    environment = {"PDM_PYPI_URL": f"{base}/pypi/simple/"}
    if plain_host(base):  # what pdm calls a host that it trusts
        lines += "\nverify_ssl = false"
        environment["PDM_PYPI_VERIFY_SSL"] = "0"
    return Recipe(
        tool="pdm",
        home=home,
        file=user_file("PDM_CONFIG_FILE", "pdm", "config.toml"),
        lines=lines,
        if_down="pdm fails after some seconds of trying",
        environment=environment,
        inspect=lambda text: _in_toml(text, "pypi"),
        is_toml=True,
    )


def pipenv(home: Path, base: str) -> Recipe:
    """Return how pipenv is pointed at the gateway at `base`."""
    environment = {"PIPENV_PYPI_MIRROR": f"{base}/pypi/simple/"}
    if host := plain_host(base):
        environment["PIP_TRUSTED_HOST"] = host
    return Recipe(
        tool="pipenv",
        home=home,
        file=None,
        lines=exports(environment),
        if_down="pipenv fails after some seconds of trying",
        environment=environment,
    )


def _extra_indexes() -> Iterator[str]:
    """Say which indexes pip goes on to ask by itself."""
    said = [os.environ.get("PIP_EXTRA_INDEX_URL", "")]
    said += [
        one.value
        for path in pip_files()
        for one in pip_options(text_of(path))
        if one.name == "extra-index-url"
    ]
    urls = [url for one in said for url in one.split() if not is_gateway(url)]
    hosts = [urlsplit(url).hostname for url in urls]
    for host in dict.fromkeys(filter(None, hosts)):
        yield (
            f"pip asks {host} itself, for it is an extra-index-url; name it as an "
            "upstream (`[upstreams] pypi-LABEL`) to have its files through this node"
        )


def _unreadable_to_pip(text: str) -> str:
    """Return why pip itself cannot read its file, or ""."""
    if text.startswith("\ufeff"):
        return "it begins with a byte order mark, with which pip does not read it"
    if printable(text) != text:
        return "it is no UTF-8, and pip does not read it"
    return ""


def _extra_in_pip_conf(text: str) -> InTheWay:
    refusal = _unreadable_to_pip(text)
    if any(one.name == "extra-index-url" for one in pip_options(text)):
        refusal = refusal or "it names an extra-index-url already"
    return InTheWay(refusal=refusal)


def _in_pip_conf(text: str) -> InTheWay:
    found = index_options(text)
    foreign = {one.value for one in found if one.section != "global"}
    foreign = {url for url in foreign if not is_gateway(url)}
    refusal = _unreadable_to_pip(text)
    if len(foreign) > 1:
        refusal = "its sections name different indexes, and the node asks only one"
    lines = [number for one in found for number in one.lines]
    return InTheWay(lines, index_of(found), refusal)


def _in_uv_toml(text: str) -> InTheWay:
    if _HAS_OUR_NAME.search(text):
        return InTheWay(refusal="it has an index that is called caravan already")
    url = uv_default(text)
    lines = default_index_lines(text) if url else []
    if lines is None:
        return InTheWay(refusal="it names a default index already")
    return InTheWay(lines, url)


def _in_toml(text: str, *names: str) -> InTheWay:
    """Refuse a file that has this table already, or cannot be read."""
    try:
        found: object = tomllib.loads(text.removeprefix("\ufeff"))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        return InTheWay(refusal=f"it is not valid TOML ({error})")
    for name in names:
        found = found.get(name) if isinstance(found, dict) else None
    if found is None:
        return InTheWay()
    return InTheWay(refusal=f"it has a table [{'.'.join(names)}] already")


RECIPES: dict[str, Callable[[Path, str], Recipe]] = {
    "pip": pip, "uv": uv, "poetry": poetry, "pdm": pdm, "pipenv": pipenv,
}  # fmt: skip
"""How each tool is pointed at the gateway: by home and the gateway's URL."""
