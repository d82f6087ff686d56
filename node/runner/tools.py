"""How package managers are pointed at a gateway without changing a file.

Each reads an environment variable that outranks its configuration files; cargo has
none for its registry and takes `--config` arguments. Their documentation:

- pip: configuration, environment variables; uv: UV_DEFAULT_INDEX
- pdm: PDM_PYPI_URL; pipenv: PIPENV_PYPI_MIRROR
- npm, pnpm and bun: npm_config_registry; bun also BUN_CONFIG_REGISTRY
- yarn 1: YARN_REGISTRY; yarn 2 and later: YARN_NPM_REGISTRY_SERVER
- cargo: source replacement
"""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_INDEX_VARIABLES = {
    "PIP_INDEX_URL": "/pypi/simple/",
    "UV_DEFAULT_INDEX": "/pypi/simple/",
    "PDM_PYPI_URL": "/pypi/simple/",
    "PIPENV_PYPI_MIRROR": "/pypi/simple/",
    "npm_config_registry": "/npm/",
    "BUN_CONFIG_REGISTRY": "/npm/",
    "YARN_REGISTRY": "/npm",
    "YARN_NPM_REGISTRY_SERVER": "/npm",
}
_OTHER_SPELLINGS = {
    "UV_DEFAULT_INDEX": ("UV_INDEX_URL",),
    "npm_config_registry": ("NPM_CONFIG_REGISTRY",),
}


def environment_for(gateway: str, environ: Mapping[str, str]) -> dict[str, str]:
    """Return `environ` with every package manager pointed at `gateway`, a URL.

    `gateway` has no slash at its end.
    """
    changed = dict(environ)
    for name, path in _INDEX_VARIABLES.items():
        for other in _OTHER_SPELLINGS.get(name, ()):
            changed.pop(other, None)
        changed[name] = gateway + path
    # Yarn 2 refuses plain HTTP, also on loopback, unless the host is named here.
    changed["YARN_UNSAFE_HTTP_WHITELIST"] = "127.0.0.1"
    # A proxy on the way to loopback would be asked to reach itself.
    for name in ("NO_PROXY", "no_proxy"):
        hosts = [host for host in changed.get(name, "").split(",") if host]
        changed[name] = ",".join(dict.fromkeys([*hosts, "127.0.0.1", "localhost"]))
    return changed


def command_for(gateway: str, command: Sequence[str]) -> list[str]:
    """Return the command, with the arguments that cargo needs instead of variables."""
    if PurePath(command[0]).stem != "cargo":
        return list(command)
    toolchain = [one for one in command[1:2] if one.startswith("+")]
    rest = command[1 + len(toolchain) :]
    settings = (
        'source.crates-io.replace-with="caravan"',
        f'source.caravan.registry="sparse+{gateway}/cargo/index/"',
    )
    configured = [word for one in settings for word in ("--config", one)]
    return [command[0], *toolchain, *configured, *rest]
