"""A traversal: one lookup carried out with real requests.

`dht.lookup` decides; this sends, waits, and reports back. It costs one future for the
whole traversal and one callback for each request, and no task.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from dht.addresses import Scope
from dht.contacts import split_contacts, unpack_contact
from dht.errors import DatagramError
from dht.limits import (
    FIND_PATHS,
    PATIENCE,
    REPLY_CONTACTS_MAX,
    SEEDS,
    STORE_PATHS,
    STORE_PATIENCE,
    K,
)
from dht.lookup import Lookup
from dht.wire import FindNode

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable

    from dht.contacts import Contact
    from dht.core import Core
    from dht.in_flight import ProvenReply
    from dht.rpc_client import RpcClient
    from dht.wire import MessageBody


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """What each contact on the way to a target is asked, and how hard to try.

    `count` contacts nearest to `target` are wanted, over so many disjoint `paths`. A
    first request to a stranger has `first_bytes` at least; `patience` is explained at
    `RpcClient.ask`.
    """

    target: bytes
    body: MessageBody
    near_body: MessageBody | None = None
    """What contacts on this machine or in the local network are asked instead."""
    count: int = K
    paths: int = 1
    first_bytes: int = 0
    patience: int = PATIENCE

    def body_for(self, contact: Contact) -> MessageBody:
        """Return what to ask a contact."""
        if self.near_body is None or contact.address.scope is Scope.PUBLIC:
            return self.body
        return self.near_body

    @classmethod
    def near(cls, target: bytes) -> Query:
        """Return a query for the contacts nearest to a target."""
        return cls(target=target, body=FindNode(target))

    @classmethod
    def reading(
        cls,
        target: bytes,
        body: MessageBody,
        near_body: MessageBody | None = None,
        *,
        count: int = K,
    ) -> Query:
        """Return a query that reads what the keepers of a key hold."""
        return cls(
            target=target,
            body=body,
            near_body=near_body,
            count=count,
            paths=FIND_PATHS,
        )

    @classmethod
    def storing(cls, target: bytes, count: int = K) -> Query:
        """Return a query for the nodes at which something is to be stored."""
        return cls(
            target=target,
            body=FindNode(target),
            count=count,
            paths=STORE_PATHS,
            patience=STORE_PATIENCE,
        )


class Traversal:
    """One lookup under way, among the contacts of one address family."""

    def __init__(
        self,
        core: Core,
        *,
        rpc_client: RpcClient,
        loop: asyncio.AbstractEventLoop,
        family: int,
        query: Query,
        on_reply: Callable[[ProvenReply], None] | None = None,
    ) -> None:
        """Prepare to ask each contact on the way; `on_reply` gets each proven reply."""
        self._core = core
        self._rpc_client = rpc_client
        self._loop = loop
        self.family = family
        self._query = query
        self._on_reply = on_reply
        self._ended: asyncio.Future[None] = loop.create_future()
        self._timer: asyncio.TimerHandle | None = None
        self.lookup = Lookup(
            int.from_bytes(query.target, "big"),
            core.node_id,
            count=query.count,
            paths=query.paths,
        )

    async def run(self, seeds: Iterable[Contact] = ()) -> list[Contact]:
        """Run to the end and return the closest contacts, nearest first.

        The traversal begins with `seeds` and the nearest contacts of the table.
        """
        now = self._core.clock.monotonic()
        table = self._core.tables[self.family]
        target = self.lookup.target
        table.touch(target, now)
        # More than are asked: where many near the target are gone, all their
        # neighbours name the same ones.
        nearest = table.nearest(target, max(SEEDS, self.lookup.count))
        alive = [each for each in nearest if not self._core.is_unresponsive(each, now)]
        self.lookup.seed([*seeds, *(alive or nearest)])
        self._advance()
        try:
            await self._ended
        finally:
            self._ended.cancel()
            if self._timer is not None:
                self._timer.cancel()
        return self.lookup.closest

    def _advance(self) -> None:
        """Send what the lookup wants to be asked, or end."""
        if self._ended.done():
            return
        now = self._core.clock.monotonic()
        soft_timeout = self._core.peer_memory.round_trips.soft_timeout
        chosen = self.lookup.next(now, soft_timeout)
        for contact in chosen:
            self._rpc_client.ask(
                contact,
                self._query.body_for(contact),
                partial(self._completed, contact),
                first_bytes=self._query.first_bytes,
                late=partial(self._overdue, contact),
                patience=self._query.patience,
            )
        if not chosen and self.lookup.is_done:
            self._ended.set_result(None)
        elif self._timer is None:
            self._wake_later(now)

    def _wake_later(self, now: float) -> None:
        """Look again when the next slot is freed by slowness."""
        wake_at = self.lookup.wake_at(now)
        if wake_at is not None:
            self._timer = self._loop.call_later(wake_at - now, self._wake)

    def _wake(self) -> None:
        """Look again; early, if the slow contact has answered meanwhile."""
        self._timer = None
        self._advance()

    def _overdue(self, contact: Contact) -> None:
        """Go on without a contact that was asked often enough."""
        self.lookup.overdue(contact)
        self._advance()

    def _completed(self, contact: Contact, reply: ProvenReply | None) -> None:
        """Report to the lookup what came of a request."""
        if self._ended.done():
            return
        contacts = self._contacts_in(reply) if reply is not None else None
        if reply is None or contacts is None:
            self.lookup.failed(contact)
        else:
            self.lookup.answered(contact, contacts)
            if self._on_reply is not None:
                self._on_reply(reply)
        self._advance()

    def _contacts_in(self, reply: ProvenReply) -> list[Contact] | None:
        """Return the new contacts of a reply that may be asked, None if malformed.

        Most contacts of a reply are known already; they are left out unread.
        """
        try:
            packed_contacts = split_contacts(reply.body.contacts, REPLY_CONTACTS_MAX)
            news = self.lookup.unheard(reply.contact, packed_contacts)
            contacts = [unpack_contact(packed) for packed in news]
        except DatagramError:
            self._core.stats["refused.contacts"] += 1
            return None
        now = self._core.clock.monotonic()
        source, family = reply.contact.address, self.family
        return [
            contact
            for contact in contacts
            if contact.address.family == family
            and source.believes(contact.address)
            and not self._core.is_unresponsive(contact, now)
        ]
