"""One lookup, as a plain object: it decides whom to ask and when it is done.

It holds no socket and no clock: `next(now)` names the contacts to ask, and the
caller reports what came of them. The walk is that of the Kademlia paper, section
2.3, with four changes. It never waits for a round: a contact that is slow gives its
slot to another, and its late answer still counts. With several paths, each follows
only what its own answers told (S/Kademlia), so that a liar can spoil one of them.
Only so many contacts of one IPv4 /24 or IPv6 /64 are considered. And only those that
answered, with their id proven, are a result.
"""

from __future__ import annotations

import bisect
import enum
from typing import TYPE_CHECKING

from dht.limits import (
    ALPHA,
    GROUP_CONTACTS_PER_BUCKET_MAX,
    LOOKUP_REQUESTS_MAX,
    LOOKUP_REQUESTS_PER_GROUP_MAX,
    K,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from dht.contacts import Contact


class State(enum.Enum):
    """What has become of a candidate."""

    HEARD = "heard of, not asked"
    ASKED = "asked, no answer yet"
    ANSWERED = "answered"
    FAILED = "did not answer or could not prove its id"


class Candidate:
    """A contact on the way to the target."""

    __slots__ = (
        "contact",
        "distance",
        "hops",
        "overdue",
        "path",
        "slow_at",
        "state",
    )

    def __init__(self, contact: Contact, distance: int, hops: int) -> None:
        self.contact = contact
        self.distance = distance
        self.hops = hops  # requests between the table and this contact
        self.state = State.HEARD
        self.path = -1  # which path asked it
        self.slow_at = 0.0  # from then on others are asked in its place
        self.overdue = False  # the lookup can end without it

    def __lt__(self, other: Candidate) -> bool:
        if self.distance != other.distance:
            return self.distance < other.distance
        return self.contact.packed < other.contact.packed


class Lookup:
    """The walk towards a target; `count` contacts are to be found."""

    def __init__(
        self,
        target: int,
        own_id: bytes,
        *,
        count: int = K,
        alpha: int = ALPHA,
        paths: int = 1,
    ) -> None:
        self.target = target
        self.count = count
        self.requests = 0
        self._own_id = own_id
        self._alpha = alpha
        # By key and address: a false address told first must not hide the true one.
        self._candidates: dict[bytes, Candidate] = {}
        self._in_flight: dict[bytes, Candidate] = {}
        self._paths: list[list[Candidate]] = [[] for _ in range(paths)]
        self._requests_of_group: dict[bytes, int] = {}

    def seed(self, contacts: Iterable[Contact]) -> None:
        """Begin with these contacts, dealt out to the paths in turn."""
        for number, contact in enumerate(contacts):
            self._hear(contact, number % len(self._paths), hops=1)

    def next(self, now: float, soft_timeout: float) -> list[Contact]:
        """Return the contacts to ask now.

        From then on each counts as asked; it holds a slot for `soft_timeout` seconds.
        """
        chosen = []
        for number in range(len(self._paths)):
            busy = self._busy(number, now)
            for candidate in self._shortlist(number, now):
                if busy >= self._alpha or self.requests >= LOOKUP_REQUESTS_MAX:
                    break
                if candidate.state is State.HEARD and self._may_ask(candidate):
                    self._ask(candidate, number)
                    candidate.slow_at = now + soft_timeout
                    chosen.append(candidate.contact)
                    busy += 1
        return chosen

    def answered(self, contact: Contact, contacts: Iterable[Contact]) -> None:
        """Note a proven answer and the contacts that it told."""
        candidate = self._candidates.get(contact.packed)
        if candidate is None or candidate.path < 0:
            return
        candidate.state = State.ANSWERED
        self._in_flight.pop(contact.packed, None)
        for other in contacts:
            self._hear(other, candidate.path, candidate.hops + 1)

    def failed(self, contact: Contact) -> None:
        """Note that a contact gave no answer, or none that counts."""
        self._in_flight.pop(contact.packed, None)
        candidate = self._candidates.get(contact.packed)
        if candidate is not None and candidate.state is not State.ANSWERED:
            candidate.state = State.FAILED

    def overdue(self, contact: Contact) -> None:
        """Note that there is little hope for an answer; one that comes counts."""
        candidate = self._candidates.get(contact.packed)
        if candidate is not None:
            candidate.overdue = True

    def wake_at(self, now: float) -> float | None:
        """Return when the next slot is freed by slowness, if one is held."""
        held = [
            candidate.slow_at
            for candidate in self._in_flight.values()
            if candidate.slow_at > now
        ]
        return min(held, default=None)

    @property
    def is_done(self) -> bool:
        """Whether the nearest contacts have all answered, but for the overdue."""
        for number in range(len(self._paths)):
            for candidate in self._shortlist(number):
                if candidate.state is State.ASKED:
                    return False
                if candidate.state is State.HEARD:
                    return self.requests >= LOOKUP_REQUESTS_MAX
        return True

    @property
    def closest(self) -> list[Contact]:
        """The nearest contacts that answered, at most `count`, nearest first."""
        answered: dict[bytes, Candidate] = {}
        for candidate in self._candidates.values():
            if candidate.state is State.ANSWERED:
                answered.setdefault(candidate.contact.node_id, candidate)
        nearest = sorted(answered.values())
        return [each.contact for each in self._diverse(nearest, self.count)]

    @property
    def hops(self) -> int:
        """The longest way, in requests, to one of the nearest contacts."""
        nearest = {contact.packed for contact in self.closest}
        return max((self._candidates[each].hops for each in nearest), default=0)

    def was_asked(self, contact: Contact) -> bool:
        """Whether a request went to a contact."""
        candidate = self._candidates.get(contact.packed)
        return candidate is not None and candidate.state is not State.HEARD

    def _hear(self, contact: Contact, path: int, hops: int) -> None:
        """Add a contact to what a path knows."""
        if contact.node_id == self._own_id:
            return
        known = self._candidates.get(contact.packed)
        if known is None:
            distance = contact.long_id ^ self.target
            known = self._candidates[contact.packed] = Candidate(
                contact, distance, hops
            )
            # A path that had nobody to begin with takes what others are told.
            path = next((n for n, own in enumerate(self._paths) if not own), path)
        listed = self._paths[path]
        place = bisect.bisect_left(listed, known)
        if place == len(listed) or listed[place] is not known:
            listed.insert(place, known)

    def _ask(self, candidate: Candidate, path: int) -> None:
        candidate.state = State.ASKED
        candidate.path = path
        self._in_flight[candidate.contact.packed] = candidate
        self.requests += 1
        group = candidate.contact.address.group
        if group is not None:
            asked = self._requests_of_group.get(group, 0)
            self._requests_of_group[group] = asked + 1

    def _may_ask(self, candidate: Candidate) -> bool:
        group = candidate.contact.address.group
        if group is None:
            return True
        return self._requests_of_group.get(group, 0) < LOOKUP_REQUESTS_PER_GROUP_MAX

    def _busy(self, path: int, now: float) -> int:
        """Return how many slots of a path are held."""
        return sum(
            1
            for candidate in self._in_flight.values()
            if candidate.path == path and candidate.slow_at > now
        )

    def _shortlist(self, path: int, now: float = 0.0) -> Iterator[Candidate]:
        """Yield the nearest candidates of a path that answered or may yet do so.

        With the time of now, those that are slow to answer are passed over too.
        """
        hopeful = (each for each in self._paths[path] if self._is_hopeful(each, now))
        return self._diverse(hopeful, self.count)

    def _is_hopeful(self, candidate: Candidate, now: float) -> bool:
        state = candidate.state
        if state is State.ASKED:
            return not candidate.overdue and now < candidate.slow_at
        if state is State.HEARD:
            return self._may_ask(candidate)
        return state is State.ANSWERED

    @staticmethod
    def _diverse(candidates: Iterable[Candidate], count: int) -> Iterator[Candidate]:
        """Yield the first `count`, only a few of them from one group."""
        groups: dict[bytes, int] = {}
        for candidate in candidates:
            if count == 0:
                return
            group = candidate.contact.address.group
            if group is not None:
                seen = groups.get(group, 0)
                if seen >= GROUP_CONTACTS_PER_BUCKET_MAX:
                    continue
                groups[group] = seen + 1
            count -= 1
            yield candidate
