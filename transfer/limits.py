"""Every bound of the transfer layer in one place, with its unit in its name.

The wire's bounds are constants, because both ends must agree on them. What an
owner of a node may tune is in `SeederLimits` and `LeecherLimits`.
"""

from __future__ import annotations

from dataclasses import dataclass

KIB = 1024
MIB = 1024 * KIB

# Artifacts and manifests.
CHUNK_BYTES_SMALL = 256 * KIB
SMALL_ARTIFACT_BYTES_MAX = 64 * MIB
CHUNK_BYTES_LARGE_MIN = MIB
CHUNKS_MAX = 16_384
ARTIFACT_BYTES_MAX = 2**40
CHUNK_BYTES_MAX = ARTIFACT_BYTES_MAX // CHUNKS_MAX
BUFFER_BYTES = MIB
READ_BYTES_MAX = 64 * MIB

# The wire.
MAGIC_BYTES = 8
HELLO_FRAME_BYTES_MAX = 256
REQUEST_FRAME_BYTES_MAX = 1024
REPLY_FRAME_BYTES_MAX = CHUNKS_MAX * 32 + 1024
BITMAP_BYTES_MAX = CHUNKS_MAX // 8
REASON_CHARACTERS_MAX = 200
FILE_NAME_CHARACTERS_MAX = 200
WANTS_PER_CONNECTION_MAX = 64
ASKS_AT_ONCE_MAX = 64
SIGNATURES_MAX = 32_768  # files that a store remembers to have checked
FOUND_MAX = 4096  # artifacts that a store remembers to hold
EAGER_BYTES_MAX = 256 * KIB
PEX_PEERS_PER_MESSAGE_MAX = 16
PEX_ENTRY_BYTES = 50
PEX_PORT_MIN = 1024
BUSY_SECONDS_MAX = 600
FOLLOW_PART_BYTES_MAX = 128 * KIB
FOLLOW_ALIVE_SECONDS = 0.25
"""A seeder says something that often to those who follow an arrival."""
FOLLOW_SILENCE_SECONDS = 1.0
"""A peer that is followed and silent for longer is given up."""
FOLLOW_STALL_SECONDS = 5.0
"""The same for one that says something, and sends no content."""

# A store's commits and background work.
GROUP_ARTIFACTS_MAX = 64

# What is remembered for people.
BAD_PEERS_MAX = 64

# Peers that fail are asked after others for a while.
BACKOFF_SECONDS = 30.0
BACKOFF_PEERS_MAX = 1024

# What came of a chunk before its connection failed is kept, if it is more than this.
KEPT_BYTES_MIN = 4 * KIB

# Whom others may have a leecher dial.
PEX_PEERS_PER_SEEDER_MAX = 64
DIALS_PER_HOUR_MAX = 10
DIALS_SECONDS = 3600.0
DIAL_PAUSE_SECONDS_MAX = 60.0
DIALS_REMEMBERED_MAX = 4096
CHECK_AGAIN_SECONDS = 7 * 24 * 3600.0


@dataclass(frozen=True, slots=True)
class SeederLimits:
    """What a seeder spends on others."""

    connections_max: int = 512
    connections_per_source_max: int = 64
    handshakes_max: int = 64
    handshakes_per_source_max: int = 8
    """With more of one source under way, those that stall give way."""
    handshake_seconds: float = 10.0
    handshake_stall_seconds: float = 1.0
    tls_per_second: int = 200
    """TLS handshakes that may begin in a second, of all sources together."""
    upload_threads_max: int = 8
    upload_threads_per_source_max: int = 6
    wants_max: int = 3072
    """Wants of all connections; one source may have as many as it leaves free."""
    wants_sure: int = 16
    """Wants that any connection may have, whatever others of its source have."""
    wants_eager_max: int = 512
    """While a source has fewer, each of its connections may have all it asks for."""
    files_max: int = 256
    """Descriptors of files that are being served."""
    idle_seconds: float = 120.0
    linger_seconds: float = 0.05
    frame_seconds: float = 10.0
    """How long a request may stay incomplete."""
    blocked_seconds: float = 0.005
    """How long a thread waits for a peer to read before it serves another."""
    bytes_per_second_min: int = 64 * KIB
    """A connection slower than this gives way when others wait for its place."""
    turn_seconds: float = 1.0
    """How long one connection keeps a thread while others wait for one."""
    waiting_max: int = 64
    """With more connections than this waiting for a thread, a want is put off."""
    busy_seconds: int = 2
    check_seconds: float = 60.0
    """How often to look whether an artifact has not been checked for a week."""
    have_seconds: float = 0.1
    """The least time between two `have` frames for one artifact."""
    complaint_seconds: float = 60.0
    """The least time between two checks of one chunk that complaints caused."""
    near_seconds: float = 0.001
    """Peers with a shorter round trip are sent to without pacing."""
    bytes_per_second: int | None = None


@dataclass(frozen=True, slots=True)
class LeecherLimits:
    """What downloads may use."""

    connections_max: int = 64
    """Open connections of one download."""
    pex_connections_max: int = 24
    """Of them, those to peers that are known only from a seeder's word."""
    openings_max: int = 8
    """Connections of one download that are being opened and not yet late."""
    opening_soft_seconds: float = 0.5
    """After this long an opening counts as late and another may start."""
    opening_seconds: float = 5.0
    answer_seconds: float = 10.0
    small_silence_seconds: float = 1.0
    small_answer_seconds: float = 4.0
    """A peer silent, or with one small artifact, for longer is left for others."""
    small_threads_max: int = 16
    download_threads_max: int = 32
    hash_threads_max: int = 2
    connections_per_lone_peer: int = 2
    """Connections to one peer while it is the only one, for large artifacts."""
    second_connection_bytes_min: int = 8 * MIB
    wait_seconds: float = 0.25
    """How long a thread waits for a peer before the event loop waits instead."""
    stall_seconds: float = 30.0
    """A download to which no bytes come for this long gives up."""
    patience_seconds: float = 10.0
    """The same before its first bytes: so soon a caller learns that nothing comes."""
    vouching_seconds: float = 5.0
    """How long a download waits, among peers that have parts, for a whole one."""
    absent_tries_max: int = 6
    absent_seconds: float = 0.2
    """How soon a peer that has nothing is asked again; then twice as late each time."""
    pace_window_seconds: float = 10.0
    bytes_per_second_min: int = 4 * KIB
    """A peer slower than this over one window, inside a chunk, is dropped."""
    requests_per_peer_max: int = 64
    request_bytes_max: int = 16 * MIB
    """Chunks asked of one peer at once, by number and by bytes."""
    snub_seconds_min: float = 2.0
    """No peer is snubbed sooner than this after a request or its last bytes."""
    warm_connections_max: int = 64
    warm_seconds: float = 30.0
    bytes_per_second: int | None = None
