"""The entry point. `caravan --version` ends here, before anything is imported."""

from __future__ import annotations

import sys

from node.version import VERSION


def main() -> int:
    """Run `caravan` with the arguments of this process; returns the exit code."""
    arguments = sys.argv[1:]
    if arguments in (["--version"], ["-V"]):
        print(f"caravan {VERSION}")
        return 0
    try:
        from node.cli.run import run

        return run(arguments)
    except KeyboardInterrupt:
        from node.errors import INTERRUPTED

        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
