"""One line of the log for each command that changes something, or fails."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable
from typing import Any, TypeVar

from node import commands
from node.errors import NodeError

log = logging.getLogger(__name__)

T = TypeVar("T")

_QUIET = (
    commands.StatusCommand,
    commands.PeersCommand,
    commands.ListCommand,
    commands.DoctorCommand,
    commands.UpdatesCommand,
    commands.FollowsCommand,
    commands.TransfersCommand,
)
"""Commands that are asked again and again, and change nothing."""


async def logged(command: commands.Command[Any], work: Awaitable[T]) -> T:
    """Return what `work` for `command` returns, and log how it ended."""
    name = type(command).__name__.removesuffix("Command").lower()
    started = time.monotonic()
    try:
        result = await work
    except NodeError as error:
        log.info("command %s: %s", name, error)
        raise
    if not isinstance(command, _QUIET):
        log.info("command %s: done in %.2f s", name, time.monotonic() - started)
    return result
