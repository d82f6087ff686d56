"""Alerts: a release is pushed to its holders and followers (`notify`).

1. A notify is judged in the order of cost: is this node interested in that publisher's
   name? Was this release seen before? Is the sender within its budget? Only then is a
   signature verified.
2. Before the signature is verified, the sender pays; after it, the publisher. So
   forged alerts cost their sender, and never the publisher whose name they bear.
3. A notify needs no token, so its source address may be forged. Such notifies are
   counted before anything else is looked at; beyond their budget the answer asks for a
   second sending with a token. Addresses that echo a token have a budget of their own.
4. Every notify gets the same answer, whether this node is interested or not.
5. A new release is passed on once, to at most four hints of the notify. A hint gets
   the record only after it has proved its id, and all pings to hints together are no
   longer than the notify.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final

from dht.bounded import TtlSet
from dht.budgets import SenderBudget, Standing, TokenBuckets
from dht.contacts import Contact, pack_contacts, unpack_contacts
from dht.errors import DatagramError, RecordError
from dht.limits import (
    FIRST_PING_BYTES,
    HINT_PING_SECONDS,
    HINTS_MAX,
    NOTIFIES_PER_PUBLISHER_PER_SECOND,
    NOTIFIES_PER_SECOND,
    NOTIFIES_PER_SOURCE_PER_SECOND,
    RECORD_KEPT_SECONDS,
    RELEASES_SEEN_MAX,
    REQUESTS_IN_FLIGHT_MAX,
)
from dht.records import ReleaseRecord
from dht.wire import Notify, Ping

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dht.core import Core
    from dht.in_flight import Asked, ProvenReply
    from dht.rpc_client import RpcClient

_PINGED_MAX: Final = 4096


@dataclass(slots=True)
class NotifyReport:
    """Which contacts a notify has reached, and which it has not."""

    told: list[Contact] = field(default_factory=list)
    unreachable: list[Contact] = field(default_factory=list)


class Alerts:
    """Sends and receives notifies."""

    def __init__(
        self,
        *,
        core: Core,
        rpc_client: RpcClient,
        interested: Callable[[bytes, str], bool],
        on_release: Callable[[ReleaseRecord], bool],
    ) -> None:
        self._core = core
        self._rpc_client = rpc_client
        self._interested = interested
        self._on_release = on_release
        self._seen: TtlSet[bytes] = TtlSet(RECORD_KEPT_SECONDS, RELEASES_SEEN_MAX)
        self._passed_on: TtlSet[bytes] = TtlSet(RECORD_KEPT_SECONDS, RELEASES_SEEN_MAX)
        self._pinged: TtlSet[bytes] = TtlSet(HINT_PING_SECONDS, _PINGED_MAX)
        self._by_sender = SenderBudget(
            per_second=NOTIFIES_PER_SOURCE_PER_SECOND,
            burst=4 * NOTIFIES_PER_SOURCE_PER_SECOND,
            total_per_second=NOTIFIES_PER_SECOND,
        )
        rate = NOTIFIES_PER_PUBLISHER_PER_SECOND
        self._by_publisher = TokenBuckets(rate, 4 * rate)

    async def notify(
        self,
        record: ReleaseRecord,
        to: Sequence[Contact],
        hints: Sequence[Contact],
    ) -> NotifyReport:
        """Push a record to contacts; each gets up to four of the hints to pass on.

        Nothing is sent twice to a silent contact: among many that pass the record on,
        another contact is worth more. To try again, call again.
        """
        report = NotifyReport()
        for start in range(0, len(to), REQUESTS_IN_FLIGHT_MAX):
            part = to[start : start + REQUESTS_IN_FLIGHT_MAX]
            futures = [
                self._send(record, contact, _share(hints, start + number, contact))
                for number, contact in enumerate(part)
            ]
            for contact, answer in zip(
                part, await asyncio.gather(*futures), strict=True
            ):
                (report.told if answer else report.unreachable).append(contact)
        return report

    def _send(
        self, record: ReleaseRecord, contact: Contact, hints: Sequence[Contact]
    ) -> asyncio.Future[ProvenReply | None]:
        """Send one notify; with hints it is as long as the pings that they cost."""
        self._core.stats["notifies_sent"] += 1
        body = Notify(record.raw, pack_contacts(hints))
        size = FIRST_PING_BYTES * len(hints)
        return self._rpc_client.call(contact, body, size=size, again=False)

    def received(self, notify: Notify, asked: Asked, size: int) -> None:
        """Judge a notify whose datagram had `size` bytes, and act on it if due."""
        core, now = self._core, asked.now
        core.stats["notifies"] += 1
        sender = core.sender_of(asked)
        # Claimed addresses pay before interest matters, or the answer would show it.
        is_claimed = sender.standing is Standing.CLAIMED
        if is_claimed and not self._by_sender.consume(sender, now):
            core.stats["notifies.limited"] += 1
            asked.truncated = True
            return
        try:
            claim = ReleaseRecord.peek(notify.record)
        except RecordError:
            core.stats["notifies.malformed"] += 1
            return
        if not self._interested(claim.publisher, claim.name):
            core.stats["notifies.not_interested"] += 1
            return
        if self._seen.has(notify.record, now):
            core.stats["notifies.seen"] += 1
            return
        if not is_claimed and not self._by_sender.consume(sender, now):
            core.stats["notifies.limited"] += 1
            return
        try:
            record = ReleaseRecord.verify(
                notify.record, core.clock.time(), network=core.network
            )
        except RecordError:
            core.stats["notifies.refused"] += 1
            return
        if not self._by_publisher.consume(record.publisher, now):
            core.stats["notifies.limited"] += 1
            return
        self._seen.add(notify.record, now)
        if self._on_release(record):
            self._pass_on(record, notify.hints, asked, size=size)

    def _pass_on(
        self, record: ReleaseRecord, packed: bytes, asked: Asked, *, size: int
    ) -> None:
        """Pass a record on to the hints, once per release, after their proof."""
        core, now = self._core, asked.now
        name = b"%b %b %d %d" % (
            record.publisher,
            record.name.encode(),
            record.epoch,
            record.sequence,
        )
        if self._passed_on.has(name, now):
            return
        self._passed_on.add(name, now)
        try:
            hints = unpack_contacts(packed, HINTS_MAX)
        except DatagramError:
            core.stats["notifies.malformed"] += 1
            return
        left = size
        for contact in hints:
            address = contact.address
            if contact.node_id == core.node_id or not asked.source.believes(address):
                continue
            if core.peer_memory.is_proven(contact, now):
                self._rpc_client.ask(contact, Notify(record.raw), _ignore)
                continue
            left -= FIRST_PING_BYTES
            if left < 0 or self._pinged.has(address.packed, now):
                continue
            self._pinged.add(address.packed, now)
            self._rpc_client.ask(
                contact,
                Ping(),
                partial(self._proved, record),
                size=FIRST_PING_BYTES,
                again=False,
                hearsay=True,
            )

    def _proved(self, record: ReleaseRecord, answer: ProvenReply | None) -> None:
        """Send the record to a hint that has proved its id."""
        if answer is not None:
            self._core.stats["notifies_sent"] += 1
            self._rpc_client.ask(answer.contact, Notify(record.raw), _ignore)


def _share(hints: Sequence[Contact], number: int, receiver: Contact) -> list[Contact]:
    """Return the hints of one receiver, so that all of them are dealt out."""
    if not hints:
        return []
    start = number * HINTS_MAX
    count = min(HINTS_MAX, len(hints))
    dealt = [hints[(start + n) % len(hints)] for n in range(count)]
    return [contact for contact in dealt if contact != receiver]


def _ignore(answer: ProvenReply | None) -> None:
    """Ignore an answer."""
