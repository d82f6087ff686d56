"""An asyncio loop in virtual time, whose datagrams cross a simulated network.

It is the standard loop with another clock: when nothing is ready, time jumps to the
next timer. Sockets, transports and threads are replaced where they are made, so the
shipping code and the libraries under it run unmodified, and the same seed gives the
same run.
"""

from __future__ import annotations

import asyncio
import contextlib
import selectors
import socket
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.simulation.network import SimulatedNetwork

HOST: ContextVar[str] = ContextVar("simulated_host")
"""The IP address of the simulated host on whose behalf code runs."""


class StuckError(RuntimeError):
    """Nothing is ready and no timer is set: this simulation will never go on."""


class VirtualSelector(selectors.SelectSelector):
    """Never waits: it moves the clock of its loop instead."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise StuckError("Nothing will ever happen again.")
        self.now += max(timeout, 0.0)
        return []


class SimulatedSocket:
    """What the transport needs of a UDP socket."""

    type = socket.SOCK_DGRAM

    def __init__(self, network: SimulatedNetwork, host: str, port: int) -> None:
        self.family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.address = network.bind(self, host, port)
        self.network = network
        self.deliver: Callable[[bytes, tuple[str, int]], None] | None = None

    def getsockname(self) -> tuple[str, int]:
        return self.address

    def sendto(self, data: bytes, address: tuple[str, int]) -> int:
        self.network.send(data, self.address, address)
        return len(data)

    def close(self) -> None:
        self.network.unbind(self)


class SimulatedTransport(asyncio.DatagramTransport):
    """The transport of a simulated socket."""

    def __init__(
        self,
        loop: VirtualLoop,
        sock: SimulatedSocket,
        protocol: asyncio.DatagramProtocol,
    ) -> None:
        super().__init__({"socket": sock, "sockname": sock.address})
        self._virtual_loop = loop
        self._sock = sock
        self._protocol = protocol
        self._closing = False
        sock.deliver = protocol.datagram_received

    def sendto(self, data: Any, addr: Any = None) -> None:
        self._sock.sendto(bytes(data), addr)

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        if self._closing:
            return
        self._closing = True
        self._sock.deliver = None
        self._sock.close()
        if not self._virtual_loop.is_closed():
            self._virtual_loop.call_soon(self._protocol.connection_lost, None)


class VirtualLoop(asyncio.SelectorEventLoop):
    """The loop of a simulation."""

    def __init__(self) -> None:
        self._selector_of_time = VirtualSelector()
        self.network: SimulatedNetwork | None = None
        super().__init__(self._selector_of_time)

    def time(self) -> float:
        return self._selector_of_time.now

    async def create_datagram_endpoint(  # type: ignore[override]
        self,
        protocol_factory: Callable[[], Any],
        local_addr: tuple[str, int] | None = None,
        *,
        sock: Any = None,
        **options: Any,
    ) -> tuple[Any, Any]:
        if sock is None:
            assert self.network is not None
            port = local_addr[1] if local_addr is not None else 0
            sock = SimulatedSocket(self.network, HOST.get(), port)
        protocol = protocol_factory()
        transport = SimulatedTransport(self, sock, protocol)
        protocol.connection_made(transport)
        return transport, protocol

    def run_in_executor(  # type: ignore[override]
        self, executor: Any, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:
            future.set_exception(error)
        return future


class VirtualClock:
    """Both clocks of a node, read off the loop; `skew` shifts the dates only."""

    def __init__(self, loop: VirtualLoop, skew: float = 0.0) -> None:
        self._loop = loop
        self.skew = skew

    def time(self) -> float:
        return 1_800_000_000.0 + self.skew + self._loop.time()

    def monotonic(self) -> float:
        return self._loop.time()


@contextlib.contextmanager
def virtual_time() -> Iterator[VirtualLoop]:
    """Run in virtual time: everything inside uses one new loop."""
    loop = VirtualLoop()
    asyncio.set_event_loop(loop)
    try:
        yield loop
    finally:
        _end_tasks(loop)
        loop.run_until_complete(loop.shutdown_asyncgens())
        asyncio.set_event_loop(None)
        loop.close()


def _end_tasks(loop: VirtualLoop) -> None:
    """Cancel what still runs, so that it ends before its loop does."""
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
