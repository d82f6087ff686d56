"""First contacts through BitTorrent's Mainline DHT (BEP 5), as a read-only guest.

Nodes of one Caravan network announce themselves under one info-hash and look it up.
The client uses the node's own UDP socket, so that the port which Mainline stores
(`implied_port`) is the one that others can send to, behind a NAT too. It marks every
query as read-only (BEP 43), answers none, and keeps no table.

What is found is an address to ping and no more: anybody can announce any address
there. So few are tried, and each at most once an hour.
"""

from __future__ import annotations

import asyncio
import ipaddress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from dht import Address, AddressError
from node.reach import bencode

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterable

    from dht import Network

ID_BYTES: Final = 20
CLOSEST: Final = 8
IN_FLIGHT_MAX: Final = 8
QUERIES_MAX: Final = 120
"""Of one lookup."""
QUERY_SECONDS: Final = 1.0
LOOKUP_SECONDS_MAX: Final = 12.0
PEERS_MAX: Final = 64
TOKEN_BYTES_MAX: Final = 64
_COMPACT_NODE_BYTES = ID_BYTES + 6
_COMPACT_PEER_BYTES = 6


def info_hash(network: Network) -> bytes:
    """Return where the nodes of a network meet; of a private one it is secret."""
    return network.key(b"caravan rendezvous 1" + network.name.encode())[:ID_BYTES]


@dataclass(slots=True)
class PeersReply:
    """What a Mainline node answered to `get_peers`."""

    node_id: bytes
    token: bytes
    peers: list[Address]
    nodes: list[tuple[bytes, Address]]


def read_reply(message: dict[bytes, Any], source: Address) -> PeersReply:
    """Read the body of a reply; raises `ValueError`.

    Addresses that the sender cannot know, and those that are never dialled, are left
    out.
    """
    body = message.get(b"r")
    if not isinstance(body, dict):
        raise ValueError("no reply")  # noqa: TRY004 (one error for all)
    node_id, token = body.get(b"id"), body.get(b"token", b"")
    if not isinstance(node_id, bytes) or len(node_id) != ID_BYTES:
        raise ValueError("no id")
    if not isinstance(token, bytes) or len(token) > TOKEN_BYTES_MAX:
        raise ValueError("no token")
    values, nodes = body.get(b"values", []), body.get(b"nodes", b"")
    if not isinstance(values, list) or not isinstance(nodes, bytes):
        raise ValueError("no addresses")  # noqa: TRY004
    peers = [_compact(each, source) for each in values[:PEERS_MAX]]
    found = []
    for at in range(0, len(nodes) - _COMPACT_NODE_BYTES + 1, _COMPACT_NODE_BYTES):
        packed = nodes[at : at + _COMPACT_NODE_BYTES]
        address = _compact(packed[ID_BYTES:], source)
        if address is not None:
            found.append((packed[:ID_BYTES], address))
    return PeersReply(node_id, token, [one for one in peers if one is not None], found)


def _compact(packed: Any, source: Address) -> Address | None:
    if not isinstance(packed, bytes) or len(packed) != _COMPACT_PEER_BYTES:
        return None
    host = str(ipaddress.IPv4Address(packed[:4]))
    try:
        address = Address(host, int.from_bytes(packed[4:], "big"))
    except AddressError:
        return None
    return address if source.believes(address) else None


@dataclass(slots=True)
class _Answered:
    distance: int
    address: Address
    token: bytes


class MainlineWalk:
    """One walk towards an info-hash: whom to ask next, and when it is over.

    A plain object. Addresses given at the start have no known id and come first.
    """

    def __init__(self, target: bytes, seeds: Iterable[Address]) -> None:
        self._target = int.from_bytes(target, "big")
        self._waiting: list[tuple[int, Address]] = [(-1, one) for one in seeds]
        self._seen: set[Address] = set()
        self._answered: list[_Answered] = []
        self.peers: dict[Address, None] = {}

    @property
    def closest(self) -> list[tuple[Address, bytes]]:
        """The nodes nearest to the target that answered, each with its token."""
        return [(one.address, one.token) for one in self._answered[:CLOSEST]]

    @property
    def queries(self) -> int:
        """How many nodes were asked."""
        return len(self._seen)

    def next(self) -> Address | None:
        """Return whom to ask now; None where nobody nearer is known."""
        while self._waiting and len(self._seen) < QUERIES_MAX:
            self._waiting.sort()
            distance, address = self._waiting.pop(0)
            if address in self._seen:
                continue
            if len(self._answered) >= CLOSEST and (
                distance > self._answered[CLOSEST - 1].distance
            ):
                return None
            self._seen.add(address)
            return address
        return None

    def record_answer(self, reply: PeersReply, source: Address) -> None:
        """Note what a node has answered."""
        distance = self._distance(reply.node_id)
        self._answered.append(_Answered(distance, source, reply.token))
        self._answered.sort(key=lambda one: one.distance)
        for peer in reply.peers:
            if len(self.peers) < PEERS_MAX:
                self.peers[peer] = None
        self._waiting += [
            (self._distance(node_id), address) for node_id, address in reply.nodes
        ]

    def _distance(self, node_id: bytes) -> int:
        return int.from_bytes(node_id, "big") ^ self._target


