"""A laboratory of network namespaces: links, routers with NAT, and nodes in them.

Every namespace has a name of this process, every process that is started is ended by
its own number, and `close` takes all of it away. It needs root, `ip` and `nft`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

ROOT = Path(__file__).resolve().parents[2]
Nat = Literal["full", "address", "port", "symmetric"]
Inbound = Literal["drop", "reject", "accept"]
PUBLIC_HOSTS = 6
NATS: tuple[Nat, ...] = ("full", "address", "port", "symmetric")


def why_not() -> str | None:
    """Return why no laboratory can be made here, or None."""
    if os.environ.get("CI"):
        return "network namespaces are not made in CI"
    if os.geteuid():
        return "network namespaces need root"
    for program in ("ip", "nft"):
        if shutil.which(program) is None:
            return f"there is no {program!r}"
    probe = f"cvprobe{os.getpid()}"
    made = _quiet("ip", "netns", "add", probe)
    try:
        if made:
            return "network namespaces cannot be made here"
        command = ["ip", "netns", "exec", probe, "nft", "-f", "-"]
        rules = _ruleset("port", "drop")
        if subprocess.run(
            command, input=rules, text=True, capture_output=True, check=False
        ).returncode:
            return "the kernel has no masquerade rule"
    finally:
        _quiet("ip", "netns", "del", probe)
    return None


def _quiet(*command: str) -> int:
    return subprocess.run(command, capture_output=True, check=False).returncode


class Lab:
    """Namespaces and what connects them; `close` removes everything."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._names: list[str] = []
        self.nodes: list[Node] = []

    def close(self) -> None:
        """End all nodes and remove all namespaces."""
        for node in self.nodes:
            node.end()
        for name in self._names:
            _quiet("ip", "netns", "del", self._full(name))

    def _full(self, name: str) -> str:
        return f"cv{os.getpid()}-{name}"

    def ip(self, host: str, *arguments: str) -> str:
        """Run `ip` in a namespace."""
        done = subprocess.run(
            ["ip", "-n", self._full(host), *arguments],
            check=True, capture_output=True, text=True,
        )  # fmt: skip
        return done.stdout

    def command(self, host: str, *arguments: str) -> list[str]:
        """Return what runs a command in a namespace."""
        return ["ip", "netns", "exec", self._full(host), *arguments]

    def run(self, host: str, *arguments: str, text: str | None = None) -> str:
        """Run a command in a namespace; returns its output."""
        done = subprocess.run(
            self.command(host, *arguments),
            check=True, capture_output=True, text=True, input=text, timeout=60,
        )  # fmt: skip
        return done.stdout

    def namespace(self, name: str) -> str:
        """Make a namespace with its loopback up."""
        subprocess.run(["ip", "netns", "add", self._full(name)], check=True)
        self._names.append(name)
        self.ip(name, "link", "set", "lo", "up")
        return name

    def bridge(self, host: str, name: str, *addresses: str) -> None:
        """Make a bridge in a namespace: one network link."""
        self.ip(host, "link", "add", name, "type", "bridge")
        for address in addresses:
            self.ip(host, "addr", "add", address, "dev", name, *_no_dad(address))
        self.ip(host, "link", "set", name, "up")

    def plug(
        self,
        host: str,
        device: str,
        at: tuple[str, str],
        *addresses: str,
        gateway: str = "",
    ) -> None:
        """Connect a namespace to a bridge (namespace, name) by a device of its own."""
        there, bridge = at
        port = f"{host}{device}"[:14]
        self.ip(
            there, "link", "add", port, "type", "veth",
            "peer", "name", device, "netns", self._full(host),
        )  # fmt: skip
        self.ip(there, "link", "set", port, "master", bridge, "up")
        for address in addresses:
            self.ip(host, "addr", "add", address, "dev", device, *_no_dad(address))
        self.ip(host, "link", "set", device, "up")
        if gateway:
            self.ip(host, "route", "add", "default", "via", gateway)

    def link(self, count: int, *, family: int = 4) -> list[str]:
        """Make `count` hosts on one link and nothing else."""
        self.namespace("switch")
        self.bridge("switch", "br0")
        names = []
        for number in range(1, count + 1):
            name = self.namespace(f"h{number}")
            address = (
                f"192.168.7.{number}/24" if family == 4 else f"fd00:7::{number}/64"
            )
            self.plug(name, "eth0", ("switch", "br0"), address)
            names.append(name)
        return names

    def internet(self) -> None:
        """Make a public link with six hosts, and two routers with hosts behind.

        `pub1` to `pub6` are public; `a` and `a2` are behind `ra`, `b` behind `rb`.
        """
        self.namespace("inet")
        self.bridge("inet", "br0")
        for number in range(1, PUBLIC_HOSTS + 1):
            name = self.namespace(f"pub{number}")
            # Each in another /16, as strangers are.
            self.plug(name, "wan", ("inet", "br0"), f"11.{number}.0.1/8")
        for number, name in ((1, "ra"), (2, "rb")):
            self.namespace(name)
            self.plug(name, "wan", ("inet", "br0"), f"11.10{number}.0.1/8")
            self.bridge(name, "lan", f"192.168.{number}.1/24")
            self.run(name, "sysctl", "-qw", "net.ipv4.ip_forward=1")
            self.nat(name, "port")
        for name, router, host in (("a", 1, 2), ("a2", 1, 3), ("b", 2, 2)):
            self.namespace(name)
            there = ("ra" if router == 1 else "rb", "lan")
            self.plug(
                name, "eth0", there, f"192.168.{router}.{host}/24",
                gateway=f"192.168.{router}.1",
            )  # fmt: skip

    def nat(self, router: str, kind: Nat, inbound: Inbound = "drop") -> None:
        """Set what kind of NAT a router is (RFC 4787), and its answer to strangers.

        The two cones are such for UDP; TCP is port-restricted there.
        """
        self.run(router, "nft", "-f", "-", text=_ruleset(kind, inbound))

    def forward(self, router: str, port: int, inside: str) -> None:
        """Have a router forward a port, UDP and TCP, to a host behind it."""
        rules = f"""
table ip forwarded {{
  chain before {{
    type nat hook prerouting priority -110;
    iifname "wan" meta l4proto {{ tcp, udp }} th dport {port} dnat ip to {inside}
  }}
}}
"""
        self.run(router, "nft", "-f", "-", text=rules)

    def forget_connections(self, router: str) -> None:
        """Have a router forget its connections, as one that was restarted does."""
        rules = "flush ruleset\n"
        saved = self.run(router, "nft", "list", "ruleset")
        self.run(router, "nft", "-f", "-", text=rules + saved)

    def counted(self, host: str, device: str) -> int:
        """Return how many bytes a device has received and sent."""
        (found,) = json.loads(self.ip(host, "-s", "-j", "link", "show", device))
        stats = found["stats64"]
        return int(stats["rx"]["bytes"] + stats["tx"]["bytes"])

    def node(self, host: str, name: str = "", **environment: str) -> Node:
        """Return a node on a host, not started yet."""
        node = Node(self, host, name or host, environment)
        self.nodes.append(node)
        return node


