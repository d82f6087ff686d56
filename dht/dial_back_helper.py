"""Helping with dial-backs: hand an asker on to a third node, or be that node.

The rules are in `dht.dial_back`; this is the side that others could abuse.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from dht.addresses import Address, Scope, unpack_address
from dht.bounded import BoundedDict, TtlMap
from dht.errors import DatagramError
from dht.limits import (
    DIAL_BACKS_PER_HOUR_MAX,
    DIAL_BACKS_PER_MINUTE_MAX,
    DIAL_BACKS_REMEMBERED_MAX,
    PORT_MIN,
)
from dht.prefix_tree import FairMinute
from dht.wire import DialBack, DialBackStatus, DialedBack, Ping

if TYPE_CHECKING:
    from collections.abc import Callable

    from dht.contacts import Contact
    from dht.core import Core
    from dht.in_flight import Asked
    from dht.prefix_tree import Path
    from dht.rpc_client import RpcClient
    from dht.tasks import Tasks

_OTHERS_TRIED: Final = 3  # contacts that a helper asks, one after the other
_MINUTE: Final = 60.0
_HOUR: Final = 3600.0


class DialBackLimits:
    """Who may have whom dialled, and how often; a plain object."""

    def __init__(self) -> None:
        self._by_asker: BoundedDict[bytes, list[float]] = BoundedDict(
            DIAL_BACKS_REMEMBERED_MAX
        )
        self._targets: TtlMap[str, bool] = TtlMap(_MINUTE, DIAL_BACKS_REMEMBERED_MAX)
        self._all = FairMinute(DIAL_BACKS_PER_MINUTE_MAX)

    def allow(self, asker: bytes, target: str, now: float, *, path: Path) -> bool:
        """Whether an IP may be dialled for an asker now; if so, it is counted.

        `path` are the prefixes of the asker's address.
        """
        own = [at for at in self._by_asker.get(asker, []) if now - at < _HOUR]
        if (
            len(own) >= DIAL_BACKS_PER_HOUR_MAX
            or self._targets.get(target, now)
            or not self._all.allow(path, now)
        ):
            return False
        self._by_asker[asker] = [*own, now]
        self._targets.put(target, True, now)
        return True


def ignore_dial(host: str, port: int, nonce: bytes) -> None:
    """Dial nobody over TCP."""
    del host, port, nonce


class DialBackHelper:
    """Has askers dialled by others, and dials for contacts."""

    def __init__(
        self,
        core: Core,
        rpc_client: RpcClient,
        send_once: Callable[[bytes, Address], object],
        *,
        tasks: Tasks,
    ) -> None:
        """`send_once` sends a datagram from a fresh port."""
        self._core = core
        self._rpc_client = rpc_client
        self._send_once = send_once
        self._tasks = tasks
        self._helped: TtlMap[bytes, DialBackStatus] = TtlMap(
            _MINUTE, DIAL_BACKS_REMEMBERED_MAX
        )
        self._asked_limits = DialBackLimits()
        self._dial_limits = DialBackLimits()
        self.dial_tcp: Callable[[str, int, bytes], None] = ignore_dial
        """Opens a TCP connection to an IP and port, and sends the nonce there."""

    def asked(self, body: DialBack, asked: Asked) -> DialedBack:
        """Answer a request for a dial-back."""
        if not asked.echoed:
            return DialedBack(DialBackStatus.REFUSED)
        if body.address:
            return DialedBack(self._dial(body, asked))
        known = self._helped.get(body.nonce, asked.now)
        if known is not None:
            return DialedBack(known)
        return DialedBack(self._help(body, asked))

    def _help(self, body: DialBack, asked: Asked) -> DialBackStatus:
        """Hand the asker's address to a contact of another network."""
        target = asked.source
        others = [
            contact
            for contact in public_contacts(self._core, target.family)
            if contact.address.group != target.group
        ]
        if target.scope is not Scope.PUBLIC or not others:
            return DialBackStatus.REFUSED
        source, path = asked.source.source, asked.source.path
        if not self._asked_limits.allow(source, target.host, asked.now, path=path):
            return DialBackStatus.REFUSED
        self._helped.put(body.nonce, DialBackStatus.STARTED, asked.now)
        chosen = self._core.rng.sample(others, min(_OTHERS_TRIED, len(others)))
        order = DialBack(target.packed, body.port, body.nonce)
        self._tasks.start(self._hand_on(chosen, order), "caravan-dht-dial-back-help")
        return DialBackStatus.STARTED

    async def _hand_on(self, chosen: list[Contact], order: DialBack) -> None:
        """Ask contacts one after the other until one dials."""
        status = DialBackStatus.REFUSED
        for contact in chosen:
            if await ask_well(self._core, self._rpc_client, contact, body=order):
                status = DialBackStatus.DIALED
                break
        self._helped.put(order.nonce, status, self._core.clock.monotonic())

    def _dial(self, body: DialBack, asked: Asked) -> DialBackStatus:
        """Dial an address for a contact of the table."""
        try:
            target = unpack_address(body.address)
        except DatagramError:
            return DialBackStatus.REFUSED
        if (
            asked.sender not in self._core.table_of(asked.source)
            or target.scope is not Scope.PUBLIC
            or not target.dialable
            or target.group == asked.source.group
            or 0 < body.port < PORT_MIN
        ):
            return DialBackStatus.REFUSED
        asker = asked.sender.public_key
        path = asked.source.path
        if not self._dial_limits.allow(asker, target.host, asked.now, path=path):
            return DialBackStatus.REFUSED
        datagram = self._rpc_client.probe_datagram(target, body.nonce)
        self._send_once(datagram, target)
        if body.port:
            self.dial_tcp(target.host, body.port, body.nonce)
        return DialBackStatus.STARTED


async def ask_well(
    core: Core, rpc_client: RpcClient, contact: Contact, *, body: DialBack
) -> bool:
    """Ask a contact, with a token of its own; whether it agreed."""
    if not core.peer_memory.token(contact.address, core.clock.monotonic()):
        await rpc_client.call(contact, Ping())
    answer = await rpc_client.call(contact, body)
    return answer is not None and answer.body.status != DialBackStatus.REFUSED


def public_contacts(core: Core, family: int) -> list[Contact]:
    """Return the contacts of a table that have public addresses."""
    return [
        contact
        for contact in core.tables[family]
        if contact.address.scope is Scope.PUBLIC
    ]
