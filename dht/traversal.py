"""Walking: a lookup carried out with real requests.

The decisions are `dht.lookup`'s; this asks, waits, and reports back. One future per
walk, a callback per request, no task.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from dht.contacts import split_contacts, unpack_contact
from dht.errors import WireError
from dht.limits import PATIENCE, REPLY_CONTACTS_MAX, SEEDS, K
from dht.lookup import Lookup

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable

    from dht.contacts import Contact
    from dht.core import Core
    from dht.in_flight import Answer
    from dht.rpc_client import RpcClient
    from dht.wire import Body


class Traversal:
    """One lookup on its way, among the contacts of one address family."""

    def __init__(
        self,
        core: Core,
        asking: RpcClient,
        loop: asyncio.AbstractEventLoop,
        family: int,
        body: Body,
        target: bytes,
        *,
        count: int = K,
        paths: int = 1,
        first_bytes: int = 0,
        patience: int = PATIENCE,
        on_answer: Callable[[Answer], None] | None = None,
    ) -> None:
        """Ask each contact on the way for `body`; `on_answer` gets each answer.

        A first request to a stranger is padded to `first_bytes` at least; `patience`
        is explained at `RpcClient.ask`.
        """
        self._core = core
        self._asking = asking
        self._loop = loop
        self.family = family
        self._body = body
        self._first_bytes = first_bytes
        self._patience = patience
        self._on_answer = on_answer
        self._ended: asyncio.Future[None] = loop.create_future()
        self._timer: asyncio.TimerHandle | None = None
        self.lookup = Lookup(
            int.from_bytes(target, "big"), core.node_id, count=count, paths=paths
        )

    async def run(self, seeds: Iterable[Contact] = ()) -> list[Contact]:
        """Walk to the end and return the closest contacts, nearest first.

        It begins with `seeds` and the nearest contacts of the table.
        """
        now = self._core.clock.monotonic()
        table = self._core.tables[self.family]
        target = self.lookup.target
        table.touch(target, now)
        # More than are asked: where many near the target are gone, all their
        # neighbours name the same ones.
        nearest = table.nearest(target, max(SEEDS, self.lookup.count))
        alive = [each for each in nearest if not self._is_silent(each, now)]
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
        soft_timeout = self._core.acquaintances.round_trips.soft_timeout
        chosen = self.lookup.next(now, soft_timeout)
        for contact in chosen:
            self._asking.ask(
                contact,
                self._body,
                partial(self._outcome, contact),
                first_bytes=self._first_bytes,
                late=partial(self._overdue, contact),
                patience=self._patience,
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
        """Look again; it may be early, if the slow one has answered meanwhile."""
        self._timer = None
        self._advance()

    def _overdue(self, contact: Contact) -> None:
        """Go on without a contact that was asked often enough."""
        self.lookup.overdue(contact)
        self._advance()

    def _outcome(self, contact: Contact, answer: Answer | None) -> None:
        """Report to the lookup what came of a request."""
        if self._ended.done():
            return
        contacts = self._told(answer) if answer is not None else None
        if answer is None or contacts is None:
            self.lookup.failed(contact)
        else:
            self.lookup.answered(contact, contacts)
            if self._on_answer is not None:
                self._on_answer(answer)
        self._advance()

    def _told(self, answer: Answer) -> list[Contact] | None:
        """Return the contacts of an answer that may be asked, None if malformed.

        Most of them were told before, and are left out unread.
        """
        try:
            told = split_contacts(answer.body.contacts, REPLY_CONTACTS_MAX)
            news = self.lookup.news(answer.contact, told)
            contacts = [unpack_contact(packed) for packed in news]
        except WireError:
            self._core.stats["refused.contacts"] += 1
            return None
        now = self._core.clock.monotonic()
        source, family = answer.contact.address, self.family
        silence = self._core.acquaintances.silence
        anybody = bool(silence)
        return [
            contact
            for contact in contacts
            if contact.address.family == family
            and source.believes(contact.address)
            and not (anybody and silence.has(contact.address, now))
        ]

    def _is_silent(self, contact: Contact, now: float) -> bool:
        return self._core.acquaintances.silence.has(contact.address, now)
