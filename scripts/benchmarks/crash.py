"""Kill a node at random moments of fetch, share and clean; look at what is left.

scripts/bench crash [--kills 200] [--seed 1] [--size 6] [--seeders 1] [--json]

What is listed afterwards is read from the disk and fetched over the wire.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
import time
from pathlib import Path

from scripts.benchmarks.report import Goal, Report, Row
from scripts.benchmarks.report import parser as make_parser
from tests.end_to_end.caravan import MEBIBYTE, caravan_in
from tests.end_to_end.crashes import (
    CHUNK_BYTES,
    CONNECTIONS_MAX,
    KINDS,
    Crashes,
    Tally,
)


def main() -> None:
    parser = make_parser("crash", __doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--size", type=int, default=6, help="of the files, in MiB")
    parser.add_argument("--seeders", type=int, default=1)
    options = parser.parse_args()
    began = time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="caravan-crash-") as folder,
        caravan_in(Path(folder)) as caravan,
    ):
        crashes = Crashes(
            caravan,
            options.seed,
            seeders=options.seeders,
            file_bytes=options.size * MEBIBYTE,
        )
        # Interrupted, it tells of those that were done.
        with contextlib.suppress(KeyboardInterrupt):
            for number in range(options.kills):
                crashes.kill_once(KINDS[number % len(KINDS)])
                if sys.stderr.isatty():
                    print(f"\r{number + 1} kills ", end="", file=sys.stderr)
    tally = crashes.tally
    title = (
        f"{tally.kills} kills, seed {options.seed}, {time.monotonic() - began:.0f} s"
    )
    report = Report("crash", options.json)
    report.section(title, rows(tally))
    report.end()
    if tally.corrupt or tally.unserved:
        raise SystemExit(1)


def rows(tally: Tally) -> list[Row]:
    """Return what was counted; nothing listed may be corrupt or out of reach."""
    none, chunks = Goal(0, ratio=False), Goal(CONNECTIONS_MAX, ratio=False)
    chunk = CHUNK_BYTES
    return [
        Row(
            what="corrupt artifacts listed", ours=len(tally.corrupt), unit="", goal=none
        ),
        Row(what="listed and not served", ours=len(tally.unserved), unit="", goal=none),
        Row(what="fetched from the victim", ours=tally.served, unit=""),
        Row(what="downloads resumed", ours=tally.resumed, unit=""),
        Row(
            what="verified bytes fetched again, at most",
            ours=tally.again_bytes_max / chunk,
            unit="chunks",
            goal=chunks,
        ),
        Row(
            what="sent beyond the length, at most",
            ours=tally.sent_again_bytes_max / chunk,
            unit="chunks",
            goal=chunks,
        ),
    ]


if __name__ == "__main__":
    main()
