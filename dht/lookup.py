"""One lookup, as a plain object: it decides whom to ask and when it is done.

It holds no socket and no clock: `next(now)` names the contacts to ask, and the caller
reports what came of them. It is the node lookup of the Kademlia paper, section 2.3,
with four changes:

1. It never waits for a round. A slow contact gives its slot to another, and its late
   answer still counts.
2. With several paths, each follows only contacts that its own answers named
   (S/Kademlia, section 4.4), so a liar can spoil one path only.
3. Of one IPv4 /24 or IPv6 /64 only two contacts are considered at a time, and eight
   are asked.
4. Only contacts that answered with a proven id are a result.
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


class CandidateState(enum.Enum):
    """What has become of a candidate."""

    HEARD = "heard of, not asked"
    ASKED = "asked, no answer yet"
    ANSWERED = "answered"
    FAILED = "did not answer or could not prove its id"


# Looking a member up costs more than all else in the loops below.
_HEARD, _ASKED = CandidateState.HEARD, CandidateState.ASKED
_ANSWERED, _FAILED = CandidateState.ANSWERED, CandidateState.FAILED


class Candidate:
    """A contact on the way to the target."""

    __slots__ = (
        "contact",
        "distance",
        "group",
        "hops",
        "overdue",
        "path",
        "slow_at",
        "state",
    )

    def __init__(self, contact: Contact, distance: int, hops: int) -> None:
        self.contact = contact
        self.group = contact.address.group
        self.distance = distance
        self.hops = hops  # requests between the table and this contact
        self.state = _HEARD
        self.path = -1  # which path asked it
        self.slow_at = 0.0  # from then on others are asked in its place
        self.overdue = False  # the lookup can end without it


class _Path:
    """What one path has heard of, nearest first."""

    __slots__ = ("distances", "heard", "listed")

    def __init__(self) -> None:
        self.listed: list[Candidate] = []
        self.distances: list[int] = []  # of each candidate, to find its place
        self.heard: set[bytes] = set()  # packed contacts

    def add(self, candidate: Candidate) -> None:
        """Put a candidate in its place."""
        place = bisect.bisect_right(self.distances, candidate.distance)
        self.distances.insert(place, candidate.distance)
        self.listed.insert(place, candidate)
        self.heard.add(candidate.contact.packed)


class Lookup:
    """The way to a target; `count` contacts are to be found."""

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
        # By key and address: a false address must not hide the true one.
        self._candidates: dict[bytes, Candidate] = {}
        self._in_flight: dict[bytes, Candidate] = {}
        self._paths = [_Path() for _ in range(paths)]
        self._requests_of_group: dict[bytes, int] = {}

    @property
    def candidates(self) -> Iterable[Candidate]:
        """Everybody that was heard of on the way, in the order of hearing."""
        return self._candidates.values()

    def seed(self, contacts: Iterable[Contact]) -> None:
        """Begin with these contacts, dealt out to the paths in turn."""
        for number, contact in enumerate(contacts):
            self._hear(contact, number % len(self._paths), hops=1)

    def next(self, now: float, soft_timeout: float) -> list[Contact]:
        """Return the contacts to ask now.

        From then on each counts as asked; it holds a slot for `soft_timeout` seconds.
        """
        chosen: list[Contact] = []
        for number, path in enumerate(self._paths):
            free = self._alpha - self._busy(number, now)
            if free <= 0 or self.requests >= LOOKUP_REQUESTS_MAX:
                continue
            for candidate in self._shortlist(path, now):
                if candidate.state is _HEARD and self._may_ask(candidate):
                    self._ask(candidate, number)
                    candidate.slow_at = now + soft_timeout
                    chosen.append(candidate.contact)
                    free -= 1
                    if free == 0 or self.requests >= LOOKUP_REQUESTS_MAX:
                        break
        return chosen

    def unheard(self, contact: Contact, named: Iterable[bytes]) -> list[bytes]:
        """Return those of the packed contacts that a contact's path never heard of."""
        candidate = self._candidates.get(contact.packed)
        if candidate is None or candidate.path < 0:
            return []
        heard = self._paths[candidate.path].heard
        return [packed for packed in named if packed not in heard]

    def answered(self, contact: Contact, contacts: Iterable[Contact]) -> None:
        """Record a proven answer and the contacts that it named."""
        candidate = self._candidates.get(contact.packed)
        if candidate is None or candidate.path < 0:
            return
        candidate.state = CandidateState.ANSWERED
        self._in_flight.pop(contact.packed, None)
        for other in contacts:
            self._hear(other, candidate.path, candidate.hops + 1)

    def failed(self, contact: Contact) -> None:
        """Record that a contact gave no answer, or none that counts."""
        self._in_flight.pop(contact.packed, None)
        candidate = self._candidates.get(contact.packed)
        if candidate is not None and candidate.state is not CandidateState.ANSWERED:
            candidate.state = CandidateState.FAILED

    def overdue(self, contact: Contact) -> None:
        """Record that an answer is unlikely; one that comes still counts."""
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
        for path in self._paths:
            for candidate in self._shortlist(path, 0.0):
                if candidate.state is _ASKED:
                    return False
                if candidate.state is _HEARD:
                    return self.requests >= LOOKUP_REQUESTS_MAX
        return True

    @property
    def closest(self) -> list[Contact]:
        """The nearest contacts that answered, at most `count`, nearest first."""
        answered: dict[bytes, Candidate] = {}
        for candidate in self._candidates.values():
            if candidate.state is CandidateState.ANSWERED:
                answered.setdefault(candidate.contact.node_id, candidate)
        groups: dict[bytes, int] = {}
        nearest = [
            each.contact
            for each in sorted(answered.values(), key=lambda each: each.distance)
            if each.group is None or _has_room(groups, each.group)
        ]
        return nearest[: self.count]

    @property
    def hops(self) -> int:
        """The longest way, in requests, to one of the nearest contacts."""
        nearest = {contact.packed for contact in self.closest}
        return max((self._candidates[each].hops for each in nearest), default=0)

    def was_asked(self, contact: Contact) -> bool:
        """Whether a request went to a contact."""
        candidate = self._candidates.get(contact.packed)
        return candidate is not None and candidate.state is not CandidateState.HEARD

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
            # A path that began with no contact takes what others hear of.
            path = next((n for n, p in enumerate(self._paths) if not p.listed), path)
        if contact.packed not in self._paths[path].heard:
            self._paths[path].add(known)

    def _ask(self, candidate: Candidate, path: int) -> None:
        candidate.state = _ASKED
        candidate.path = path
        self._in_flight[candidate.contact.packed] = candidate
        self.requests += 1
        group = candidate.group
        if group is not None:
            asked = self._requests_of_group.get(group, 0)
            self._requests_of_group[group] = asked + 1

    def _may_ask(self, candidate: Candidate) -> bool:
        group = candidate.group
        if group is None:
            return True
        return self._requests_of_group.get(group, 0) < LOOKUP_REQUESTS_PER_GROUP_MAX

    def _busy(self, path: int, now: float) -> int:
        """Return how many slots of a path are held."""
        busy = 0
        for candidate in self._in_flight.values():
            if candidate.path == path and candidate.slow_at > now:
                busy += 1
        return busy

    def _shortlist(self, path: _Path, now: float) -> Iterator[Candidate]:
        """Yield the nearest candidates of a path that answered or may yet do so.

        Those that are slow to answer are passed over, unless `now` is 0. Of one
        group there are only a few.
        """
        left = self.count
        groups: dict[bytes, int] = {}
        for candidate in path.listed:
            state = candidate.state
            if state is not _ANSWERED:
                if state is _FAILED:
                    continue
                if state is _ASKED:
                    if candidate.overdue or now >= candidate.slow_at:
                        continue
                elif not self._may_ask(candidate):
                    continue
            if candidate.group is not None and not _has_room(groups, candidate.group):
                continue
            yield candidate
            left -= 1
            if left == 0:
                return


def _has_room(groups: dict[bytes, int], group: bytes) -> bool:
    """Count one more of a group, unless there are enough of it."""
    seen = groups.get(group, 0)
    groups[group] = seen + 1
    return seen < GROUP_CONTACTS_PER_BUCKET_MAX
