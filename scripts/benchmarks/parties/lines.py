"""Lines between network namespaces: a rate, a round trip, loss, and who shares them.

Four seeders and one leecher meet at a router. The line is the way from the router to
the leecher: a token bucket (tbf) bounds its rate, with a tenth of a second of queue,
and the router drops packets by chance. All of the round trip is added on the way back,
by `delay.py`, since not every kernel has netem: TCP cannot tell the difference.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.reach.lab import Lab

SEEDERS = 4
LEECHER = "leech"
LEECHER_HOST = "10.77.9.2"
_ROUTER = "router"
_ETHERNET_BYTES = 14
_HEADER_BYTES = 52
"""IPv4 and TCP with timestamps."""
_QUEUE_MILLISECONDS = 100
_DELAY = Path(__file__).with_name("delay.py")
_ALLOWED = Path("/proc/sys/net/ipv4/tcp_allowed_congestion_control")


@dataclass(frozen=True, slots=True)
class Line:
    """What lies between the seeders and the leecher."""

    mbit: int | None = None
    """Megabits a second towards the leecher; None without a bound."""
    round_trip: int = 0
    """Milliseconds."""
    loss: int = 0
    """Packets lost towards the leecher, in percent."""
    congestion: str = ""
    """The seeders' congestion control; the system's own if empty."""
    mtu: int = 1500

    def __str__(self) -> str:
        if self.mbit is None:
            return "no bound"
        words = [f"{self.mbit} Mbit/s", f"{self.round_trip} ms"]
        if self.loss:
            words.append(f"{self.loss} % loss")
        words.append(self.congestion.upper())
        if self.mtu != 1500:
            words.append(f"MTU {self.mtu}")
        return ", ".join(words)

    def least_seconds(self, size: int) -> float | None:
        """Return how long so many bytes take at least, a request included."""
        if self.mbit is None:
            return None
        useful = (self.mtu - _HEADER_BYTES) / (self.mtu + _ETHERNET_BYTES)
        return size * 8 / (self.mbit * 1e6 * useful) + 2 * self.round_trip / 1e3


def seeder(number: int) -> str:
    """Return the name of a seeder's namespace, from 1 on."""
    return f"seed{number}"


def seeder_host(number: int) -> str:
    """Return the address of a seeder."""
    return f"10.77.{number}.2"


def is_allowed(congestion: str) -> bool:
    """Whether a namespace may use this congestion control."""
    return not congestion or congestion in _ALLOWED.read_text().split()


@contextmanager
def between(line: Line, folder: Path) -> Iterator[Lab]:
    """Make a line and its ends; all of it is removed at the end."""
    lab = Lab(folder)
    delay: subprocess.Popen[str] | None = None
    try:
        lab.namespace(_ROUTER)
        lab.run(_ROUTER, "sysctl", "-qw", "net.ipv4.ip_forward=1")
        lab.namespace(LEECHER)
        for number in range(1, SEEDERS + 1):
            lab.namespace(seeder(number))
            _plug(lab, seeder(number), number, line)
        _plug(lab, LEECHER, 9, line)
        if line.mbit is not None:
            _bound(lab, line.mbit)
        if line.loss:
            lab.run(_ROUTER, "nft", "-f", "-", text=_loss(line.loss))
        if line.round_trip:
            delay = _delayed(lab, line)
        yield lab
    finally:
        if delay is not None:
            delay.terminate()
            delay.wait()
            if delay.stdout is not None:
                delay.stdout.close()
        lab.close()


def _plug(lab: Lab, host: str, network: int, line: Line) -> None:
    """Connect a host to the router, each at a link of its own."""
    name = lab.command(host)[3]
    lab.ip(
        _ROUTER, "link", "add", host, "type", "veth", "peer", "name", "eth0",
        "netns", name,
    )  # fmt: skip
    for where, device, end in ((_ROUTER, host, 1), (host, "eth0", 2)):
        lab.ip(where, "addr", "add", f"10.77.{network}.{end}/24", "dev", device)
        lab.ip(where, "link", "set", device, "mtu", str(line.mtu))
        if line.mbit is not None:
            # One packet is one packet, for the bucket and for the dice.
            lab.ip(where, "link", "set", device, "gso_max_segs", "1")
        lab.ip(where, "link", "set", device, "up")
    lab.ip(host, "route", "add", "default", "via", f"10.77.{network}.1")
    for setting in ("all", "default"):
        lab.run(host, "sysctl", "-qw", f"net.ipv4.conf.{setting}.rp_filter=0")
    if line.congestion:
        control = f"net.ipv4.tcp_congestion_control={line.congestion}"
        lab.run(host, "sysctl", "-qw", control)


def _bound(lab: Lab, mbit: int) -> None:
    burst = max(mbit * 1000 // 8 * 2, 4 * 1514)  # what passes in two milliseconds
    lab.run(
        _ROUTER, "tc", "qdisc", "replace", "dev", LEECHER, "root", "tbf",
        "rate", f"{mbit}mbit", "burst", str(burst), "latency",
        f"{_QUEUE_MILLISECONDS}ms",
    )  # fmt: skip


def _loss(percent: int) -> str:
    return f"""
table ip lossy {{
  chain forward {{
    type filter hook forward priority 0;
    oifname "{LEECHER}" numgen random mod 100 < {percent} drop
  }}
}}
"""


def _delayed(lab: Lab, line: Line) -> subprocess.Popen[str]:
    """Lead what the leecher sends through a delay; return the process that delays."""
    command = lab.command(LEECHER, sys.executable, str(_DELAY), str(line.round_trip))
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        router = lab.command(_ROUTER)[3]
        lab.ip(LEECHER, "link", "set", "back", "netns", router)
        for where, device in ((LEECHER, "out"), (_ROUTER, "back")):
            lab.ip(where, "link", "set", device, "mtu", str(line.mtu))
            lab.ip(where, "link", "set", device, "txqueuelen", "5000")
            lab.ip(where, "link", "set", device, "up")
            for setting in ("all", device):
                value = f"net.ipv4.conf.{setting}.rp_filter=0"
                lab.run(where, "sysctl", "-qw", value)
        route = ("default", "dev", "out", "src", LEECHER_HOST)
        lab.ip(LEECHER, "route", "replace", *route)
    except BaseException:
        process.terminate()
        process.wait()
        process.stdout.close() if process.stdout else None
        raise
    return process
