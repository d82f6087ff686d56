"""Network links: the interfaces of this machine that lead to a local network.

Left out are loopback, interfaces without a carrier, tunnels, and the bridges that
container runtimes make: their addresses mean nothing to another host of the LAN.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import ifaddr

if TYPE_CHECKING:
    from collections.abc import Iterable

_SYS = Path("/sys/class/net")
_CONTAINER_NAMES = (
    "br-", "cali", "cni", "docker", "flannel", "kube", "lxc", "lxd", "podman",
    "vboxnet", "veth", "virbr", "vmnet", "weave",
)  # fmt: skip
_TUNNEL_NAMES = ("ppp", "tailscale", "tap", "tun", "utun", "wg", "zt")
_DOWN = ("down", "lowerlayerdown", "notpresent")

Interface = ipaddress.IPv4Interface | ipaddress.IPv6Interface


@dataclass(frozen=True, slots=True)
class Link:
    """One interface with its usable addresses and their networks."""

    name: str
    interfaces: tuple[Interface, ...]
    zone: int = 0
    """The system's number of the interface; IPv6 multicast is sent through it."""

    @property
    def hosts(self) -> tuple[str, ...]:
        """The addresses of this machine on the link."""
        return tuple(str(one.ip) for one in self.interfaces)

    def has(self, host: str) -> bool:
        """Whether an address lies in a network of this link."""
        try:
            ip = ipaddress.ip_address(host)
        except ValueError:
            return False
        return any(
            ip.version == one.version and ip in one.network for one in self.interfaces
        )


def links(listen: Iterable[str], *, loopback: bool = False) -> tuple[Link, ...]:
    """Return the links on which a node that listens on these hosts can be met.

    A wildcard host stands for all addresses of its family. `loopback` includes
    loopback interfaces, for several nodes on one machine.
    """
    wanted = [ipaddress.ip_address(host) for host in listen]
    found = []
    for adapter in ifaddr.get_adapters():
        if _is_left_out(adapter.name):
            continue
        interfaces = [
            interface
            for address in adapter.ips
            if (interface := _interface(address)) is not None
            and (loopback or not interface.ip.is_loopback)
            and any(_covers(one, interface) for one in wanted)
        ]
        if interfaces:
            ordered = tuple(sorted(interfaces, key=str))
            found.append(Link(adapter.name, ordered, adapter.index or 0))
    return tuple(sorted(found, key=lambda link: link.name))


def is_container_bridge(name: str, sys: Path = _SYS) -> bool:
    """Whether an interface belongs to containers or virtual machines.

    Names tell, and so does a bridge without any physical port.
    """
    if name.startswith(_CONTAINER_NAMES):
        return True
    ports = sys / name / "brif"
    if not ports.is_dir():
        return False
    return not any((sys / port.name / "device").exists() for port in ports.iterdir())


def _is_left_out(name: str) -> bool:
    if name.startswith(_TUNNEL_NAMES) or is_container_bridge(name):
        return True
    try:
        state = (_SYS / name / "operstate").read_text("ascii").strip()
    except OSError:
        return False  # not Linux, or an interface that says nothing
    return state in _DOWN


def _interface(address: ifaddr.IP) -> Interface | None:
    """Return an address with its network; None where no other host could use it.

    A link-local IPv6 address needs a zone, which differs from host to host.
    """
    host = address.ip if isinstance(address.ip, str) else address.ip[0]
    try:
        interface = ipaddress.ip_interface(f"{host}/{address.network_prefix}")
    except ValueError:
        return None
    if interface.version == 6 and interface.ip.is_link_local:
        return None
    return interface


def _covers(
    listened: ipaddress.IPv4Address | ipaddress.IPv6Address, interface: Interface
) -> bool:
    if listened.version != interface.version:
        return False
    return listened.is_unspecified or listened == interface.ip
