"""Near peers are sent to without pacing, others as the system does."""

from __future__ import annotations

import socket
import sys

import pytest

from transfer.connection.congestion import Congestion

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux chooses so")


def algorithm(sock: socket.socket) -> bytes:
    found = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16)
    return found.split(b"\0")[0]


def accepted_by(listener: socket.socket, near_seconds: float) -> bytes:
    """Return what a connection over loopback is sent with."""
    pacing = Congestion(listener, near_seconds)
    with socket.create_connection(listener.getsockname()):
        connection, _ = listener.accept()
        with connection:
            pacing.tune(connection)
            return algorithm(connection)


@pytest.mark.parametrize(("near_seconds", "expected"), [(60.0, b"reno"), (0.0, b"bbr")])
def test_pacing_depends_on_the_round_trip(near_seconds: float, expected: bytes) -> None:
    """Where the system paces, only a peer that is not near is paced."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        try:
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"bbr")
        except OSError:
            pytest.skip("this system has no BBR")
        assert accepted_by(listener, near_seconds) == expected


@pytest.mark.parametrize("near_seconds", [60.0, 0.0])
def test_what_does_not_pace_is_left_alone(near_seconds: float) -> None:
    """Another algorithm than BBR stays as the system chose it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"reno")
        assert accepted_by(listener, near_seconds) == b"reno"
