"""Every bound of the gateway, with its unit."""

MISS_SECONDS_MAX = 10.0  # pip gives up after 16.6 s without a first byte
HEAD_START_SECONDS = 0.2  # of the peers before the origin is asked
ABOUT_DONE_SECONDS = 1.0  # peers that end this soon are not raced any more
LOOKUP_MISS_SECONDS = 30.0  # after a miss, files of the same index have no head start
SITE_PATIENCE_SECONDS = 1.0  # without a byte of peers, before the lease is asked for
SITE_LEFT_SECONDS_MAX = 10.0  # peers of a private network are not raced below that
MISS_REMEMBERED_SECONDS = 5.0
LINGER_SECONDS = 20.0  # how long a download goes on that nobody waits for any more

STREAM_BYTES_MIN = 4 * 1024 * 1024  # smaller files leave when they are whole
SLOW_SECONDS = 4.0  # after that, a smaller file is passed on while it comes, too
RESUME_PAUSE_SECONDS = 0.2  # before a file that broke off goes on
WRONG_PAUSE_SECONDS = 0.5  # before wrong bytes are asked for anew
ORIGIN_ATTEMPTS = 6  # for one file, as long as each failure is a passing one
ORIGIN_FIRST_SECONDS_MAX = 60.0  # of silence, before and while it sends
FILES_FROM_ORIGINS_MAX = 32  # under way; clients of a site door share them fairly
CONNECTIONS_PER_UPSTREAM = 64
STREAM_READY_BYTES = 512 * 1024
HOLD_BACK_BYTES = 256 * 1024  # of a stream, until the whole is verified
WRITE_BYTES = 1024 * 1024
BLOCK_SECONDS_MAX = 0.25  # what an origin sent waits no longer to be written
FILE_BYTES_MAX = 64 * 1024**3
DOWNLOADS_MAX = 4096  # wanted at the same time; connections are fewer, and wait

PAGE_BYTES_MAX = 64 * 1024 * 1024
PAGE_FRESH_SECONDS = 60.0
PAGE_ATTEMPTS = 4  # where an upstream fails for the moment and nothing is known
STALE_PAUSE_SECONDS_MAX = 1.5  # where a page is known, which is answered then
PAGE_LINGER_SECONDS = 120.0  # how long a page goes on that nobody waits for
PAGES_SAVING_BYTES_MAX = 32 * 1024 * 1024  # unwritten; beyond it, answers wait
PAGE_REST_SECONDS = 1.0  # before a page is packed and written: clients go first
PAGES_MEMORY_BYTES_MAX = 48 * 1024 * 1024
PAGES_DISK_BYTES_MAX = 128 * 1024 * 1024
RETRY_AFTER_SECONDS_MAX = 8.0  # the longest pause that a client still waits for
READ_SECONDS_MAX = 30.0  # for reading one page, archive or lockfile
LEARN_SECONDS_MAX = 5.0  # how long a request for a file waits for its index
ABSENT_SECONDS = 24 * 3600.0  # how long an upstream's "no such name" is believed
PADDING_AFTER_SECONDS = 9.0  # a client is kept waiting with what it skips
PADDING_EVERY_SECONDS = 4.0
DOWN_SECONDS = 5.0  # how long an upstream that cannot be reached is not asked again
READ_AHEAD_UNUSED_MAX = 32  # pages that no client has asked for yet
READ_AHEAD_SECONDS = 15.0  # after that, a guess was wrong and bars no others
READ_AHEAD_WAITING_MAX = 256
READ_AHEAD_AT_ONCE = 10  # pages under way; npm asks for 15 files at once, uv for 50
READ_AHEAD_LINES_MAX = 2_000  # of a wheel's metadata
READ_AHEAD_BYTES_MAX = 4 * 1024 * 1024  # of a packument
FILES_PER_PAGE_MAX = 50_000
URL_CHARACTERS_MAX = 2_000
REDIRECT_CHARACTERS_MAX = 8_000  # object storage signs with tokens of thousands
HEADER_BYTES_MAX = 32 * 1024  # of one line in the head of an origin's answer
REDIRECTS_MAX = 5


PART_BYTES_MAX = 1024 * 1024  # of a file, asked of its origin alone
WHEEL_PARTS_MAX = 5  # asked for until a wheel's metadata is found in them
WHEEL_END_BYTES = 65_535 + 22  # a zip's end record, and the longest comment behind it
PART_SECONDS_MAX = 10.0
METADATA_BYTES_MAX = 8 * 1024 * 1024
ARCHIVE_BYTES_MAX = 256 * 1024 * 1024  # of an opam repository, packed
UNPACKED_RATIO_MAX = 100  # so many bytes for one that is packed,
UNPACKED_BYTES_SURE = 4 * 1024 * 1024  # beyond these
ARCHIVE_MEMBER_BYTES_MAX = 512 * 1024
ARCHIVE_MEMBERS_MAX = 400_000
ARCHIVE_HEADER_BYTES_MAX = 64 * 1024  # of one extended header in it
ARCHIVE_GLOBALS_MAX = 100  # fields that hold for all of its members
INDEX_TEXT_BYTES_MAX = 64 * 1024 * 1024  # of what an index file of Debian names
PUBLISHED_SECONDS_MAX = 6.0  # for the package file of a followed name
PUBLISHED_BYTES_MAX = 64 * 1024 * 1024  # of an archive that is read for an index
METADATA_REMEMBERED_MAX = 256
ZIP_ENTRIES_MAX = 65_535
ZIP_DIRECTORY_BYTES_MAX = 8 * 1024 * 1024
LZMA_MEMORY_BYTES_MAX = 128 * 1024 * 1024
RELAY_BODY_BYTES_MAX = 1024 * 1024

LOCKFILE_BYTES_MAX = 16 * 1024 * 1024
LOCKFILE_ENTRIES_MAX = 50_000
LOCKFILE_LINES_MAX = 200_000  # of what it names, with what is left out of that
SOURCES_REMEMBERED_MAX = 10_000


def unpacked_bytes_max(packed: int) -> int:
    """Return how much an archive of so many bytes may unpack to.

    Reading costs what is unpacked, so its sender has to pay a share of that.
    """
    return min(ARCHIVE_BYTES_MAX, UNPACKED_BYTES_SURE + UNPACKED_RATIO_MAX * packed)
