"""Notifies: judged in the order of cost, and passed on with care."""

from __future__ import annotations

from typing import Any

from dht import Address, Contact, ReleaseRecord
from dht.alerts import Alerts, _share
from dht.contacts import pack_contacts
from dht.in_flight import Asked
from dht.limits import FIRST_PING_BYTES, HINTS_MAX
from dht.wire import Notify, Ping, Request
from tests.dht.builders import HandClock, address, contact, core, key, release

SENDER = contact(1)


class Asked4Hints:
    """Records what would be asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[Contact, Any, dict[str, Any]]] = []

    def ask(self, contact: Contact, body: Any, done: Any, **options: Any) -> None:
        self.asked.append((contact, body, {**options, "done": done}))


class Desk:
    """Alerts of one node that is interested in "demo"."""

    def __init__(self) -> None:
        self.clock = HandClock()
        self.core = core(1, self.clock)
        self.rpc_client = Asked4Hints()
        self.got: list[ReleaseRecord] = []
        self.verified = 0
        self.alerts = Alerts(
            core=self.core,
            rpc_client=self.rpc_client,  # type: ignore[arg-type]
            interested=lambda publisher, name: name == "demo",
            on_release=self._on_release,
        )

    def _on_release(self, record: ReleaseRecord) -> bool:
        self.got.append(record)
        return True

    def receive(
        self,
        raw: bytes,
        hints: bytes = b"",
        size: int = 1200,
        source: Contact = SENDER,
        *,
        echoed: bool = False,
    ) -> Asked:
        notify = Notify(raw, hints)
        request = Request(1, 7, b"transact", source.public_key, 0, b"", notify)
        asked = Asked(request, source, self.clock.ticks, echoed=echoed)
        self.alerts.received(notify, asked, size)
        return asked

    def count(self, name: str) -> int:
        return self.core.stats[f"notifies.{name}"]


def test_only_what_interests_is_verified() -> None:
    """And only once; what is forged is counted."""
    desk = Desk()
    desk.receive(release(name="other").raw)
    desk.receive(b"garbage")
    desk.receive(release().raw)
    desk.receive(release().raw)
    forged = bytearray(release(sequence=2).raw)
    forged[-1] ^= 1
    desk.receive(bytes(forged))
    assert desk.got == [release()]
    assert desk.count("not_interested") == 1
    assert desk.count("malformed") == 1
    assert desk.count("seen") == 1
    assert desk.count("refused") == 1


def test_a_flood_of_forgeries_costs_few_verifications() -> None:
    """Per source, and over all sources."""
    desk = Desk()
    for number in range(1000):
        raw = bytearray(release(sequence=number).raw)
        raw[-1] ^= 1
        desk.receive(bytes(raw), source=contact(number % 50))
    assert desk.count("refused") <= 100
    assert desk.count("limited") >= 900
    desk.clock.move(10)
    desk.receive(release(sequence=5000).raw)
    assert len(desk.got) == 1


def forged(sequence: int) -> bytes:
    raw = bytearray(release(sequence=sequence).raw)
    raw[-1] ^= 1
    return bytes(raw)


def test_forgeries_spend_nothing_of_the_publisher_whose_name_they_bear() -> None:
    """True alerts of known contacts come through, all of them."""
    desk = Desk()
    friend = contact(500)
    desk.core.table(friend, desk.clock.ticks)
    for second in range(30):
        desk.clock.move(1)
        for number in range(120):
            desk.receive(forged(1000 * second + number), source=contact(number))
        true = release(sequence=100_000 + second)
        desk.receive(true.raw, source=friend, echoed=True)
        assert desk.got[-1] == true
    assert len(desk.got) == 30


def test_forgeries_with_claimed_addresses_make_true_senders_echo_a_token() -> None:
    """Beyond the budget of claimed addresses the answer asks for that, at once."""
    desk = Desk()
    for number in range(500):
        desk.receive(forged(number), source=contact(number))
    true, sender = release(sequence=9000), contact(700)
    assert desk.receive(true.raw, source=sender).truncated
    assert desk.got == []
    assert not desk.receive(true.raw, source=sender, echoed=True).truncated
    assert desk.got == [true]


def test_whether_a_sender_must_echo_tells_nothing_of_interest() -> None:
    """Notifies that nobody here wants count as much as those that somebody does."""
    answers = []
    for name in ("demo", "unwanted"):
        desk = Desk()
        answers.append(
            [
                desk.receive(
                    release(name=name, sequence=number % 3).raw, source=contact(1)
                ).truncated
                for number in range(200)
            ]
        )
    assert answers[0] == answers[1]
    assert True in answers[0]


def test_a_publisher_has_an_allowance_after_verification() -> None:
    """Its own true releases, from any number of senders, are bounded too."""
    desk = Desk()
    for number in range(150):
        raw = release(sequence=number).raw
        desk.receive(raw, source=contact(number), echoed=True)
    assert len(desk.got) <= 80


def test_hints_are_pinged_within_the_length_of_the_notify() -> None:
    """All pings together are no longer than what came."""
    hints = pack_contacts(contact(n) for n in range(10, 14))
    for size, expected in ((1200, 4), (4 * FIRST_PING_BYTES, 4), (300, 2), (100, 0)):
        desk = Desk()
        desk.receive(release().raw, hints, size)
        assert len(desk.rpc_client.asked) == expected
        for _, body, options in desk.rpc_client.asked:
            assert body == Ping()
            assert not options["again"]
        total = sum(options["size"] for _, _, options in desk.rpc_client.asked)
        assert total <= size


def test_an_address_is_pinged_once_a_minute_and_a_release_passed_on_once() -> None:
    """However many notifies name it."""
    desk = Desk()
    victim = pack_contacts([contact(10)])
    for number in range(5):
        desk.receive(release(sequence=number).raw, victim)
    assert len(desk.rpc_client.asked) == 1
    desk.clock.move(61)
    twin = release(sequence=0, package=key(5))
    desk.receive(twin.raw, victim)
    assert len(desk.rpc_client.asked) == 1
    desk.receive(release(sequence=9).raw, victim)
    assert len(desk.rpc_client.asked) == 2


def test_hints_that_nobody_may_give_are_ignored() -> None:
    """Private addresses from a public sender, ports below 1024, ourselves."""
    desk = Desk()
    bad = [
        contact(10, Address("192.168.1.1", 4747)),
        contact(11, Address("8.8.8.8", 53)),
        Contact(desk.core.public_key, address(12)),
    ]
    desk.receive(release().raw, pack_contacts(bad))
    assert desk.rpc_client.asked == []
    desk.receive(release(sequence=2).raw, b"\x01" * 30)
    assert desk.count("malformed") == 1


def test_hints_are_dealt_out_so_that_all_are_covered() -> None:
    """Nobody is told to tell itself."""
    hints = [contact(n) for n in range(10)]
    dealt = [_share(hints, number, contact(100 + number)) for number in range(3)]
    assert all(len(each) == HINTS_MAX for each in dealt)
    assert {c for each in dealt for c in each} == set(hints)
    assert hints[0] not in _share(hints, 0, hints[0])
    assert _share([], 0, hints[0]) == []
