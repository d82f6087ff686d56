"""What a package, a version and a file may be called.

Names from a package file become paths, lines on a terminal and keys of the network,
so they are checked once, here, where a package file enters.
"""

from __future__ import annotations

import re

NAME_BYTES_MAX = 128
VERSION_BYTES_MAX = 64
FILE_NAME_BYTES_MAX = 200

_NAME = re.compile(r"@?[A-Za-z0-9][A-Za-z0-9._+-]*(/[A-Za-z0-9][A-Za-z0-9._+-]*)*")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+!~:-]*")
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9 ._+!~@()=,-]*")
_WINDOWS_DEVICE = re.compile(
    r"(con|prn|aux|nul|com[0-9]|lpt[0-9]|conin\$|conout\$)", re.IGNORECASE
)


def is_name(text: str) -> bool:
    """Tell whether `text` can name a package ("numpy", "@scope/name")."""
    return (
        len(text) <= NAME_BYTES_MAX
        and _NAME.fullmatch(text) is not None
        and text.count("/") <= 1
        and ".." not in text
    )


def is_version(text: str) -> bool:
    """Tell whether `text` can be a version ("1.0rc1", "2:4.5-1")."""
    return len(text) <= VERSION_BYTES_MAX and _VERSION.fullmatch(text) is not None


def is_file_name(text: str) -> bool:
    """Tell whether `text` is a plain file name that is safe on every platform.

    No separators, no leading dot, no trailing dot or space, no device names of
    Windows, ASCII only, so that no two names differ only by Unicode form.
    """
    return (
        len(text) <= FILE_NAME_BYTES_MAX
        and _FILE_NAME.fullmatch(text) is not None
        and text[-1] not in ". "
        and _WINDOWS_DEVICE.fullmatch(text.split(".", 1)[0].rstrip()) is None
    )
