"""A thousand connections at once, for tests of few descriptors."""

from __future__ import annotations

import contextlib
import socket
import threading


def crowd(port: int) -> list[socket.socket]:
    """Connect a thousand times at once, and stay; from threads, as fast as it goes."""
    opened: list[socket.socket] = []

    def connect() -> None:
        for _ in range(100):
            with contextlib.suppress(OSError):
                opened.append(socket.create_connection(("127.0.0.1", port), 5))

    threads = [threading.Thread(target=connect) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return opened
