"""When an origin that failed is asked again."""

from __future__ import annotations

from node.gateway.limits import RETRY_AFTER_SECONDS_MAX
from node.gateway.origin import BusyError, DownError, MissingError, OriginError

PASSING = (408, 425, 429, 500, 502, 503, 504)


def pause_before_retry(error: OriginError, attempt: int) -> float | None:
    """Return how long to wait before asking again, in seconds; None to give up.

    What the origin says is kept to, up to what a client waits for.
    """
    if isinstance(error, MissingError | DownError):
        return None
    if isinstance(error, BusyError):
        if error.retry_after is not None:
            most = RETRY_AFTER_SECONDS_MAX
            return error.retry_after if error.retry_after <= most else None
        return 0.3 * 2**attempt if error.status in PASSING else None
    return 0.2 * 2**attempt if error.is_passing else None
