"""Every bound of the web door, with its unit."""

BODY_BYTES_MAX = 1024 * 1024
HEADER_BYTES_MAX = 8190  # of one line, and of one field
HEADERS_MAX = 64
COMMANDS_MAX = 64  # under way at the same time
CONNECTIONS_MAX = 256

QUIET_SECONDS_MAX = 10.0  # a connection without a whole request
BODY_SECONDS_MAX = 10.0
WRITE_SECONDS_MAX = 30.0  # a client that does not read its answer
SWEEP_SECONDS = 1.0
STOP_SECONDS_MAX = 0.5

EVENT_SECONDS_MIN = 0.1  # between two writes of progress
ALIVE_SECONDS = 10.0  # the longest silence in a stream of events
EVENT_LABELS_MAX = 1000  # progress labels waiting for one write

SITE_CONNECTIONS_MAX = 1024
SITE_CONNECTIONS_PER_CLIENT_MAX = 128
SITE_REQUESTS_PER_CLIENT_MAX = 32  # under way; further ones wait
SITE_WAITING_PER_CLIENT_MAX = 512  # under way and waiting
