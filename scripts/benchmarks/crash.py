"""Kill a node at random moments of fetch, share and clean; look at what is left.

scripts/bench crash [--kills 200] [--seed 1] [--size 6] [--seeders 1] [--json]

What is listed afterwards is read from the disk and fetched over the wire.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from tests.end_to_end.caravan import MEBIBYTE, caravan_in
from tests.end_to_end.crashes import (
    CHUNK_BYTES,
    CONNECTIONS_MAX,
    KINDS,
    Crashes,
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench crash")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--size", type=int, default=6, help="of the files, in MiB")
    parser.add_argument("--seeders", type=int, default=1)
    parser.add_argument("--json", action="store_true")
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
    found = asdict(crashes.tally) | {"seconds": round(time.monotonic() - began, 1)}
    if options.json:
        print(json.dumps(found, indent=2))
    else:
        print(
            f"{found['kills']} kills (seed {options.seed}, {found['seconds']} s): "
            f"{len(found['corrupt'])} corrupt artifacts listed, {found['served']} "
            f"fetched from the victim, {len(found['unserved'])} could not be; "
            f"{found['resumed']} downloads resumed, of one at most "
            f"{found['again_bytes_max']} verified bytes fetched again and "
            f"{found['sent_again_bytes_max']} sent beyond its length "
            f"(allowed {CONNECTIONS_MAX * CHUNK_BYTES})"
        )
    if found["corrupt"] or found["unserved"]:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