@dataclass(slots=True)
class Meeting:
    """What a lookup brought."""

    peers: list[Address]
    """Nodes that announced themselves; nothing about them is proven."""
    nodes: list[Address] = field(default_factory=list)
    """Mainline nodes that answered, nearest first."""
    announced: int = 0
    """How many nodes took this node's announcement."""


class MainlineClient:
    """Asks Mainline nodes over a socket that belongs to somebody else."""

    def __init__(
        self, send: Callable[[bytes, Address], object], rng: random.Random
    ) -> None:
        self._send = send
        self._rng = rng
        self._id = rng.randbytes(ID_BYTES)
        self._pending: dict[bytes, tuple[Address, asyncio.Future[dict[bytes, Any]]]]
        self._pending = {}

    def received(self, datagram: bytes, source: Address) -> None:
        """Take a datagram; only the answer to an own query counts."""
        try:
            message = bencode.decode(datagram)
        except ValueError:
            return
        if not isinstance(message, dict) or message.get(b"y") not in (b"r", b"e"):
            return  # a query: read-only nodes answer none
        transaction = message.get(b"t")
        if not isinstance(transaction, bytes):
            return
        pending = self._pending.get(transaction)
        if pending is not None and pending[0] == source and not pending[1].done():
            pending[1].set_result(message)

    async def find(
        self, target: bytes, seeds: Iterable[Address], *, announce: bool
    ) -> Meeting:
        """Look up an info-hash, and announce this node under it if wanted."""
        lookup = MainlineWalk(target, seeds)
        tasks: set[asyncio.Task[None]] = set()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + LOOKUP_SECONDS_MAX
        while loop.time() < deadline:
            while len(tasks) < IN_FLIGHT_MAX:
                address = lookup.next()
                if address is None:
                    break
                tasks.add(loop.create_task(self._ask(lookup, target, address)))
            if not tasks:
                break
            await asyncio.wait(
                tasks,
                timeout=deadline - loop.time(),
                return_when=asyncio.FIRST_COMPLETED,
            )
            tasks = {task for task in tasks if not task.done()}
        for task in tasks:
            task.cancel()
        found = Meeting(list(lookup.peers), [one for one, _ in lookup.closest])
        if announce:
            found.announced = await self._announce(target, lookup.closest)
        return found

    async def _ask(self, lookup: MainlineWalk, target: bytes, address: Address) -> None:
        arguments = {b"id": self._id, b"info_hash": target}
        message = await self._query(b"get_peers", arguments, address)
        if message is None:
            return
        try:
            lookup.record_answer(read_reply(message, address), address)
        except ValueError:
            return

    async def _announce(
        self, target: bytes, nodes: Iterable[tuple[Address, bytes]]
    ) -> int:
        """Announce this node; the port is the one that the datagram came from."""
        replies = await asyncio.gather(
            *(
                self._query(
                    b"announce_peer",
                    {
                        b"id": self._id,
                        b"info_hash": target,
                        b"implied_port": 1,
                        b"port": 1,
                        b"token": token,
                    },
                    address,
                )
                for address, token in nodes
                if token
            )
        )
        return sum(one is not None and one.get(b"y") == b"r" for one in replies)

    async def _query(
        self, method: bytes, arguments: dict[bytes, Any], address: Address
    ) -> dict[bytes, Any] | None:
        """Ask one node; None where it does not answer in time."""
        transaction = self._rng.randbytes(4)
        future: asyncio.Future[dict[bytes, Any]]
        future = asyncio.get_running_loop().create_future()
        self._pending[transaction] = (address, future)
        query = {
            b"t": transaction, b"y": b"q", b"q": method, b"a": arguments, b"ro": 1,
        }  # fmt: skip
        try:
            self._send(bencode.encode(query), address)
            async with asyncio.timeout(QUERY_SECONDS):
                return await future
        except TimeoutError:
            return None
        finally:
            del self._pending[transaction]
