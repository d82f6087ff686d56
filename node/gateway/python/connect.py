"""The lines that point pip and uv at this node."""

from __future__ import annotations

from pathlib import Path

from node.gateway.connecting import InTheWay, Recipe, user_file
from node.gateway.python.configured import (
    index_of,
    index_options,
    is_gateway,
    uv_default,
)

UV_LOCK_NOTE = (
    "`uv lock` and `uv sync` write the index that they used into uv.lock; to keep the "
    "gateway out of it, lock with `uv --no-config lock` and install with "
    "`uv export --frozen -o r.txt; uv pip sync --require-hashes r.txt`."
)


def pip(home: Path, base: str) -> Recipe:
    """Return how pip is pointed at the gateway at `base`."""
    return Recipe(
        tool="pip",
        home=home,
        file=user_file("PIP_CONFIG_FILE", "pip", "pip.conf"),
        section="global",
        lines=f"index-url = {base}/pypi/simple",
        if_down=(
            "pip fails after some seconds of trying; `caravan connect pip --undo`, or "
            "`pip --isolated install ...` for once."
        ),
        inspect=_in_pip_conf,
    )


def uv(home: Path, base: str) -> Recipe:
    """Return how uv is pointed at the gateway at `base`."""
    return Recipe(
        tool="uv",
        home=home,
        file=user_file("UV_CONFIG_FILE", "uv", "uv.toml"),
        lines=(
            f'[[index]]\nname = "caravan"\nurl = "{base}/pypi/simple"\ndefault = true'
        ),
        if_down=(
            "uv fails after some seconds of trying; `caravan connect uv --undo`, or "
            "`uv --no-config` for once."
        ),
        notes=[UV_LOCK_NOTE],
        inspect=_in_uv_toml,
        is_toml=True,
    )


def _in_pip_conf(text: str) -> InTheWay:
    found = index_options(text)
    foreign = {one.value for one in found if one.section != "global"}
    foreign = {url for url in foreign if not is_gateway(url)}
    refusal = ""
    if len(foreign) > 1:
        refusal = "its sections name different indexes, and the node asks only one"
    lines = [number for one in found for number in one.lines]
    return InTheWay(lines, index_of(found), refusal)


def _in_uv_toml(text: str) -> InTheWay:
    if url := uv_default(text):
        return InTheWay(refusal=f"it names a default index already, {url}")
    return InTheWay()
