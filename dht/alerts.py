"""Alerts: telling others of a release, and believing only what concerns us.

A notify is judged in the order of cost. Is anybody here interested in that
publisher's name? Was this release seen before? Have its source and its publisher
been quiet enough? Only then is a signature verified. Whether somebody is interested
is not told: every notify gets the same answer.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final

from dht.contacts import Contact, pack_contacts, unpack_contacts
from dht.errors import DatagramError, RecordError
from dht.fairness import TokenBuckets, TtlSet
from dht.limits import (
    FIRST_PING_BYTES,
    HINT_PING_SECONDS,
    HINTS_MAX,
    NOTIFIES_PER_PUBLISHER_PER_SECOND,
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
    """Whom a notify has reached, and whom it has not."""

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
        self._seen = TtlSet(RECORD_KEPT_SECONDS, RELEASES_SEEN_MAX)
        self._passed_on = TtlSet(RECORD_KEPT_SECONDS, RELEASES_SEEN_MAX)
        self._pinged = TtlSet(HINT_PING_SECONDS, _PINGED_MAX)
        rate = NOTIFIES_PER_SOURCE_PER_SECOND
        self._of_source = TokenBuckets(rate, 4 * rate)
        rate = NOTIFIES_PER_PUBLISHER_PER_SECOND
        self._of_publisher = TokenBuckets(rate, 4 * rate)

    async def notify(
        self,
        record: ReleaseRecord,
        to: Sequence[Contact],
        hints: Sequence[Contact],
    ) -> NotifyReport:
        """Push a record to contacts; each gets up to four of the hints to pass on.

        Nothing is sent twice: among many who pass it on, another contact is worth
        more than a second datagram to a silent one. Who wants that calls again.
        """
        report = NotifyReport()
        for start in range(0, len(to), REQUESTS_IN_FLIGHT_MAX):
            part = to[start : start + REQUESTS_IN_FLIGHT_MAX]
            futures = [
                self._tell(record, contact, _share(hints, start + number, contact))
                for number, contact in enumerate(part)
            ]
            for contact, answer in zip(
                part, await asyncio.gather(*futures), strict=True
            ):
                (report.told if answer else report.unreachable).append(contact)
        return report

    def _tell(
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
        if not (
            self._of_source.take(asked.source.source, now)
            and self._of_publisher.take(claim.publisher, now)
        ):
            core.stats["notifies.limited"] += 1
            return
        try:
            record = ReleaseRecord.verify(notify.record, core.clock.time())
        except RecordError:
            core.stats["notifies.refused"] += 1
            return
        self._seen.add(notify.record, now)
        if self._on_release(record):
            self._pass_on(record, notify.hints, asked, size)

    def _pass_on(
        self, record: ReleaseRecord, packed: bytes, asked: Asked, size: int
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
            )

    def _proved(self, record: ReleaseRecord, answer: ProvenReply | None) -> None:
        """Send the record to a hint that has proved who it is."""
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
    """Want nothing of an answer."""
