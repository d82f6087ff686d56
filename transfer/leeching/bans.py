"""Who was caught sending what is not right, for the log and for people."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from transfer.limits import BAD_PEERS_MAX

if TYPE_CHECKING:
    from transfer.connection.peer import Peer
    from transfer.content.digest import Digest

log = logging.getLogger(__name__)


class Bans:
    """The peers that were banned last, each with what it did."""

    def __init__(self) -> None:
        self._reasons: dict[str, str] = {}

    def note(self, peer: Peer, digest: Digest, why: str) -> None:
        """Remember that a peer was banned for an artifact."""
        log.warning("%s is banned for %s: %s", peer, digest, why)
        self._reasons.pop(str(peer), None)
        self._reasons[str(peer)] = f"{digest.short()}: {why}"
        while len(self._reasons) > BAD_PEERS_MAX:
            del self._reasons[next(iter(self._reasons))]

    def reasons(self) -> dict[str, str]:
        """Return what each did last, by its address; the latest comes last."""
        return dict(self._reasons)
