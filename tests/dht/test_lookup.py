"""Lookups as plain objects, on networks that are plain dictionaries."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from dht import Address, Contact
from dht.limits import ALPHA, LOOKUP_REQUESTS_PER_GROUP_MAX
from dht.lookup import Lookup
from tests.dht.builders import address, contact, key

OWN = key(0)
SOFT = 0.25


class Net:
    """Nodes that each know some others, and answer at once or never."""

    def __init__(self, size: int, dead: float = 0.0, seed: int = 1) -> None:
        rng = random.Random(seed)
        self.contacts = [contact(n) for n in range(1, size + 1)]
        self.dead = {c.node_id for c in rng.sample(self.contacts, int(dead * size))}
        self.liars: set[bytes] = set()
        self.knows = {c.node_id: self._table(c, rng) for c in self.contacts}

    def _table(self, owner: Contact, rng: random.Random) -> list[Contact]:
        near = sorted(self.contacts, key=lambda c: c.long_id ^ owner.long_id)
        return near[1:21] + rng.sample(self.contacts, min(40, len(self.contacts)))

    def answer(self, asked: Contact, target: int) -> list[Contact]:
        known = self.knows[asked.node_id]
        return sorted(known, key=lambda c: c.long_id ^ target)[:20]

    def nearest(self, target: int, count: int = 20) -> list[Contact]:
        alive = [c for c in self.contacts if c.node_id not in self.dead]
        return sorted(alive, key=lambda c: c.long_id ^ target)[:count]

    def walk(self, lookup: Lookup) -> None:
        """Carry a lookup out; the dead fail after everybody else has answered."""
        silent: list[Contact] = []
        now = 0.0
        while not lookup.is_done:
            asked = lookup.next(now, SOFT)
            for each in asked:
                if each.node_id in self.dead:
                    silent.append(each)
                else:
                    lookup.answered(each, self.answer(each, lookup.target))
            if not asked:
                now += SOFT
                if silent:
                    lookup.failed(silent.pop(0))


def lookup_in(net: Net, target: int, **options: int) -> Lookup:
    lookup = Lookup(target, OWN, **options)
    lookup.seed(net.contacts[:5])
    return lookup


def test_the_true_nearest_are_found() -> None:
    """All twenty, in order."""
    net = Net(300)
    target = int.from_bytes(key(5000), "big")
    lookup = lookup_in(net, target)
    net.walk(lookup)
    assert lookup.closest == net.nearest(target)
    assert lookup.requests < 60
    assert 1 <= lookup.hops <= 5


def test_dead_contacts_are_never_a_result() -> None:
    """And the nearest live ones are found all the same."""
    net = Net(300, dead=0.3)
    target = int.from_bytes(key(5001), "big")
    lookup = lookup_in(net, target)
    net.walk(lookup)
    assert not {c.node_id for c in lookup.closest} & net.dead
    assert lookup.closest[0] == net.nearest(target)[0]


def test_only_alpha_requests_hold_a_slot() -> None:
    """Until one answers, fails or has been slow for long enough."""
    lookup = lookup_in(Net(50), 0)
    lookup.seed(Net(50).contacts)
    first = lookup.next(0.0, SOFT)
    assert len(first) == ALPHA
    assert lookup.next(0.1, SOFT) == []
    assert lookup.wake_at(0.1) == SOFT
    freed = lookup.next(SOFT, SOFT)
    assert len(freed) == ALPHA
    assert not set(freed) & set(first)


def test_a_late_answer_still_counts() -> None:
    """A slow contact loses its slot, not its word."""
    net = Net(50)
    lookup = lookup_in(net, 0)
    slow = lookup.next(0.0, SOFT)[0]
    lookup.next(1.0, SOFT)
    lookup.answered(slow, net.answer(slow, 0))
    assert slow in lookup.closest


def test_a_lookup_ends_without_those_who_are_overdue() -> None:
    """All others have answered; nobody waits for the last one."""
    net = Net(50)
    lookup = lookup_in(net, 0)
    dead, *asked = lookup.next(0.0, SOFT)
    while asked:
        for each in asked:
            lookup.answered(each, net.answer(each, 0))
        asked = lookup.next(1.0, SOFT)
    assert not lookup.is_done
    lookup.overdue(dead)
    while asked := lookup.next(1.0, SOFT):
        for each in asked:
            lookup.answered(each, net.answer(each, 0))
    assert lookup.is_done
    assert dead not in lookup.closest


def test_a_lookup_without_contacts_is_done() -> None:
    """A node alone finds nothing, at once."""
    lookup = Lookup(0, OWN)
    assert lookup.is_done
    assert lookup.closest == []


def test_the_own_id_and_strangers_are_ignored() -> None:
    """Nobody can make a node ask itself, or answer for one that was not asked."""
    own = contact(0)
    lookup = Lookup(0, own.node_id)
    lookup.seed([own])
    assert lookup.next(0.0, SOFT) == []
    lookup.answered(contact(1), [contact(2)])
    lookup.failed(contact(3))
    assert lookup.is_done


def test_a_liar_spoils_one_path_only() -> None:
    """With two paths, what the other heard leads to the nearest node."""
    net = Net(400)
    target = int.from_bytes(key(6000), "big")
    liars = net.contacts[0:1]
    fake = [contact(9000 + n) for n in range(20)]
    net.dead |= {c.node_id for c in fake}
    net.knows[liars[0].node_id] = fake
    lookup = Lookup(target, OWN, paths=2)
    lookup.seed([liars[0], net.contacts[1]])
    net.walk(lookup)
    assert lookup.closest[0] == net.nearest(target)[0]


def test_paths_share_no_request() -> None:
    """Each node is asked once, by one path."""
    net = Net(300)
    target = int.from_bytes(key(6001), "big")
    lookup = lookup_in(net, target, paths=2)
    asked: list[Contact] = []
    while not lookup.is_done:
        for each in lookup.next(0.0, SOFT):
            asked.append(each)
            lookup.answered(each, net.answer(each, target))
    assert len(asked) == len(set(asked)) == lookup.requests
    assert lookup.closest == net.nearest(target)


def test_a_flood_from_one_group_gets_few_requests_and_two_results() -> None:
    """45 attackers in one /24, nearer than everybody, do not push others out."""
    net = Net(200)
    target = int.from_bytes(key(7000), "big")
    flood = [contact(8000 + n, Address("99.9.9.9", 2000 + n)) for n in range(2000)]
    flood = sorted(flood, key=lambda c: c.long_id ^ target)[:45]
    rng = random.Random(1)
    for known in net.knows.values():
        known.extend(rng.sample(flood, 2))  # more than two no honest table takes
    net.knows.update({each.node_id: flood for each in flood})
    lookup = lookup_in(net, target)
    net.walk(lookup)
    of_group = [c for c in lookup.closest if c.address.host == "99.9.9.9"]
    assert len(of_group) <= 2
    assert len(lookup.closest) == 20
    net.dead |= {c.node_id for c in flood}
    lookup = lookup_in(net, target)
    net.walk(lookup)
    asked = [c for c in flood if lookup.was_asked(c)]
    assert len(asked) <= LOOKUP_REQUESTS_PER_GROUP_MAX
    assert lookup.closest == net.nearest(target)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 60), st.floats(0, 0.9), st.integers(0, 10_000), st.integers(1, 3))
def test_every_lookup_ends(size: int, dead: float, seed: int, paths: int) -> None:
    """Whatever the network looks like, with results that answered."""
    net = Net(size, dead=dead, seed=seed)
    target = int.from_bytes(key(seed), "big")
    lookup = Lookup(target, OWN, paths=paths)
    lookup.seed(net.contacts[:3])
    net.walk(lookup)
    assert lookup.requests <= size
    assert not {c.node_id for c in lookup.closest} & net.dead


def test_results_are_unaffected_by_addresses_of_one_lan() -> None:
    """Private ranges are exempt from diversity."""
    contacts = [contact(n, Address("192.168.0.1", 2000 + n)) for n in range(1, 30)]
    lookup = Lookup(0, OWN)
    lookup.seed(contacts)
    while not lookup.is_done:
        for each in lookup.next(0.0, SOFT):
            lookup.answered(each, contacts)
    assert len(lookup.closest) == 20
    assert address(1).group is not None
