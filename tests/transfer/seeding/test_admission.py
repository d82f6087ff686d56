"""Who may connect and who gives way, decided with a clock that stands still."""

from __future__ import annotations

from dataclasses import dataclass

from transfer.seeding.admission import (
    ConnectionRoom,
    HandshakeRoom,
    TlsBudget,
    UploadPace,
)

KIB = 1024


def room(total_max=4, per_source_max=2):
    return HandshakeRoom(
        total_max=total_max, per_source_max=per_source_max, stall_seconds=1.0
    )


def test_the_largest_source_loses_the_handshake_that_stalled_longest():
    """Only when all room is taken, and never one of a smaller source."""
    handshakes = room()
    small = handshakes.begin("small", 0.0)
    many = [handshakes.begin("large", 0.1 * number) for number in range(3)]
    assert handshakes.is_full
    assert handshakes.victim("new", 10.0) is many[0]
    many[0].step(9.9)
    assert handshakes.victim("new", 10.0) is many[1]
    handshakes.end(many[1])
    handshakes.end(many[1])
    assert not handshakes.is_full
    assert small is not handshakes.victim("small", 10.0)


def test_a_handshake_that_was_silent_gives_way_before_one_that_waits():
    """The first step needs no round trip, so its time is shorter."""
    handshakes = room()
    waits = handshakes.begin("one", 0.0)
    waits.step(0.0)
    silent = [handshakes.begin("one", 0.1) for _ in range(3)]
    assert handshakes.victim("new", 0.15) is None
    assert handshakes.victim("new", 0.3) is silent[0]


def test_a_source_with_many_loses_those_that_stall_even_where_there_is_room():
    handshakes = room(total_max=10)
    many = [handshakes.begin("one", 0.0) for _ in range(2)]
    for one in many:
        one.step(0.0)
    assert handshakes.victim("one", 0.9) is None
    assert handshakes.victim("other", 5.0) is None
    assert handshakes.victim("one", 1.1) is many[0]


def test_tls_goes_round_between_sources():
    """A flood of one waits behind itself alone."""
    budget = TlsBudget(2, 0.0)
    handshakes = room(total_max=100)
    flood = [handshakes.begin("flood", 0.0) for _ in range(10)]
    for one in flood:
        budget.ask(one)
    assert budget.grant(0.0) == flood[:2]
    honest = handshakes.begin("honest", 0.0)
    budget.ask(honest)
    assert budget.grant(0.1) == []
    assert budget.grant(0.5) == [honest]
    budget.withdraw(flood[2])
    assert budget.grant(1.0) == [flood[3]]
    assert budget.is_waiting


@dataclass(eq=False)
class Session:
    source: str
    pace: UploadPace


def session(source, kib_per_second, now=10.0):
    pace = UploadPace(0.0)
    for second in range(int(now)):
        pace.tick(float(second))
        pace.add(kib_per_second * KIB)
    pace.tick(now)
    return Session(source, pace)


def connections(**counts):
    found = ConnectionRoom(
        total_max=10, per_source_max=6, bytes_per_second_min=64 * KIB
    )
    for source, count in counts.items():
        for _ in range(count):
            found.begin(source)
    return found


def test_the_slowest_of_the_largest_source_gives_way():
    """And none that is fast, or too new to be judged, or of a smaller source."""
    full = connections(large=6, small=4)
    assert full.fullness("new") == "too many connections"
    assert full.fullness("large") == "too many connections of one source"
    slow, slower = session("large", 30), session("large", 13)
    fast, other = session("large", 500), session("small", 1)
    new = Session("large", UploadPace(9.0))
    everybody = [new, fast, slow, slower, other]
    assert full.victim("new", everybody, 10.0) is slower
    assert full.victim("new", [fast, other, new], 10.0) is None
    full.end("large")
    assert full.fullness("new") is None


def test_a_pace_is_that_of_the_last_seconds():
    pace = UploadPace(0.0)
    pace.add(10**9)
    for second in range(1, 31):
        pace.tick(float(second))
        pace.add(1000)
    assert pace.is_known(30.0)
    assert 900 < pace.bytes_per_second(30.0) < 1300
