"""The lines that point npm, pnpm, yarn and bun at this node."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

from node.gateway import connecting
from node.gateway.connecting import InTheWay, Recipe
from node.gateway.npm.configured import (
    npm_options,
    scoped_registries,
    user_file,
)

_IN_THE_WAY = ("registry", "omit-lockfile-registry-resolved", "replace-registry-host")
_YARN_REGISTRY = re.compile(r"""^\s*["']?registry["']?\s""", re.MULTILINE)
_BERRY_SETTINGS = re.compile(
    r"""^["']?(npmRegistryServer|unsafeHttpWhitelist)["']?\s*:""", re.MULTILINE
)

NPM_NOTE = (
    "pnpm, yarn 1 and bun read this file too; yarn 1 and bun write this address into "
    "their lockfiles: `caravan lockfile clean yarn.lock`. yarn 2 and later pass this "
    "node by: `caravan connect yarn-berry`."
)
YARN_NOTE = (
    "yarn 1 writes this address into yarn.lock: `caravan lockfile clean yarn.lock` "
    "puts the origin's back. It asks the addresses that a yarn.lock names, so one that "
    "names the origin passes this node by."
)
BUN_NOTE = (
    "bun writes this address into bun.lock: `caravan lockfile clean bun.lock` puts the "
    "origin's back. It asks the addresses that a bun.lock names, so one that names "
    "another registry than npm's own passes this node by."
)


def npm(home: Path, base: str) -> Recipe:
    """Return how npm is pointed at the gateway at `base`."""
    return Recipe(
        tool="npm",
        home=home,
        file=user_file(),
        # A lockfile that names an origin is installed through the node as well.
        lines=(
            f"registry={base}/npm/\n"
            "omit-lockfile-registry-resolved=true\nreplace-registry-host=always"
        ),
        if_down="npm fails after about a minute of trying",
        environment={
            "npm_config_registry": f"{base}/npm/",
            "npm_config_replace_registry_host": "always",
        },
        notes=[NPM_NOTE, *_scopes(home)],
        inspect=_in_npmrc,
    )


def pnpm(home: Path, base: str) -> Recipe:
    """Return how pnpm is pointed at the gateway at `base`."""
    return Recipe(
        tool="pnpm",
        home=home,
        file=connecting.user_file("", "pnpm", "rc"),
        lines=f"registry={base}/npm/",
        if_down="pnpm fails after about a minute of trying",
        environment={"npm_config_registry": f"{base}/npm/"},
        inspect=_in_npmrc,
    )


def yarn(home: Path, base: str) -> Recipe:
    """Return how yarn 1 is pointed at the gateway at `base`."""
    return Recipe(
        tool="yarn",
        home=home,
        file=Path.home() / ".yarnrc",
        lines=f'registry "{base}/npm"',
        if_down="yarn fails after some minutes of trying",
        environment={"YARN_REGISTRY": f"{base}/npm"},
        notes=[YARN_NOTE],
        inspect=_in_yarnrc,
    )


def yarn_berry(home: Path, base: str) -> Recipe:
    """Return how yarn 2 and later is pointed at the gateway at `base`."""
    name = os.environ.get("YARN_RC_FILENAME") or ".yarnrc.yml"
    lines = f'npmRegistryServer: "{base}/npm"'
    environment = {"YARN_NPM_REGISTRY_SERVER": f"{base}/npm"}
    parts = urlsplit(base)
    if parts.scheme == "http":  # refused without this, also on loopback
        lines += f'\nunsafeHttpWhitelist:\n  - "{parts.hostname}"'
        environment["YARN_UNSAFE_HTTP_WHITELIST"] = str(parts.hostname)
    return Recipe(
        tool="yarn-berry",
        home=home,
        file=Path.home() / name,
        lines=lines,
        if_down="yarn fails after some seconds of trying",
        environment=environment,
        inspect=_in_yarnrc_yml,
    )


def bun(home: Path, base: str) -> Recipe:
    """Return how bun is pointed at the gateway at `base`."""
    folder = os.environ.get("XDG_CONFIG_HOME") or Path.home()
    return Recipe(
        tool="bun",
        home=home,
        file=Path(folder) / ".bunfig.toml",
        section="install",
        lines=f'registry = "{base}/npm/"',
        if_down="bun fails after some seconds of trying",
        environment={"BUN_CONFIG_REGISTRY": f"{base}/npm/"},
        notes=[BUN_NOTE],
        inspect=_in_bunfig,
        is_toml=True,
    )


def _scopes(home: Path) -> Iterator[str]:
    """Say which registries npm asks by itself, for packages of some scopes."""
    for scope, url in scoped_registries(home).items():
        yield (
            f"npm asks {urlsplit(url).hostname} itself for packages of {scope}, which "
            "has a registry of its own"
        )


def _in_npmrc(text: str) -> InTheWay:
    found = npm_options(text)
    ours = [one for one in found if one.name in _IN_THE_WAY and not one.section]
    before = [one.value for one in ours if one.name == "registry"]
    lines = [number for one in ours for number in one.lines]
    refusal = ""
    if any(one.section for one in found):
        # npm reads what follows a header as part of that section.
        refusal = "it has sections, below which npm does not look for its registry"
    return InTheWay(lines, before[-1] if before else "", refusal)


def _in_yarnrc(text: str) -> InTheWay:
    if _YARN_REGISTRY.search(text):
        return InTheWay(refusal="it names a registry already")
    return InTheWay()


def _in_yarnrc_yml(text: str) -> InTheWay:
    if match := _BERRY_SETTINGS.search(text):
        return InTheWay(refusal=f"it has {match[1]} already")
    return InTheWay()


def _in_bunfig(text: str) -> InTheWay:
    try:
        install = tomllib.loads(text.removeprefix("\ufeff")).get("install", {})
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        return InTheWay(refusal=f"it is not valid TOML ({error})")
    if isinstance(install, dict) and "registry" in install:
        return InTheWay(refusal="it names a registry already")
    return InTheWay()


RECIPES: dict[str, Callable[[Path, str], Recipe]] = {
    "npm": npm, "pnpm": pnpm, "yarn": yarn, "yarn-berry": yarn_berry, "bun": bun,
}  # fmt: skip
"""How each tool is pointed at the gateway: by home and the gateway's URL."""
