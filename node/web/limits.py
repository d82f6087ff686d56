"""Every bound of the web door, with its unit."""

import resource

from node.web.admission import DoorBounds

BODY_BYTES_MAX = 1024 * 1024
HEADER_BYTES_MAX = 8190  # of one line, and of one field
HEADERS_MAX = 64
COMMANDS_MAX = 64  # under way at the same time
CONNECTIONS_MAX = 1024
QUIET_MAX = 256  # connections without a whole request

QUIET_SECONDS_MAX = 10.0  # a connection without a whole request
BODY_SECONDS_MAX = 10.0
WRITE_SECONDS_MAX = 30.0  # a client that does not read its answer
SWEEP_SECONDS = 1.0
STOP_SECONDS_MAX = 0.5

EVENT_SECONDS_MIN = 0.1  # between two writes of progress
ALIVE_SECONDS = 10.0  # the longest silence in a stream of events
EVENT_LABELS_MAX = 1000  # progress labels waiting for one write

SITE_CONNECTIONS_MAX = 2048
SITE_CONNECTIONS_PER_CLIENT_MAX = 640
SITE_QUIET_MAX = 1024
SITE_QUIET_PER_CLIENT_MAX = 128
SITE_REQUESTS_PER_CLIENT_MAX = 32  # under way; further ones wait
SITE_WAITING_PER_CLIENT_MAX = 512  # under way and waiting
SITE_REPLACED_PER_SECOND = 100  # connections of one client, by its own
TLS_PER_SECOND = 400.0  # handshakes that may begin, of all clients together


def door_bounds() -> DoorBounds:
    """Return the bounds of the owner's door, whose clients are of one machine."""
    return DoorBounds(
        total=_within_descriptors(CONNECTIONS_MAX),
        per_source=CONNECTIONS_MAX,
        quiet=QUIET_MAX,
        quiet_per_source=QUIET_MAX,
        quiet_seconds=QUIET_SECONDS_MAX,
        # All clients are one source here, so nobody's newcomer is refused for another.
        replaced_per_second=1_000_000,
    )


def site_bounds() -> DoorBounds:
    """Return the bounds of the site door."""
    return DoorBounds(
        total=_within_descriptors(SITE_CONNECTIONS_MAX),
        per_source=SITE_CONNECTIONS_PER_CLIENT_MAX,
        quiet=SITE_QUIET_MAX,
        quiet_per_source=SITE_QUIET_PER_CLIENT_MAX,
        quiet_seconds=QUIET_SECONDS_MAX,
        replaced_per_second=SITE_REPLACED_PER_SECOND,
    )


def _within_descriptors(count: int) -> int:
    """Return so many, or a quarter of the files that the process may open."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit == resource.RLIM_INFINITY:
        return count
    return max(min(count, limit // 4), 4)
