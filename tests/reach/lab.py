"""A laboratory of network namespaces: links, routers with NAT, and nodes in them.

Every namespace has a name of this process, every process that is started is ended by
its own number, and `close` takes all of it away. It needs root, `ip` and `nft`.
"""

from __future__ import annotations

import itertools
import json
import os
import random
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
QUIET = {"CARAVAN_LAN": "false", "CARAVAN_PORT_MAPPING": "false"}
HERE = ("--listen", "0.0.0.0:4747")
FIRST = "11.1.0.1:4747"
FIRST_VERDICT_SECONDS = 60
_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
IP = shutil.which("ip", path=_PATH) or "ip"
NFT = shutil.which("nft", path=_PATH) or "nft"
GUESTS = ("a", "a2", "b", "walled")
"""Hosts whose nodes belong to one test; the others are there for all of a file."""
NATS: tuple[Nat, ...] = ("full", "address", "port", "symmetric")


def why_not() -> str | None:
    """Return why no laboratory can be made here, or None: it is tried in small."""
    if os.geteuid():
        return "network namespaces need root"
    for program in (IP, NFT):
        if shutil.which(program) is None:
            return f"there is no program {program!r}"
    probe = Lab(Path())
    try:
        probe.namespace("probe")
        probe.bridge("probe", "lan", "192.168.1.1/24")
        probe.namespace("guest")
        probe.plug(
            "guest", "eth0", ("probe", "lan"), "192.168.1.2/24", gateway="192.168.1.1"
        )
        probe.forward_packets("probe")
        for kind in NATS:
            probe.nat("probe", kind)
    except subprocess.CalledProcessError as error:
        said = " ".join(str(error.stderr).split())
        return f"network namespaces cannot be made here: {error.cmd}: {said}"
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"network namespaces cannot be made here: {error}"
    finally:
        probe.close()
    return None


def _quiet(*command: str) -> int:
    return subprocess.run(command, capture_output=True, check=False).returncode


