"""Kill a node at random moments of fetch, share and clean; look at what is left.

scripts/bench crash [--kills 200] [--seed 1] [--json]
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

# The folder of this script comes first by default, and hides the transfer layer.
sys.path[0] = str(Path(__file__).resolve().parents[2])

from tests.end_to_end.caravan import caravan_in  # noqa: E402
from tests.end_to_end.crashes import (  # noqa: E402
    CHUNK_BYTES,
    CONNECTIONS_MAX,
    KINDS,
    Crashes,
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench crash")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    began = time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="caravan-crash-") as folder,
        caravan_in(Path(folder)) as caravan,
    ):
        crashes = Crashes(caravan, options.seed)
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
            f"{len(found['corrupt'])} corrupt artifacts listed, {found['resumed']} "
            f"downloads resumed, at most {found['again_bytes_max']} bytes of one "
            f"fetched again (allowed {CONNECTIONS_MAX * CHUNK_BYTES})"
        )
    if found["corrupt"]:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
