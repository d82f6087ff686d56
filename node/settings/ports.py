"""The ports of a second node on one machine: the next free ones.

Two users of a machine both type `caravan join`. The second node's home remembers the
ports that it took, so that package managers and other nodes find it there again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from node.doctor import check_ports
from node.settings import DEFAULT_LISTEN, DEFAULT_WEB, Settings

STEP = 10
TRIES = 50


def on_free_ports(settings: Settings) -> tuple[Settings, dict[str, object]]:
    """Return `settings` with free ports in place of taken defaults, and what changed.

    Addresses that were chosen stay, also where they are taken: that is an error.
    """
    listen = settings.listen if settings.listen == DEFAULT_LISTEN else ()
    web = settings.web if settings.web == DEFAULT_WEB else ""
    for offset in range(0, STEP * TRIES, STEP):
        moved = [_moved(one, offset) for one in (*listen, *([web] if web else []))]
        if moved and _are_free(moved):
            break
    else:
        return settings, {}
    if not offset:
        return settings, {}
    changed: dict[str, object] = {}
    if listen:
        changed["listen"] = tuple(_moved(one, offset) for one in listen)
    if web:
        changed["web"] = _moved(web, offset)
    return replace(settings, **changed), changed  # type: ignore[arg-type]


def _moved(address: str, offset: int) -> str:
    host, _, port = address.rpartition(":")
    return f"{host}:{int(port) + offset}"


def _are_free(addresses: Iterable[str]) -> bool:
    pairs = [address.rpartition(":") for address in addresses]
    return check_ports([(host.strip("[]"), int(port)) for host, _, port in pairs]).ok
