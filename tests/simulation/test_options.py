"""The command line of the simulator: what makes no sense is refused at once."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.simulation.experiments import EXPERIMENTS, load, main
from tests.simulation.report import Progress

if TYPE_CHECKING:
    from pathlib import Path

PNG = b"\x89PNG"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        "lookup --nodes 0",
        "lookup --nodes 1",
        "lookup --nodes many",
        "lookup --dead 2",
        "lookup --dead 1",
        "lookup --dead -0.1",
        "lookup --loss nan",
        "lookup --lookups 0",
        "lookup --frobnicate",
        "lookup --nodes 10 --dead 0.99",
        "publish --seed -1",
        "churn --session 0",
        "churn --hours inf",
        "adversary --mode honest",
        "adversary --nodes 4 --liars 0.9",
        "eclipse --groups 0",
        "eclipse --attackers 600 --groups 2",
        "eclipse --keys 9 --lookups 3",
        "partition --nodes 2 --seed 1",
        "sweep --keys 0",
        "join --nodes 1",
        "soak --seeds 0",
        "soak --seeds 1 --plot soak.png",
        "alert --nodes 5 --holders 5",
        "lookup --plot /nowhere/at/all.png",
        "lookup --plot figures.txt",
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_two(
    text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """And nothing on stdout, where a program would read figures."""
    with pytest.raises(SystemExit) as ended:
        main(text.split())
    printed = capsys.readouterr()
    assert ended.value.code == 2
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    assert line.startswith("simulate")
    assert line.endswith(".")


def test_a_plot_that_cannot_be_written_costs_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is found out first."""
    module = load("lookup")
    monkeypatch.setattr(module, "run", lambda *_: pytest.fail("it ran"))
    with pytest.raises(SystemExit) as ended:
        main(["lookup", "--plot", str(tmp_path / "missing" / "x.png")])
    assert ended.value.code == 2


SMALL = {
    "lookup": "--nodes 20 --lookups 5",
    "publish": "--nodes 20 --lookups 3",
    "churn": "--nodes 10 --lookups 3 --hours 0.05",
    "adversary": "--nodes 20 --lookups 3",
    "eclipse": "--nodes 20 --attackers 4 --groups 2 --keys 1 --lookups 2",
    "partition": "--nodes 12 --lookups 3 --minutes 2",
    "join": "--nodes 10 --lookups 3",
    "sweep": "--nodes 20 --keys 20 --lookups 2",
    "inventory": "--nodes 20 --files 40 --sixteenths 1 --lookups 5",
    "reach": "--nodes 40 --fetches 10",
    "soak": "--nodes 10 --seeds 1 --minutes 1",
    "alert": "--nodes 12 --holders 3",
    "absence": "--nodes 8 --holders 1 --hours 1",
    "fleet": "--nodes 8 --files 2",
}
PUBLISHED = {
    "lookup": "found closest_found p50_s p95_s p99_s hops_p95 rpcs_p50",
    "publish": "p50_s p95_s stored_p50 stored_least",
    "churn": "found_worst_hour found_by_hour bytes_per_second_per_node closest_found",
    "adversary": "found p95_s rpcs_p50",
    "eclipse": "found tabled_per_node_and_key suspected_elsewhere",
    "partition": "found_by_minute found_in_minute_10",
    "join": "join_p50_s messages_per_join closest_found isolated",
    "sweep": "times_cheaper requests_per_key_swept",
    "inventory": "found keeper_mb_whole_inventory renewal_bytes_per_second",
    "reach": "found fetched",
    "soak": "failed_seeds",
    "alert": "online_told",
    "absence": "found",
    "fleet": "copies got_all first_byte_beyond_origin_p99_s",
}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_prints_one_document_and_draws(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In small; what it says of its figures is in `docs/measurements.md`."""
    plot = tmp_path / "plot.png"
    draws = getattr(load(name), "DRAWS", True)
    wish = ["--plot", str(plot)] if draws else []
    assert main([name, *SMALL[name].split(), "--json", *wish]) == 0
    printed = capsys.readouterr()
    figures = json.loads(printed.out)
    assert {*PUBLISHED[name].split(), "wall_s", "peak_mb"} <= figures.keys()
    assert printed.err == ""
    assert plot.exists() == draws
    assert not draws or plot.read_bytes().startswith(PNG)


def test_the_bar_moves_on_a_terminal_and_goes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Figures stay alone on stdout."""
    progress = Progress(shown=True)
    progress.show("nodes", 1, 4)
    progress.show("nodes", 4, 4)
    progress.end()
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "100%" in printed.err
    assert printed.err.endswith("\r\x1b[K")