class Node:
    """A `caravan` node in a namespace, with a home folder of its own."""

    def __init__(
        self, lab: Lab, host: str, name: str, environment: dict[str, str]
    ) -> None:
        self.lab = lab
        self.host = host
        self.home = lab.folder / name
        self._environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("CARAVAN")},
            "CARAVAN_HOME": str(self.home),
            "PYTHONPATH": str(ROOT),
            **environment,
        }
        self._process: subprocess.Popen[str] | None = None
        self.ready: dict[str, Any] = {}

    def start(self, *arguments: str) -> Node:
        """Start `caravan join` without waiting for it."""
        log = (self.lab.folder / f"{self.home.name}.log").open("a")
        with log:
            self._process = subprocess.Popen(
                self._command("join", "--json", *arguments),
                env=self._environment, text=True, stdout=subprocess.PIPE, stderr=log,
            )  # fmt: skip
        return self

    def wait(self) -> Node:
        """Wait until the node is ready."""
        assert self._process is not None
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, self.log
        self.ready = json.loads(line)
        return self

    def join(self, *arguments: str) -> Node:
        """Start the node and wait until it is ready."""
        return self.start(*arguments).wait()

    @property
    def log(self) -> str:
        """What the node has logged."""
        return (self.lab.folder / f"{self.home.name}.log").read_text()

    def run(self, *arguments: str, code: int | None = 0) -> dict[str, Any]:
        """Run a command against this node; returns its JSON. Any code if it is None."""
        done = subprocess.run(
            self._command(*arguments, "--json"),
            env=self._environment, text=True, capture_output=True, timeout=120,
            check=False,
        )  # fmt: skip
        assert code in (None, done.returncode), (
            arguments,
            done.stdout,
            done.stderr,
            self.log,
        )
        document: dict[str, Any] = json.loads(done.stdout)
        return document

    def end(self) -> None:
        """End the node and wait for it."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()

    def _command(self, *arguments: str) -> list[str]:
        return self.lab.command(
            self.host, sys.executable, "-m", "node.cli.main", *arguments
        )


def until(condition: Callable[[], object], seconds: float, what: str) -> float:
    """Wait until a condition holds; returns the seconds that it took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, f"not within {seconds} s: {what}"
        time.sleep(0.05)
    return time.monotonic() - began


def _no_dad(address: str) -> tuple[str, ...]:
    """Let an IPv6 address be used at once: no duplicate is looked for."""
    return ("nodad",) if ":" in address else ()


def _ruleset(kind: Nat, inbound: Inbound) -> str:
    reject = "meta l4proto tcp reject with tcp reset" if inbound == "reject" else ""
    restricted = "ip saddr . udp dport @contacted" if kind == "address" else ""
    cone = (
        f'iifname "wan" meta l4proto udp {restricted} dnat ip to udp dport map @inside'
        if kind in ("full", "address")
        else ""
    )
    random = "fully-random" if kind == "symmetric" else ""
    return f"""
flush ruleset
table ip nat {{
  map inside {{
    type inet_service : ipv4_addr; size 65535; flags dynamic,timeout; timeout 120s;
  }}
  set contacted {{
    type ipv4_addr . inet_service; size 65535; flags dynamic,timeout; timeout 120s;
  }}
  chain learn {{
    type filter hook forward priority 10;
    oifname "wan" meta l4proto udp update @inside {{ udp sport : ip saddr }} \
      update @contacted {{ ip daddr . udp sport }}
  }}
  chain before {{
    type nat hook prerouting priority -100;
    {cone}
  }}
  chain after {{
    type nat hook postrouting priority 100;
    oifname "wan" masquerade {random}
  }}
}}
table ip guard {{
  chain incoming {{
    type filter hook input priority 0;
    ct state established,related accept
    iifname "wan" {reject}
    iifname "wan" {inbound}
  }}
  chain forwarding {{
    type filter hook forward priority 0; policy drop;
    ct state established,related accept
    iifname "lan" accept
    ct status dnat accept
  }}
}}
"""
