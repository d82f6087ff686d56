"""The errors that a person meets, each with its exit code.

The docstring of a class is its message where none is given. A message is one clear
sentence, with the next step where there is one; it follows a name and a colon, so it
begins with a small letter and has no full stop.
"""

from typing import Any

from node.printable import printable

INTERRUPTED = 130
"""The exit code after Ctrl-C, as shells have it: 128 and the number of SIGINT."""


def clause(sentence: object) -> str:
    """Return a sentence as it stands after `caravan: `; those of `dht` are sentences.

    >>> clause("The store is full.")
    'the store is full'
    """
    text = str(sentence).strip().removesuffix(".")
    # Not "TLS failed", nor a name in quotes.
    is_word = text[1:2].islower() or text[1:2] == " "
    return text[:1].lower() + text[1:] if is_word else text


class NodeError(Exception):
    """Something failed."""

    exit_code = 1

    def __init__(
        self, message: str | None = None, *, details: dict[str, Any] | None = None
    ) -> None:
        text = message or clause(type(self).__doc__ or "")
        super().__init__(printable(text))
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
