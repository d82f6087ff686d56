"""What `join` prints once the node is ready, for people."""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING

from node.cli.text import say, short_node_id, size
from node.settings import PUBLIC_NETWORK

if TYPE_CHECKING:
    from node.results import ReadyResult, StatusResult


def print_running(status: StatusResult) -> None:
    """Print that a node was running before; new options count from its next start."""
    say(f"node {short_node_id(status.node_id)} is already running at {status.address}")
    say(f"web page: http://{status.web}/")


def print_ready(ready: ReadyResult) -> None:
    """Print where the node is, and how others join it while it has no contacts."""
    address = ready.address
    say(f"node {short_node_id(ready.node_id)} is ready at {address}")
    say(f"web page: http://{ready.web}/")
    if ready.site:
        say(f"package managers of this site ask {ready.site}")
    if ready.store_bytes is not None:
        say(f"keeps at most {size(ready.store_bytes)} (store_bytes in config.toml)")
    if ready.contacts:
        return
    # Every hint works as it stands: an invitation has the secret, and the addresses of
    # this machine's links where it listens on all of them.
    elsewhere = _is_loopback(address) and not all(map(_is_loopback, ready.listen))
    if ready.network != PUBLIC_NETWORK or elsewhere:
        say("no contacts yet; others join with the line that `caravan invite` prints")
    else:
        say(f"no contacts yet; others join with `caravan join {address}`")


def _is_loopback(address: str) -> bool:
    return ip_address(address.rpartition(":")[0].strip("[]")).is_loopback
