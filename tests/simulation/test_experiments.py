"""The experiments in small: they run, they reach what they should, they replay."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.simulation.experiments import load, main, options_of
from tests.simulation.report import Progress, percentile
from tests.simulation.soak import Soak

ROOT = Path(__file__).parents[2]


def run(name: str, **chosen: Any) -> dict[str, Any]:
    """Run an experiment and return its figures."""
    options = options_of(name, **chosen)
    figures: dict[str, Any] = load(name).run(options, Progress(shown=False)).figures
    return figures


def test_lookups_find_in_a_healthy_network() -> None:
    """Everything, within four hops."""
    figures = run("lookup", nodes=200, lookups=60)
    assert figures["found"] == figures["closest_found"] == 1.0
    assert figures["hops_p95"] <= 4


def test_lookups_find_though_a_third_is_dead() -> None:
    """And no dead node is in a result."""
    figures = run("lookup", nodes=200, lookups=60, dead=0.3, loss=0.05)
    assert figures["found"] == 1.0
    assert figures["closest_found"] >= 0.95
    assert figures["dead_in_results"] == 0


def test_a_record_is_stored_though_a_third_is_dead() -> None:
    """On eighteen at least."""
    figures = run("publish", nodes=200, lookups=20)
    assert figures["stored_least"] >= 18


@pytest.mark.parametrize("mode", ["colluders", "forged"])
def test_liars_do_not_hide_a_key(mode: str) -> None:
    """One node in five lies."""
    figures = run("adversary", nodes=200, lookups=50, mode=mode)
    assert figures["found"] >= 0.98


def test_a_crowd_around_a_key_does_not_hide_it() -> None:
    """30 attackers in 30 networks, nearer to it than anybody else."""
    figures = run("eclipse", nodes=200, attackers=30, groups=30, keys=1, lookups=5)
    assert figures["found"] >= 0.5


def test_a_sweep_costs_a_fraction() -> None:
    """Neighbouring keys share lookups and datagrams."""
    figures = run("sweep", nodes=100, keys=300, lookups=5)
    assert figures["times_cheaper"] >= 5
    assert figures["stored_least"] >= 18


def test_providers_are_found_while_nodes_come_and_go() -> None:
    """For half an hour, with sessions of half an hour."""
    figures = run("churn", nodes=30, hours=0.4, session=30.0, away=15.0, lookups=30)
    assert figures["found"] >= 0.97


def test_a_fleet_asks_the_origin_once() -> None:
    """40 cold nodes want the same files at one moment."""
    figures = run("fleet", nodes=40, files=6)
    assert figures["got_all"] == 1.0
    assert figures["copies"] <= 1.05
    assert figures["first_byte_beyond_origin_p99_s"] <= 0.3


def test_holders_that_die_cost_one_copy_more() -> None:
    """Of what they were bringing; all others get all of it."""
    figures = run("fleet", nodes=25, files=6, killed=2)
    assert figures["got_all"] == 1.0
    assert figures["copies_most"] <= 2


def test_random_faults_break_no_invariant() -> None:
    """One seed; `scripts/simulate soak` runs as many as one likes."""
    soak = Soak(7, nodes=20, minutes=5)
    soak.run()
    assert soak.failures == []


def test_a_soak_replays_under_any_order_of_hashes() -> None:
    """Faults, liars and all: the same seed, the same trace."""
    code = (
        "from tests.simulation.soak import Soak; "
        "s = Soak(3, nodes=12, minutes=2); s.run(); print(s.trace)"
    )
    traces = set()
    for hash_seed in ("0", "1", "4242"):
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=True,
        )
        traces.add(done.stdout.strip())
    assert len(traces) == 1


def test_the_command_line_prints_one_document(capsys: Any) -> None:
    """With the figures that others read."""
    assert main(["lookup", "--nodes", "50", "--lookups", "5", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    wanted = {"found", "closest_found", "p50_s", "p95_s", "p99_s", "hops_p95"}
    assert wanted | {"rpcs_p50", "wall_s", "messages"} <= figures.keys()


def test_percentiles_are_values_that_were_seen() -> None:
    """By nearest rank."""
    assert percentile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert percentile([1.0], 0.99) == 1.0
    assert percentile([], 0.5) == 0.0


def test_nodes_behind_nats_are_found_and_fetched_from() -> None:
    """By every pair of NATs, while one of a node's introducers lives."""
    figures = run("reach", nodes=40, fetches=60, dead=0.2)
    assert figures["found"] >= 0.98
    assert figures["fetched"] >= 0.98
    assert figures["by hole punching"] > 0
    assert figures["by a reverse connection"] > 0


def test_without_a_relay_symmetric_nats_do_not_meet() -> None:
    """All others do: a relay is what is left, and nothing else is counted as one."""
    figures = run("reach", nodes=40, fetches=60, dead=0.0, relays=0)
    assert figures["through a relay"] == 0
    assert figures.get("symmetric from symmetric", 0) == 0
    assert figures["port from port"] == figures["address from port"] == 1
    assert figures["public from symmetric"] == 1
