"""Which calls a node obeys: what bounds an introducer that lies; a plain object."""

from __future__ import annotations

from typing import Final

from dht.bounded import TtlMap, TtlSet

DIALS_AT_ONCE_MAX: Final = 8
DIALS_PER_MINUTE_MAX: Final = 120
FAILED_SECONDS: Final = 60.0
"""An IP where no caller was found is left alone for so long."""
TOKEN_SECONDS: Final = 30.0
_REMEMBERED_MAX: Final = 4096


class CallGuard:
    """Counts the calls under way, and remembers where nobody was found.

    `host` is the IP address of a caller that is to be dialled, None for a call to an
    introducer, which this node chose itself. Times are monotonic seconds.
    """

    def __init__(self) -> None:
        self._failed: TtlMap[str, bool] = TtlMap(FAILED_SECONDS, _REMEMBERED_MAX)
        self._tokens: TtlSet[bytes] = TtlSet(TOKEN_SECONDS, _REMEMBERED_MAX)
        self._begun: list[float] = []
        self._under_way = 0

    def knows(self, token: bytes, now: float) -> bool:
        """Whether a call is the repetition of one that was obeyed."""
        return self._tokens.has(token, now)

    def begin(self, token: bytes, host: str | None, now: float) -> bool:
        """Whether a call is to be obeyed now; if so, it is counted."""
        self._begun = [at for at in self._begun if now - at < 60.0]
        if (
            self._under_way >= DIALS_AT_ONCE_MAX
            or len(self._begun) >= DIALS_PER_MINUTE_MAX
            or (host is not None and self._failed.get(host, now))
        ):
            return False
        self._tokens.add(token, now)
        self._begun.append(now)
        self._under_way += 1
        return True

    def end(self, host: str | None, *, found: bool, now: float) -> None:
        """Note how a call has ended."""
        self._under_way -= 1
        if host is None:
            return
        self._failed.discard(host)
        if not found:
            self._failed.put(host, True, now)
