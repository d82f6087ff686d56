"""A delay line in userspace: Ethernet frames between pairs of devices, each way late.

    python delay_line.py SECONDS DEVICE:DEVICE ...
    python delay_line.py plain DEVICE ...

It runs in the namespace of the devices. Where the kernel has netem, that would do
the same. `plain` turns the offloads of devices off, in the namespaces of the ends:
what is read from a device must be whole frames with true checksums.
"""

from __future__ import annotations

import array
import contextlib
import fcntl
import heapq
import itertools
import select
import socket
import struct
import sys
import time

SIOCETHTOOL = 0x8946
OFFLOADS = (0x15, 0x17, 0x1F, 0x24, 0x2C)  # checksums in and out, TSO, GSO, GRO
ETHERTYPES_ALL = 3
OUTGOING = 4  # PACKET_OUTGOING: what this process itself sent
FRAME_BYTES_MAX = 65536


def plain(device: str) -> None:
    """Turn a device's offloads off."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        for command in OFFLOADS:
            value = array.array("B", struct.pack("II", command, 0))
            request = struct.pack("16sP", device.encode(), value.buffer_info()[0])
            with contextlib.suppress(OSError):  # one that it does not have
                fcntl.ioctl(control, SIOCETHTOOL, request)


def run(seconds: float, pairs: list[tuple[str, str]]) -> None:
    """Carry frames until the process is ended."""
    to: dict[socket.socket, socket.socket] = {}
    for one, other in pairs:
        ends = [_raw(one), _raw(other)]
        to[ends[0]], to[ends[1]] = ends[1], ends[0]
    late: list[tuple[float, int, bytes, socket.socket]] = []
    numbers = itertools.count()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while True:
        pause = max(0.0, late[0][0] - time.monotonic()) if late else None
        for end in select.select(list(to), [], [], pause)[0]:
            with contextlib.suppress(BlockingIOError):
                frame, address = end.recvfrom(FRAME_BYTES_MAX)
                if address[2] != OUTGOING:
                    due = time.monotonic() + seconds
                    heapq.heappush(late, (due, next(numbers), frame, to[end]))
        while late and late[0][0] <= time.monotonic():
            _, _, frame, out = heapq.heappop(late)
            with contextlib.suppress(OSError):  # the device has gone, or is full
                out.send(frame)


def _raw(device: str) -> socket.socket:
    opened = socket.socket(
        socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETHERTYPES_ALL)
    )
    opened.bind((device, ETHERTYPES_ALL))
    opened.setblocking(False)
    return opened


if __name__ == "__main__":
    if sys.argv[1] == "plain":
        for name in sys.argv[2:]:
            plain(name)
    else:
        split = [one.partition(":") for one in sys.argv[2:]]
        run(float(sys.argv[1]), [(one, other) for one, _, other in split])
