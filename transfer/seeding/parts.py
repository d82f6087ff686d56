"""What an answer of a seeder consists of: frames, and bytes of files behind them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transfer.seeding.served_files import ServedFile


@dataclass(frozen=True, slots=True)
class FilePart:
    """Bytes of a file that are to be sent."""

    file: ServedFile
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class HeadPart:
    """A frame whose payload follows at once."""

    frame: bytes


Part = bytes | memoryview | HeadPart | FilePart


def rest_of(part: Part, sent: int) -> Part | None:
    """Return what is left of a part, or None."""
    match part:
        case FilePart(file, offset, length):
            if sent == length:
                return None
            return FilePart(file, offset + sent, length - sent)
        case HeadPart(frame):
            return HeadPart(frame[sent:]) if sent < len(frame) else None
        case _:
            return part[sent:] if sent < len(part) else None
