"""How fast the kernel lets a seeder's bytes out: without pacing to near peers.

Some systems send with BBR, which spaces packets by timers. That is made for long
ways; to a peer on this machine or in the same room it takes as much processor
time as all the rest of sending. So connections start with an algorithm that
does not pace, and those whose handshake took longer get the system's own.

It has to be this way round: a connection that has once paced goes on doing so.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import sys

_UNPACED = b"reno"  # the one that every process may choose
_PACED = b"bbr"
_ROUND_TRIP = struct.Struct("68x I")  # tcpi_rtt in Linux's struct tcp_info
_NAME_BYTES_MAX = 16


class Congestion:
    """Chooses for the connections of one listening socket."""

    def __init__(self, listener: socket.socket, near_seconds: float) -> None:
        self._near = near_seconds
        self._far: bytes | None = None
        if sys.platform != "linux":
            return
        with contextlib.suppress(OSError):
            own = listener.getsockopt(
                socket.IPPROTO_TCP, socket.TCP_CONGESTION, _NAME_BYTES_MAX
            )
            own = own.split(b"\0")[0]
            if own.startswith(_PACED):
                listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, _UNPACED)
                self._far = own

    def tune(self, accepted: socket.socket) -> None:
        """Give a connection that was just accepted what suits its length."""
        if self._far is None:
            return
        with contextlib.suppress(OSError):
            answer = accepted.getsockopt(
                socket.IPPROTO_TCP, socket.TCP_INFO, _ROUND_TRIP.size
            )
            (round_trip,) = _ROUND_TRIP.unpack(answer)
            if round_trip / 1e6 >= self._near:
                accepted.setsockopt(
                    socket.IPPROTO_TCP, socket.TCP_CONGESTION, self._far
                )
