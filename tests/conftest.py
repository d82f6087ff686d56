"""What all tests share: signals, quick property tests, and which of them run."""

from __future__ import annotations

import signal

import pytest
from hypothesis import HealthCheck, settings

# A shell starts background jobs with SIGINT ignored, and children inherit that. The
# processes that tests start must react to Ctrl-C as they do in a terminal.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A loaded machine is no failure of the code, so no example has a deadline; and a
# failure that shows on one machine shows on all, so the examples follow from the code.
settings.register_profile(
    "caravan",
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("caravan")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--full`."""
    parser.addoption("--full", action="store_true", help="also run the long tests")


def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Leave out tests marked `full` or `netns`, unless `--full` asks for them.

    Where the laboratory of `netns` cannot be made they are skipped, with the reason.
    """
    unwanted = set() if config.getoption("--full") else {"full", "netns"}
    left_out = [
        item for item in items if unwanted & {mark.name for mark in item.iter_markers()}
    ]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
    # Files are dealt to the processors in this order: the long ones first, so that no
    # processor still has one while the others are done.
    items.sort(key=lambda item: "end_to_end" not in item.path.parts)
