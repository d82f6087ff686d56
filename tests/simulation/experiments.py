"""The experiments by name, and the command line that runs one of them.

An experiment is a module with `DEFAULTS`, the options it reads and their values, and
`run(options, progress)`, which returns a `Result`. To add one, name it here.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import resource
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.simulation.report import Progress, Result, save_plot

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

EXPERIMENTS = {
    "lookup": "tests.simulation.lookups",
    "publish": "tests.simulation.publishing",
    "churn": "tests.simulation.churn",
    "adversary": "tests.simulation.adversary",
    "eclipse": "tests.simulation.eclipse",
    "partition": "tests.simulation.partition",
    "join": "tests.simulation.joining",
    "sweep": "tests.simulation.sweep",
    "soak": "tests.simulation.soak",
    "alert": "tests.simulation.alerts",
    "absence": "tests.simulation.absence",
}

# Option, type and help; each experiment names those it reads, with its defaults.
OPTIONS: dict[str, tuple[Any, str]] = {
    "nodes": (int, "how many nodes"),
    "dead": (float, "share of nodes that died and were not noticed yet"),
    "loss": (float, "share of datagrams that are lost"),
    "lookups": (int, "how many lookups"),
    "seed": (int, "the seed; the same one replays the same run"),
    "seeds": (int, "how many seeds, from --seed on"),
    "keys": (int, "how many keys"),
    "hours": (float, "hours of virtual time"),
    "minutes": (float, "minutes of virtual time"),
    "session": (float, "median session of a node, in minutes"),
    "away": (float, "median time between two sessions, in minutes"),
    "offers": (int, "1 if each node offers a key, 0 if not"),
    "liars": (float, "share of nodes that lie"),
    "mode": (str, "how the liars lie"),
    "attackers": (int, "how many nodes of an attacker"),
    "groups": (int, "how many /24 networks the attacker has"),
}


def load(name: str) -> ModuleType:
    """Return the module of an experiment."""
    return importlib.import_module(EXPERIMENTS[name])


def options_of(name: str, **chosen: Any) -> argparse.Namespace:
    """Return an experiment's options, as a test or a program chooses them."""
    return argparse.Namespace(**{**load(name).DEFAULTS, **chosen})


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="simulate", description="Run an experiment in virtual time."
    )
    commands = parser.add_subparsers(
        dest="experiment", required=True, metavar="EXPERIMENT"
    )
    for name in EXPERIMENTS:
        module = load(name)
        sentence = (module.__doc__ or "").split("\n", 1)[0]
        command = commands.add_parser(name, help=sentence, description=sentence)
        for option, value in {**module.DEFAULTS}.items():
            kind, text = {**OPTIONS, **getattr(module, "OPTIONS", {})}[option]
            command.add_argument(
                f"--{option.replace('_', '-')}",
                type=kind,
                default=value,
                help=f"{text} (default: {value})",
            )
        command.add_argument(
            "--json", action="store_true", help="print one JSON document"
        )
        command.add_argument("--plot", type=Path, metavar="FILE.png", help="draw it")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the experiment that the command line names; 1 if an invariant broke."""
    options = _parser().parse_args(arguments)
    progress = Progress()
    gc.disable()  # the nodes of a run live until its end
    try:
        result: Result = load(options.experiment).run(options, progress)
    finally:
        gc.enable()
    progress.end()
    result.figures["wall_s"] = round(progress.seconds, 2)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result.figures["peak_mb"] = round(peak / 1024)
    sys.stdout.write(f"{result.json() if options.json else result.text()}\n")
    if options.plot is not None:
        if result.plot is None:
            raise SystemExit(f"{options.experiment} draws nothing.")
        save_plot(result.plot, options.plot)
    for failure in result.failed:
        sys.stderr.write(f"{failure}\n")
    return 1 if result.failed else 0


if __name__ == "__main__":
    sys.exit(main())
