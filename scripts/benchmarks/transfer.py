"""Measure the transfer layer beside its peers, in one run and on one machine.

    scripts/bench transfer [--size 512M] [--case one ...] [--runs 5] [--json]

The parties are separate processes; the runs are interleaved. The clock starts before
connecting and stops, for ours and for curl, when the file is verified by its plain
SHA-256 and committed; for libtorrent already when it has checked the last piece.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

from scripts.benchmarks.parties import cases, control, floors
from scripts.benchmarks.report import Report
from scripts.benchmarks.report import parser as make_parser

MIB = 1024 * 1024
PAYLOADS_PER_RUN = 8


def main() -> None:
    options = _arguments()
    report = Report("transfer", options.json)
    absent = {
        peer: why
        for peer, why in control.absent_peers().items()
        if peer in options.peers
    }
    for peer, why in absent.items():
        report.note(f"skipped {peer}: {why}")
    peers = {"caravan", *options.peers} - absent.keys()
    _check_room(options.folder, max(options.size, default=0))
    with tempfile.TemporaryDirectory(prefix="caravan-", dir=options.folder) as folder:
        report.section(
            "What one core of this machine can do", floors.rows(Path(folder))
        )
        for name in options.case:
            plans = cases.plan(name, options.size, peers)
            for number, plan in enumerate(plans):
                place = Path(folder) / f"{name}{number}"
                results = cases.run(plan, options.runs, place)
                shutil.rmtree(place)
                report.section(
                    plan.title, cases.rows(plan, results), cases.note(results)
                )
    report.end()


def _arguments() -> argparse.Namespace:
    parser = make_parser("transfer", __doc__)
    parser.add_argument(
        "--size", type=_size, nargs="+", default=[512 * MIB, 64 * MIB], metavar="512M"
    )
    parser.add_argument(
        "--case", nargs="+", choices=cases.NAMES, default=list(cases.NAMES)
    )
    parser.add_argument(
        "--peers",
        type=lambda text: set(filter(None, text.split(","))),
        default={"libtorrent", "curl"},
        metavar="libtorrent,curl",
    )
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path(
            "/dev/shm" if Path("/dev/shm").is_dir() else tempfile.gettempdir()
        ),
        help="where payloads and targets go for a while",
    )
    return parser.parse_args()


def _size(text: str) -> int:
    units = {"K": 1024, "M": MIB, "G": 1024 * MIB}
    if text[-1:].upper() in units:
        return int(float(text[:-1]) * units[text[-1].upper()])
    return int(text)


def _check_room(folder: Path, size: int) -> None:
    free, needed = shutil.disk_usage(folder).free, PAYLOADS_PER_RUN * size
    if free < needed:
        raise SystemExit(
            f"{folder} has {free >> 20} MiB left and this needs {needed >> 20} MiB;"
            " choose a smaller --size or another --folder."
        )


if __name__ == "__main__":
    main()
