"""A flood of connections, as a process of its own.

    python -m tests.attacks.flood SOURCE HOST PORT COUNT [HEX]

Keeps COUNT connections of one source address open that say nothing beyond the bytes in
HEX. One that is closed is opened again at once. It goes on until it is ended.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import subprocess
import sys
from collections.abc import Iterator

from node.sockets import raise_descriptor_limit

AT_ONCE = 64


@contextlib.contextmanager
def flooding(
    source: str, address: tuple[str, int], count: int, first: bytes = b""
) -> Iterator[None]:
    """Run such a process while the block runs."""
    host, port = address
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "tests.attacks.flood"),
            *(source, host, str(port), str(count), first.hex()),
        ],
        stdin=subprocess.DEVNULL,
    )
    try:
        yield
        if process.poll() is not None:
            raise RuntimeError("the flood ended too early")
    finally:
        process.kill()
        process.wait()


def main() -> None:
    source, host, port, count, *rest = sys.argv[1:]
    raise_descriptor_limit()
    os.nice(19)  # a flood comes from another machine, with a processor of its own
    first = bytes.fromhex("".join(rest))
    with selectors.EpollSelector() as selector:
        while True:
            missing = int(count) - len(selector.get_map())
            for _ in range(min(missing, AT_ONCE)):
                _open(selector, source, (host, int(port)))
            for key, events in selector.select(0.01):
                _go_on(selector, key, events, first)


def _open(
    selector: selectors.BaseSelector, source: str, address: tuple[str, int]
) -> None:
    sock = socket.socket()
    sock.setblocking(False)
    try:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_BIND_ADDRESS_NO_PORT, 1)
        sock.bind((source, 0))
        with contextlib.suppress(BlockingIOError):
            sock.connect(address)
    except OSError:
        sock.close()
        return
    selector.register(sock, selectors.EVENT_WRITE)


def _go_on(
    selector: selectors.BaseSelector,
    key: selectors.SelectorKey,
    events: int,
    first: bytes,
) -> None:
    """Say the first bytes, or notice the end."""
    sock = key.fileobj
    assert isinstance(sock, socket.socket)
    try:
        if events & selectors.EVENT_WRITE:
            sock.send(first)
            selector.modify(sock, selectors.EVENT_READ)
        elif sock.recv(4096):
            return
        else:
            raise ConnectionError("closed")
    except BlockingIOError:
        return
    except OSError:
        selector.unregister(sock)
        sock.close()


if __name__ == "__main__":
    main()
