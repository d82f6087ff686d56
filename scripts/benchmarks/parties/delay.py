"""A delay line between two network namespaces, for kernels without netem.

    ip netns exec HOST python scripts/benchmarks/parties/delay.py MILLISECONDS

Makes two tunnel devices, `out` and `back`: each packet that enters one leaves the other
so much later. Whoever starts it moves `back` into another namespace. Only one direction
is delayed where only that one is routed here; a round trip is what it adds up to.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import struct
import sys
import time
from collections import deque

_TUNSETIFF = 0x400454CA
_TUN_WITHOUT_HEADER = 0x1001
_PACKET_BYTES_MAX = 65536


def main() -> None:
    delay = float(sys.argv[1]) / 1e3
    out, back = _tunnel("out"), _tunnel("back")
    print("ready", flush=True)
    due: deque[tuple[float, int, bytes]] = deque()
    while True:
        wait = max(due[0][0] - time.monotonic(), 0.0) if due else None
        for source in select.select([out, back], [], [], wait)[0]:
            target = back if source == out else out
            with contextlib.suppress(BlockingIOError):
                while packet := os.read(source, _PACKET_BYTES_MAX):
                    due.append((time.monotonic() + delay, target, packet))
        now = time.monotonic()
        while due and due[0][0] <= now:
            _, target, packet = due.popleft()
            with contextlib.suppress(OSError):  # a device that is down, or full
                os.write(target, packet)


def _tunnel(name: str) -> int:
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    request = struct.pack("16sH", name.encode(), _TUN_WITHOUT_HEADER)
    fcntl.ioctl(descriptor, _TUNSETIFF, request)
    return descriptor


if __name__ == "__main__":
    main()
