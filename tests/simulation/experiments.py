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
from typing import TYPE_CHECKING, Any, NoReturn

from tests.simulation.options import OPTIONS, OptionError, check_plot
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
    "inventory": "tests.simulation.inventory",
    "soak": "tests.simulation.soak",
    "alert": "tests.simulation.alerts",
    "absence": "tests.simulation.absence",
    "fleet": "tests.simulation.fleet",
    "reach": "tests.simulation.reach",
}


GC_ALLOCATIONS = 100_000
"""Few of the many objects of a run are in cycles, so the collector may come seldom."""


def load(name: str) -> ModuleType:
    """Return the module of an experiment."""
    return importlib.import_module(EXPERIMENTS[name])


def options_of(name: str, **chosen: Any) -> argparse.Namespace:
    """Return an experiment's options, as a test or a program chooses them."""
    return argparse.Namespace(**{**load(name).DEFAULTS, "plot": None, **chosen})


class _Parser(argparse.ArgumentParser):
    """A parser that refuses with one sentence; `--help` tells the rest."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message.removesuffix('.')}.\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="simulate", description="Run an experiment in virtual time.")
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
    """Run the experiment that the command line names.

    Returns 0; 1 if an invariant broke. Ends the program with 2 and a sentence where
    the options make no sense, and with 130 where it is interrupted.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    module = load(options.experiment)
    progress = Progress()
    thresholds = gc.get_threshold()
    gc.set_threshold(GC_ALLOCATIONS, *thresholds[1:])
    try:
        if options.plot is not None:
            check_plot(options.plot, draws=getattr(module, "DRAWS", True))
        result: Result = module.run(options, progress)
    except OptionError as error:
        progress.end()
        parser.error(str(error))
    except KeyboardInterrupt:
        progress.end()
        return 130
    finally:
        gc.set_threshold(*thresholds)
    progress.end()
    _report(result, options, progress)
    return 1 if result.failed else 0


def _report(result: Result, options: argparse.Namespace, progress: Progress) -> None:
    """Print the figures, then what broke, and draw what can be drawn."""
    result.figures["wall_s"] = round(progress.seconds, 2)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result.figures["peak_mb"] = round(peak / 1024)
    sys.stdout.write(f"{result.json() if options.json else result.text()}\n")
    for failure in result.failed:
        sys.stderr.write(f"{failure}\n")
    if options.plot is not None and result.plot is not None:
        save_plot(result.plot, options.plot)


if __name__ == "__main__":
    sys.exit(main())
