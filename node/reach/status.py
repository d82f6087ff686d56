"""What is said of a node's reach: in `status`, `peers` and `doctor`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dht import Reachable
from node import results

if TYPE_CHECKING:
    from dht import Dht, ReachVerdict
    from node.reach.port_mapping import PortMapping


def reachability(
    dht: Dht, *, mapping: PortMapping | None, problem: str, by_introducers: str = ""
) -> results.Reachability:
    """Return how others reach this node over UDP and TCP, and by whose word.

    `problem` says why there is no port mapping; `by_introducers` is the word for how
    a node that cannot be dialled is reached all the same.
    """
    udp, tcp = dht.dial_back.reachable("udp"), dht.dial_back.reachable("tcp")
    seen = dht.observed
    is_mapped = mapping is not None and not mapping.is_behind_another(
        seen.host if seen is not None else None
    )
    note = ""
    if mapping is not None and not is_mapped and udp.reachable is not Reachable.YES:
        note = (
            f"the router forwards a port ({mapping.protocol}), but its outer address "
            f"{mapping.address} is not what others see: your provider has another "
            "router before it (carrier-grade NAT)"
        )
    elif mapping is None and tcp.reachable is Reachable.NO:
        note = f"no port mapping: {problem}" if problem else ""
    return results.Reachability(
        udp=_word(udp, is_mapped=is_mapped, otherwise=""),
        tcp=_word(tcp, is_mapped=is_mapped, otherwise=by_introducers),
        since=max(udp.since, tcp.since) or None,
        by=sorted({*udp.by, *tcp.by}),
        address=str(seen) if seen is not None else None,
        mapping=mapping.protocol if mapping is not None else None,
        note=note,
    )


def _word(verdict: ReachVerdict, *, is_mapped: bool, otherwise: str) -> str:
    if verdict.reachable is Reachable.YES:
        return "mapped" if is_mapped else "reachable"
    if verdict.reachable is Reachable.NO:
        return otherwise or "unreachable"
    return "unknown"
