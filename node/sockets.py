"""Bind the node's TCP sockets; the DHT then takes the same port numbers for UDP."""

from __future__ import annotations

import contextlib
import errno
import resource
import socket

from dht import Address
from node.errors import NodeError

BACKLOG = 512
DESCRIPTORS_WANTED = 65_536


def raise_descriptor_limit() -> None:
    """Let this process open as many files as the system allows it, up to 65,536."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS_WANTED
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def listen(addresses: list[Address]) -> list[socket.socket]:
    """Bind and listen on all `addresses`, closing all if one fails.

    Port 0 of the first takes any free port; port 0 of the others takes that one too.
    Raises NodeError, or OSError with EADDRINUSE where a port 0 met a taken one.
    """
    sockets: list[socket.socket] = []
    port = 0
    try:
        for address in addresses:
            try:
                bound = _listen_one(Address(address.host, address.port or port))
            except OSError as error:
                # A kernel without IPv6 cannot listen on [::]; the others will do.
                lacking = error.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)
                if lacking and address.host == "::" and sockets:
                    continue
                raise
            sockets.append(bound)
            port = port or bound.getsockname()[1]
    except BaseException:
        close_all(sockets)
        raise
    return sockets


def bound_address(bound: socket.socket) -> Address:
    """Return where a socket is bound."""
    host, port = bound.getsockname()[:2]
    return Address(host, port)


def close_all(sockets: list[socket.socket]) -> None:
    """Close them."""
    for one in sockets:
        one.close()


def explain(error: OSError, address: Address) -> NodeError:
    """Return one sentence for a socket that could not be had."""
    if error.errno == errno.EADDRINUSE:
        return NodeError(
            f"port {address.port} is taken on {address.host}; "
            f"choose another with --listen HOST:PORT"
        )
    return NodeError(f"cannot listen on {address}: {error.strerror or error}")


def _listen_one(address: Address) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind((address.host, address.port))
        bound.listen(BACKLOG)
        if hasattr(socket, "SO_REUSEPORT"):
            # Only now, so that a taken port is an error: hole punching connects from
            # the port on which this node listens.
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    except BaseException:
        bound.close()
        raise
    return bound
