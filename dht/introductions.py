"""Introductions: a node that cannot be dialled is called through one that can.

A node behind a router keeps a small reservation at up to three reachable contacts, its
*introducers*, and names them in its provider records. Who wants something of it asks
one of them, and the introducer passes the call on. The node then dials the caller, or
both meet at a relay.

What bounds abuse:

1. A reservation is made by a proven key, costs one datagram every 25 s and ends after
   75 s without one; 64 at a node, 4 of one /24 or /64. When all are taken, one of the
   largest prefix goes (`dht.prefix_tree`).
2. A caller names no address: it is called back at the IP that the introducer saw and
   that echoed a token. It has 10 calls in a minute, all callers together 120, of
   which no network has more than a part.
3. A node obeys only the introducers that it chose, dials public addresses and ports
   from 1024 up, eight at once and 120 in a minute, and an IP where it did not find a
   caller is left alone for a minute. So an introducer that lies gains a connection
   attempt a minute.
4. A call that the called node refuses is taken back, and the caller learns it at once.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, NamedTuple

from dht.addresses import Address, Scope, unpack_address
from dht.bounded import BoundedDict
from dht.contacts import Contact
from dht.dial_back_helper import public_contacts
from dht.errors import DatagramError
from dht.limits import (
    CALLS_PER_MINUTE_MAX,
    CALLS_PER_SOURCE_PER_MINUTE_MAX,
    INTRODUCERS_MAX,
    PORT_MIN,
    RESERVATION_SECONDS,
    RESERVATIONS_MAX,
    RESERVATIONS_PER_GROUP_MAX,
    RESERVE_EVERY_SECONDS,
)
from dht.prefix_tree import FairMinute, PrefixTree
from dht.wire import (
    Call,
    Called,
    CallStatus,
    CallTaken,
    Introduced,
    Ping,
    Reserve,
    Reserved,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dht.core import Core
    from dht.in_flight import Asked, ProvenReply
    from dht.prefix_tree import Path
    from dht.rpc_client import RpcClient
    from dht.tasks import Tasks
    from dht.wire import MessageBody

_MINUTE: Final = 60.0


class CalledBy(NamedTuple):
    """A call that reached this node: whom to dial, and how."""

    caller: Address
    port: int
    token: bytes
    way: int
    introducer: Contact
    introducer_port: int


class Introducer(NamedTuple):
    """A contact that keeps a reservation of this node."""

    contact: Contact
    tcp_port: int
    relays: bool


class Reservations:
    """Who is reserved at this node; a plain object, bounded.

    When it is full, one of the largest prefix goes, a newcomer of that prefix first:
    a network with many addresses takes no place from others.
    """

    def __init__(self) -> None:
        self._by_key: dict[bytes, tuple[Contact, float]] = {}
        self._tree = PrefixTree()

    def __len__(self) -> int:
        return len(self._by_key)

    def put(self, contact: Contact, now: float) -> bool:
        """Make or renew a reservation; False where there is no room."""
        for key in [k for k, (_, until) in self._by_key.items() if until <= now]:
            self._remove(key)
        self._remove(contact.public_key)
        group = contact.address.source
        same = sum(each.address.source == group for each, _ in self._by_key.values())
        if same >= RESERVATIONS_PER_GROUP_MAX:
            return False
        self._by_key[contact.public_key] = (contact, now + RESERVATION_SECONDS)
        self._tree.add(_path(contact), 1)
        if len(self._by_key) > RESERVATIONS_MAX:
            loser = self._tree.largest(newcomer=_path(contact))
            self._remove(loser[-1])
        return contact.public_key in self._by_key

    def find(self, public_key: bytes, now: float) -> Contact | None:
        """Return where a node with a reservation answers."""
        contact, until = self._by_key.get(public_key, (None, 0.0))
        return contact if until > now else None

    def _remove(self, public_key: bytes) -> None:
        removed = self._by_key.pop(public_key, None)
        if removed is not None:
            self._tree.add(_path(removed[0]), -1)


def _path(contact: Contact) -> Path:
    return (*contact.address.path, contact.public_key)


class CallLimits:
    """How many calls are passed on, by source and in all; a plain object."""

    def __init__(self) -> None:
        self._by_source: BoundedDict[bytes, list[float]] = BoundedDict(1024)
        self._all = FairMinute(CALLS_PER_MINUTE_MAX)

    def allow(self, source: Address, now: float) -> bool:
        """Whether a source may call now; if so, it is counted."""
        calls = self._by_source.get(source.source, [])
        own = [at for at in calls if now - at < _MINUTE]
        if len(own) >= CALLS_PER_SOURCE_PER_MINUTE_MAX:
            return False
        if not self._all.allow(source.path, now):
            return False
        self._by_source[source.source] = [*own, now]
        return True


def refuse_call(call: CalledBy) -> bool:
    """Dial nobody."""
    del call
    return False


def refuse_relay(token: bytes) -> bool:
    """Relay for nobody."""
    del token
    return False


class Introductions:
    """Reserves at introducers, calls through them, and passes calls on."""

    def __init__(self, core: Core, rpc_client: RpcClient, *, tasks: Tasks) -> None:
        self._core = core
        self._rpc_client = rpc_client
        self._tasks = tasks
        self._reservations = Reservations()
        self._limits = CallLimits()
        self._introducers: dict[bytes, Introducer] = {}
        self._keeping: asyncio.Task[None] | None = None
        self.tcp_port = 0
        """Where this node takes TCP connections, as an introducer; 0 refuses all."""
        self.relays = False
        """Whether this node offers to relay, as an introducer."""
        self.on_called: Callable[[CalledBy], bool] = refuse_call
        """Takes a call; whether this node will dial."""
        self.expect_relay: Callable[[bytes], bool] = refuse_relay
        """Takes the token of two connections to be joined; whether they will be."""
        self.expect_meeting: Callable[[bytes], bool] = refuse_relay
        """The same for two ends that are to learn each other's outer address."""
        self.on_refused: Callable[[bytes], object] = lambda _: None
        """Gets the token of a call that was passed on and is not obeyed."""
        self.on_change: Callable[[], object] = lambda: None
        """Called when the introducers are others than before."""

    # --- the node that cannot be dialled --------------------------------------

    @property
    def introducers(self) -> tuple[Introducer, ...]:
        """The contacts at which this node has a reservation."""
        return tuple(self._introducers.values())

    def maintain(self, *, wanted: bool) -> None:
        """Begin or end to keep reservations."""
        running = self._keeping is not None and not self._keeping.done()
        if wanted and not running:
            self._keeping = self._tasks.start(self._maintain(), "caravan-dht-reserve")
        elif not wanted and running and self._keeping is not None:
            self._keeping.cancel()
            self._introducers.clear()
            self._update()

    async def _maintain(self) -> None:
        """Renew the reservations, and look for others where one is lost."""
        while True:
            held = list(self._introducers.values())
            await asyncio.gather(*(self._reserve(one.contact) for one in held))
            for contact in self._candidates():
                if len(self._introducers) >= INTRODUCERS_MAX:
                    break
                await self._reserve(contact)
            self._update()
            pause = RESERVE_EVERY_SECONDS if self._introducers else _RETRY_SECONDS
            await asyncio.sleep(pause)

    def _candidates(self) -> list[Contact]:
        """Return public contacts of networks that have no introducer yet."""
        taken = {one.contact.address.group for one in self._introducers.values()}
        found: dict[bytes | None, Contact] = {}
        for family in sorted(self._core.families):
            for contact in public_contacts(self._core, family):
                if contact.address.group not in taken:
                    found[contact.address.group] = contact
        chosen = list(found.values())
        self._core.rng.shuffle(chosen)
        return chosen[: 2 * INTRODUCERS_MAX]

    async def _reserve(self, contact: Contact) -> None:
        """Make or renew one reservation; forget it where it is refused."""
        answer = await self._rpc_client.call(contact, Reserve(), introduces=True)
        if answer is not None and answer.body.status == CallStatus.UNPROVEN:
            # Its token was too old for the proof to count; the answer had a new one.
            answer = await self._rpc_client.call(contact, Reserve(), introduces=True)
        if answer is None or answer.body.status != CallStatus.DONE:
            self._introducers.pop(contact.public_key, None)
            return
        self._introducers[contact.public_key] = Introducer(
            contact, answer.body.port, answer.body.relays
        )

    def _update(self) -> None:
        """Name the introducers in provider records from now on."""
        contacts = tuple(one.contact for one in self._introducers.values())
        if set(contacts) != set(self._core.reach.introducers):
            self._core.reach.introducers = contacts
            self.on_change()

    # --- the caller ------------------------------------------------------------

    async def call(
        self, target: bytes, through: Sequence[Contact], *, port: int, token: bytes,
        way: int,
    ) -> tuple[Contact, int] | None:  # fmt: skip
        """Have a node called through one of its introducers.

        Return the introducer that passed the call on, with its TCP port.
        """
        for introducer in through:
            if introducer.public_key == self._core.signer.public_key:
                if self._call_myself(target, introducer, port, token=token, way=way):
                    return introducer, self.tcp_port
                continue
            if not self._core.peer_memory.token(
                introducer.address, self._core.clock.monotonic()
            ) and (await self._ask_in_time(introducer, Ping()) is None):
                continue
            body = Call(target, port, token, way)
            answer = await self._ask_in_time(introducer, body)
            if answer is not None and answer.body.status == CallStatus.DONE:
                return introducer, answer.body.port
        return None

    def _call_myself(
        self, target: bytes, myself: Contact, port: int, *, token: bytes, way: int
    ) -> bool:
        """Have a node dial this one, which is its introducer; whether it was asked."""
        called = self._reservations.find(target, self._core.clock.monotonic())
        if called is None or way != Way.REVERSE:
            return False
        body = Called(myself.address.packed, port, token, way)
        self._rpc_client.ask(called, body, lambda _: None)
        return True

    def _ask_in_time(
        self, introducer: Contact, body: MessageBody
    ) -> asyncio.Future[ProvenReply | None]:
        """Ask an introducer; None as soon as there is little hope: others may live."""
        future: asyncio.Future[ProvenReply | None]
        future = asyncio.get_running_loop().create_future()

        def done(answer: ProvenReply | None) -> None:
            if not future.done():
                future.set_result(answer)

        self._rpc_client.ask(introducer, body, done, late=lambda: done(None))
        return future

    # --- the introducer, and the node that is called -----------------------------

    def asked(self, body: MessageBody, asked: Asked) -> MessageBody:
        """Answer one of the three requests."""
        if isinstance(body, Reserve):
            return self._asked_to_reserve(asked)
        if isinstance(body, Call):
            return Introduced(self._pass_on(body, asked), self.tcp_port)
        if isinstance(body, Called):
            return CallTaken(self._accept_call(body, asked))
        raise TypeError(f"{type(body).__name__} is no introduction")

    def _asked_to_reserve(self, asked: Asked) -> Reserved:
        status = CallStatus.REFUSED
        if not self._core.peer_memory.is_proven(asked.sender, asked.now):
            status = CallStatus.UNPROVEN
        elif (
            self.tcp_port
            and not self._core.reach.is_read_only(asked.source)
            and self._reservations.put(asked.sender, asked.now)
        ):
            status = CallStatus.DONE
        return Reserved(status, self.tcp_port, self.relays)

    def _pass_on(self, body: Call, asked: Asked) -> CallStatus:
        """Pass a call on to a node with a reservation."""
        target = self._reservations.find(body.target, asked.now)
        if target is None:
            return CallStatus.UNKNOWN
        if not asked.echoed or body.port < PORT_MIN:
            return CallStatus.REFUSED
        if not self._limits.allow(asked.source, asked.now):
            return CallStatus.REFUSED
        if body.way == Way.RELAY and not self.expect_relay(body.token):
            return CallStatus.REFUSED
        if body.way == Way.PUNCH and not self.expect_meeting(body.token):
            return CallStatus.REFUSED
        called = Called(asked.source.packed, body.port, body.token, body.way)

        def answered(answer: ProvenReply | None) -> None:
            if answer is None or answer.body.status != CallStatus.DONE:
                # The caller learns at once that nobody will come.
                self.on_refused(body.token)

        self._rpc_client.ask(target, called, answered)
        return CallStatus.DONE

    def _accept_call(self, body: Called, asked: Asked) -> CallStatus:
        """Take a call from an introducer of this node."""
        introducer = self._introducers.get(asked.sender.public_key)
        if introducer is None or introducer.contact.address != asked.source:
            return CallStatus.REFUSED
        try:
            caller = unpack_address(body.caller)
        except DatagramError:
            return CallStatus.REFUSED
        if caller.scope is not Scope.PUBLIC or body.port < PORT_MIN:
            return CallStatus.REFUSED
        call = CalledBy(
            caller, body.port, body.token, body.way,
            introducer.contact, introducer.tcp_port,
        )  # fmt: skip
        return CallStatus.DONE if self.on_called(call) else CallStatus.REFUSED


class Way:
    """How caller and called are to meet."""

    REVERSE: Final = 1  # the called node dials the caller
    RELAY: Final = 2  # both connect to the introducer, which joins them
    PUNCH: Final = 3  # both connect to it, and then to each other at the same moment


_RETRY_SECONDS: Final = 3.0
