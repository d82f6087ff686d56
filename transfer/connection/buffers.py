"""Memory that chunks are received into; its pages are used over and over.

A thread has one buffer. It may part with it, so that another thread can go on
with the bytes in it, and gets another one then; how many may be out like that
is bounded for the whole process.
"""

from __future__ import annotations

import threading
from collections import deque

from transfer.limits import BUFFER_BYTES

PART_BYTES = 256 * 1024
"""As much as is read at once to be sent on: a second-level cache holds it."""

_OUT_MAX = 8

_own = threading.local()
_spare: deque[bytearray] = deque()
_out = threading.BoundedSemaphore(_OUT_MAX)


def own_buffer() -> memoryview:
    """Return this thread's buffer of `BUFFER_BYTES`."""
    view: memoryview | None = getattr(_own, "view", None)
    if view is None:
        try:
            view = memoryview(_spare.pop())
        except IndexError:
            view = memoryview(bytearray(BUFFER_BYTES))
        _own.view = view
    return view


def part_with_buffer() -> bool:
    """Part with this thread's buffer; False where too many are out already."""
    if not _out.acquire(blocking=False):
        return False
    _own.view = None
    return True


def return_buffer(part: memoryview) -> None:
    """Take back a buffer that a thread parted with, given any part of it."""
    buffer = part.obj
    if isinstance(buffer, bytearray):
        _spare.append(buffer)
    _out.release()
