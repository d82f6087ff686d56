"""Honest use beside each attack: how much of it succeeds, and how much slower it is.

    scripts/bench attacks [NAME ...] [--json]

Each attack runs against real nodes on loopback; `tests/attacks/` has them. The goals:
99 % of honest actions succeed, in at most twice the time.
"""

from __future__ import annotations

import logging
import tempfile
import traceback
from pathlib import Path

from scripts.benchmarks.report import Goal, Report, Row
from scripts.benchmarks.report import parser as make_parser
from tests.attacks.cases import ATTACKS
from tests.attacks.lab import Attack, Lab, Outcome
from tests.end_to_end.caravan import caravan_in

SUCCESS_MIN = 99.0
SLOW_DOWN_MAX = 2.0
# Below this nobody notices, and a ratio says more of the machine than of the attack.
SECONDS_NOTICED = 0.5


def main() -> None:
    parser = make_parser("attacks", __doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(ATTACKS))
    options = parser.parse_args()
    if unknown := set(options.names) - ATTACKS.keys():
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    logging.disable(logging.CRITICAL)
    report = Report("attacks", options.json)
    rows = []
    for name in options.names or ATTACKS:
        report.note(f"{name} ...")
        rows += measure(ATTACKS[name])
    note = (
        "Success is the share of honest actions that succeed while the attack runs. "
        "Time is their median, beside the same without the attack."
    )
    report.section("Honest use under attack", rows, note)
    report.end()


def measure(attack: Attack) -> list[Row]:
    """Run one attack in a folder of its own; return its rows."""
    try:
        with (
            tempfile.TemporaryDirectory(prefix="caravan-attack-") as folder,
            caravan_in(Path(folder)) as caravan,
        ):
            outcome = attack.run(Lab(caravan))
    except Exception:  # noqa: BLE001 (a node that hangs or dies is a result)
        why = traceback.format_exc().strip().splitlines()[-1]
        return [_success(attack, 0.0, {"error": why[:120]})]
    return rows_of(attack, outcome)


def rows_of(attack: Attack, outcome: Outcome) -> list[Row]:
    """Return success and, where time matters, the slow-down."""
    made = f"{int(outcome.done)} of {outcome.tried}"
    rows = [_success(attack, 100 * outcome.success, {"done": made})]
    if outcome.slow_down is not None and outcome.attacked_seconds is not None:
        noticed = outcome.attacked_seconds > SECONDS_NOTICED
        rows.append(
            Row(
                what=f"{attack.kind} {attack.name}: time",
                ours=outcome.attacked_seconds,
                unit="s",
                theirs=outcome.quiet_seconds,
                beside="without it",
                goal=Goal(SLOW_DOWN_MAX) if noticed else None,
            )
        )
    return rows


def _success(attack: Attack, percent: float, more: dict[str, str]) -> Row:
    return Row(
        what=f"{attack.kind} {attack.name}: {attack.honest}",
        ours=percent,
        unit="%",
        goal=Goal(SUCCESS_MIN, ratio=False, at_least=True),
        more=more,
    )


if __name__ == "__main__":
    main()