class Lab:
    """Namespaces and what connects them; `close` removes everything."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._names: list[str] = []
        self._outer: dict[str, str] = {}
        self._numbers = itertools.count(1)
        self._programs: list[subprocess.Popen[str]] = []
        self.nodes: list[Node] = []

    def close(self) -> None:
        """End all nodes and remove all namespaces."""
        for node in self.nodes:
            node.end()
        for program in self._programs:
            program.terminate()
            program.communicate()
        for name in self._names:
            _quiet(IP, "netns", "del", self._full(name))

    def _full(self, name: str) -> str:
        return f"cv{os.getpid()}-{name}"

    def ip(self, host: str, *arguments: str) -> str:
        """Run `ip` in a namespace."""
        done = subprocess.run(
            [IP, "-n", self._full(host), *arguments],
            check=True, capture_output=True, text=True,
        )  # fmt: skip
        return done.stdout

    def command(self, host: str, *arguments: str) -> list[str]:
        """Return what runs a command in a namespace."""
        return [IP, "netns", "exec", self._full(host), *arguments]

    def run(self, host: str, *arguments: str, text: str | None = None) -> str:
        """Run a command in a namespace; returns its output."""
        done = subprocess.run(
            self.command(host, *arguments),
            check=True, capture_output=True, text=True, input=text, timeout=60,
        )  # fmt: skip
        return done.stdout

    def namespace(self, name: str) -> str:
        """Make a namespace with its loopback up."""
        subprocess.run(
            [IP, "netns", "add", self._full(name)],
            check=True, capture_output=True, text=True,
        )  # fmt: skip
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

    def forward_packets(self, router: str) -> None:
        """Make a router of a namespace."""
        self.run(router, "tee", "/proc/sys/net/ipv4/ip_forward", text="1")

    def internet(self) -> None:
        """Make a public link with seven hosts, and two routers with hosts behind.

        `pub1` to `pub6` are public, and so is `walled`, which has a node for some
        tests only; `a` and `a2` are behind `ra`, `b` behind `rb`.
        """
        self.namespace("inet")
        self.bridge("inet", "br0")
        for number in range(1, PUBLIC_HOSTS + 1):
            name = self.namespace(f"pub{number}")
            # Each in another /16, as strangers are.
            self.plug(name, "wan", ("inet", "br0"), f"11.{number}.0.1/8")
        self.plug(self.namespace("walled"), "wan", ("inet", "br0"), "11.90.0.1/8")
        for number, name in ((1, "ra"), (2, "rb")):
            self.namespace(name)
            self.plug(name, "wan", ("inet", "br0"))
            self.renumber(name)
            self.bridge(name, "lan", f"192.168.{number}.1/24")
            self.forward_packets(name)
            self.nat(name, "port")
        for name, router, host in (("a", 1, 2), ("a2", 1, 3), ("b", 2, 2)):
            self.namespace(name)
            there = ("ra" if router == 1 else "rb", "lan")
            self.plug(
                name, "eth0", there, f"192.168.{router}.{host}/24",
                gateway=f"192.168.{router}.1",
            )  # fmt: skip

    def renumber(self, router: str) -> str:
        """Give a router an outer address that it never had; return it."""
        last = self._outer.pop(router, None)
        if last is not None:
            self.ip(router, "addr", "del", f"{last}/8", "dev", "wan")
        self._outer[router] = new = f"11.{100 + next(self._numbers)}.0.1"
        self.ip(router, "addr", "add", f"{new}/8", "dev", "wan")
        return new

    def outer(self, router: str) -> str:
        """Return a router's outer address."""
        return self._outer[router]

    def fresh(self, ra: Nat = "port", rb: Nat = "port") -> None:
        """End the nodes of the last test; make other routers of the two."""
        for node in [each for each in self.nodes if each.host in GUESTS]:
            node.end()
            self.nodes.remove(node)
        for router, kind in (("ra", ra), ("rb", rb)):
            self.renumber(router)
            self.nat(router, kind)
        self.open("walled")

    def public_nodes(self, **environment: str) -> list[Node]:
        """Make the Internet and a node on each public host; all know their reach."""
        self.internet()
        options = {**QUIET, **environment}
        nodes = [self.node(f"pub{n}", **options) for n in range(1, PUBLIC_HOSTS + 1)]
        nodes[0].join(*HERE)
        for node in nodes[1:]:
            node.start(FIRST, *HERE)
        for node in nodes[1:]:
            node.wait()
        until(
            lambda: all(node.reach == ("reachable", "reachable") for node in nodes),
            FIRST_VERDICT_SECONDS,
            "public nodes that know that they are reachable",
        )
        return nodes

    def guest(self, host: str, **environment: str) -> Node:
        """Start a node on a host of a single test; it joins the public ones."""
        return self.node(host, **{**QUIET, **environment}).join(FIRST, *HERE)

    def delay(self, seconds: float) -> None:
        """Put a delay line between each router and the Internet: seconds each way."""
        program = str(ROOT / "tests/reach/delay_line.py")
        pairs = []
        for router in ("ra", "rb"):
            far, near = f"{router}far", f"{router}near"
            self.ip("inet", "link", "add", far, "type", "veth", "peer", "name", near)
            self.ip("inet", "link", "set", f"{router}wan", "nomaster")
            self.ip("inet", "link", "set", near, "master", "br0", "up")
            self.ip("inet", "link", "set", far, "up")
            pairs.append(f"{router}wan:{far}")
        ends = {"ra": "wan lan", "rb": "wan lan", "a": "eth0", "b": "eth0"}
        ends |= {f"pub{number}": "wan" for number in range(1, PUBLIC_HOSTS + 1)}
        for host, devices in ends.items():
            self.run(host, sys.executable, program, "plain", *devices.split())
        line = self.start("inet", sys.executable, program, str(seconds), *pairs)
        assert line.stdout is not None
        assert line.stdout.readline() == "ready\n"

    def start(self, host: str, *arguments: str) -> subprocess.Popen[str]:
        """Start a program in a namespace; `close` ends it."""
        program = subprocess.Popen(
            self.command(host, *arguments),
            text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        self._programs.append(program)
        return program

    def nat(self, router: str, kind: Nat, inbound: Inbound = "drop") -> None:
        """Set what kind of NAT a router is (RFC 4787), and its answer to strangers.

        The two cones are such for UDP; TCP is port-restricted there.
        """
        self.run(router, NFT, "-f", "-", text=_ruleset(kind, inbound))

    def open(self, host: str) -> None:
        """Take all rules of a host or router away."""
        self.run(host, NFT, "flush", "ruleset")

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
        self.run(router, NFT, "-f", "-", text=rules)

    def forget_connections(self, router: str) -> None:
        """Have a router forget its connections, as one that was restarted does."""
        rules = "flush ruleset\n"
        saved = self.run(router, NFT, "list", "ruleset")
        self.run(router, NFT, "-f", "-", text=rules + saved)

    def counted(self, host: str, device: str) -> int:
        """Return how many bytes a device has received and sent."""
        (found,) = json.loads(self.ip(host, "-s", "-j", "link", "show", device))
        stats = found["stats64"]
        return int(stats["rx"]["bytes"] + stats["tx"]["bytes"])

    def node(self, host: str, name: str = "", **environment: str) -> Node:
        """Return a node on a host with a home of its own, not started yet."""
        unique = name or f"{host}-{next(self._numbers)}"
        node = Node(self, host, unique, environment)
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

    @property
    def reach(self) -> tuple[str, str]:
        """What it says of its reach over UDP and TCP."""
        found = self.run("status")["reachability"]
        return found["udp"], found["tcp"]

    def wait_for_neighbour(self, other: Node, seconds: float) -> None:
        """Wait until it knows another node by an address behind the same router."""

        def met() -> bool:
            known = self.run("peers")["contacts"]
            local = [one for one in known if one["address"].startswith("192.168.")]
            return any(one["node_id"] == other.ready["node_id"] for one in local)

        until(met, seconds, "the neighbour")

    def share(self, size: int) -> str:
        """Share a new file; returns its digest."""
        file = self.lab.folder / f"file-{self.home.name}-{size}"
        file.write_bytes(random.Random(file.name).randbytes(size))
        digest: str = self.run("share", str(file))["artifacts"][0]["digest"]
        return digest

    def signal(self, number: int) -> None:
        """Send a signal to the node's process."""
        assert self._process is not None
        self._process.send_signal(number)

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
