"""The simulated NATs let in what their kind lets in, for as long as a hole is open."""

from __future__ import annotations

import random

import pytest

from tests.simulation.nat import HOLE_SECONDS, Nat, NatKind

ASKED, SAME_IP, STRANGER = ("8.1.1.1", 1), ("8.1.1.1", 2), ("8.2.2.2", 1)


@pytest.mark.parametrize(
    ("kind", "comes_in"),
    [
        ("open", {ASKED, SAME_IP, STRANGER}),
        ("full", {ASKED, SAME_IP, STRANGER}),
        ("address", {ASKED, SAME_IP}),
        ("port", {ASKED}),
        ("symmetric", {ASKED}),
    ],
)
def test_what_comes_in_depends_on_the_filter(
    kind: NatKind, comes_in: set[tuple[str, int]]
) -> None:
    nat = Nat("77.1.1.1", kind, rng=random.Random(1))
    outer = nat.outward("udp", 4747, ASKED, 0.0)
    assert {
        source
        for source in (ASKED, SAME_IP, STRANGER)
        if nat.inward("udp", outer, source, 1.0) == 4747
    } == comes_in
    if kind != "open":
        assert nat.inward("tcp", outer, ASKED, 1.0) is None
        assert nat.inward("udp", outer, ASKED, HOLE_SECONDS + 1) is None


def test_only_a_symmetric_one_has_another_port_for_each_destination() -> None:
    kinds: tuple[NatKind, ...] = ("full", "address", "port", "symmetric")
    for kind in kinds:
        nat = Nat("77.1.1.1", kind, rng=random.Random(1))
        ports = {nat.outward("udp", 4747, to, 0.0) for to in (ASKED, SAME_IP, STRANGER)}
        assert len(ports) == (3 if kind == "symmetric" else 1)
