"""How package managers are pointed at a gateway without changing a file.

Each reads environment variables that outrank its configuration files, the same that
`caravan connect` shows. cargo has none for its registry and takes `--config` arguments.
"""

from __future__ import annotations

from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from node.gateway.connecting import OTHER_SPELLINGS
from node.gateway.ecosystems import environment_at

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def environment_for(gateway: str, environ: Mapping[str, str]) -> dict[str, str]:
    """Return `environ` with every package manager pointed at `gateway`, a URL.

    `gateway` has no slash at its end.
    """
    changed = dict(environ)
    for name, text in environment_at(Path(), gateway).items():
        for other in OTHER_SPELLINGS.get(name, ()):
            changed.pop(other, None)
        changed[name] = text
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
