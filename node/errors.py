"""The errors that a person meets, each with its exit code.

The docstring of a class is its message where none is given; the message is one
clear sentence, with the next step where there is one.
"""

from typing import Any

INTERRUPTED = 130
"""The exit code after Ctrl-C, as shells have it: 128 and the number of SIGINT."""


class NodeError(Exception):
    """Something failed."""

    exit_code = 1

    def __init__(
        self, message: str | None = None, *, details: dict[str, Any] | None = None
    ) -> None:
        super().__init__(message or (type(self).__doc__ or "").strip())
        self.details = details or {}
        """What `--json` says beside the message."""


class UsageError(NodeError):
    """The command was given something that it cannot read."""

    exit_code = 2


class NotRunningError(NodeError):
    """No node is running here; start one with `caravan join --detach`."""

    exit_code = 3


class NobodyOffersError(NodeError):
    """No node offers this now."""

    exit_code = 4


class VerificationError(NodeError):
    """The data that arrived is not what was asked for; nothing of it was kept."""

    exit_code = 5


class RefusedError(NodeError):
    """Refused: the signature is not its publisher's, or a newer release is known."""

    exit_code = 6
