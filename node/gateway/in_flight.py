"""A file on its way: what all who wait for it share."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from node.gateway import limits
from node.gateway.named_file import NamedFile
from node.gateway.traffic import SourceName
from transfer import Artifact, Digest
from transfer.growing_file import GrowingFile
from transfer.single_flight import Flight


class InFlightFile:
    """One download under way: who names the file, and how far it has come."""

    def __init__(self, digest: Digest, named: Sequence[NamedFile]) -> None:
        self.digest = digest
        self.named = tuple(named)
        self.began = self.now()
        self.bytes_seen = 0
        self.lingers: Flight[object] | None = None
        """The run that goes on for a while without callers, once bytes have come."""
        self.coming: GrowingFile | None = None
        """What the source that came first has sent so far."""
        self.whole: GrowingFile | None = None
        """What has come and was verified, in the very file that is read here."""
        self.source: SourceName = "origin"
        """Where what is coming comes from."""
        self.has_known_size = False
        """Whether more than one peer vouches for the length of what is coming."""
        self.started = asyncio.Event()
        """Set once something can be passed on."""
        self.ready = asyncio.Event()
        """Set once enough of a large file can be passed on."""

    @property
    def size(self) -> int | None:
        """What a page says of its length, in bytes."""
        return next((one.size for one in self.named if one.size), None)

    @staticmethod
    def now() -> float:
        """Return the loop's time, in seconds."""
        return asyncio.get_running_loop().time()

    def left(self, began: float) -> float:
        """Estimate how many seconds what began at a time still takes; 0 if unknown."""
        if not self.size or not self.bytes_seen:
            return 0.0
        elapsed = self.now() - began
        return elapsed * (self.size - self.bytes_seen) / self.bytes_seen

    def seen(self, count: int) -> None:
        """Note that some source has sent `count` bytes in all."""
        self.bytes_seen = max(self.bytes_seen, count)
        if count and self.lingers is not None:
            self.lingers.linger = limits.LINGER_SECONDS

    def progress(
        self,
        coming: GrowingFile,
        length: int,
        *,
        source: SourceName,
        has_known_size: bool,
    ) -> None:
        """Note that a source has sent the first `length` bytes, which may be read."""
        self.seen(length)
        coming.advance(length)
        if self.coming is None or self.coming.ended:
            self.coming, self.source = coming, source
        if self.coming is not coming or not length:
            return
        self.has_known_size = has_known_size
        self.started.set()
        if (
            coming.size >= limits.STREAM_BYTES_MIN
            and length >= limits.STREAM_READY_BYTES
        ):
            self.ready.set()

    def verified(self, coming: GrowingFile, source: SourceName) -> None:
        """Let all of a file be read whose whole is verified, before it is kept.

        Nothing may be written to it any more.
        """
        self.whole = coming
        coming.finish()
        if self.coming is not coming:
            self.coming, self.source = coming, source
        self.has_known_size = True
        self.started.set()
        self.ready.set()

    def streamed(self, waited: float) -> GrowingFile | None:
        """Return what can be passed on to a client that has waited, or None.

        A small file is worth it only where it comes slowly.
        """
        if self.coming is None or not self.coming.length:
            return None
        if self.coming.ended:
            return self.whole
        is_worth_it = self.ready.is_set() or waited >= limits.SLOW_SECONDS
        return self.coming if is_worth_it else None

    async def begun(
        self, task: asyncio.Task[Artifact], *, may_stream: bool
    ) -> GrowingFile | None:
        """Wait until there is something to pass on, or until the download has ended.

        `task` is the download. Returns what can be passed on, or None. Raises
        TimeoutError where nothing comes; where an origin is asked that cannot be: it
        says itself when it gives up.
        """
        began = self.now()
        for event, until in (
            (self.ready, began + limits.SLOW_SECONDS),
            (self.started, self.began + limits.MISS_SECONDS_MAX),
        ):
            seconds = max(0.0, until - self.now())
            await _either(task, event if may_stream else None, seconds)
            coming = self.streamed(self.now() - began) if may_stream else None
            if task.done() or coming is not None:
                return None if task.done() else coming
        if not self.named and not self.bytes_seen:
            raise TimeoutError
        await _either(task, self.started if may_stream else None, None)
        if task.done() or not may_stream:
            return None
        return self.streamed(self.now() - began)


async def _either(
    task: asyncio.Task[Artifact], event: asyncio.Event | None, seconds: float | None
) -> None:
    """Wait for a task, an event or a time, whichever comes first."""
    waits: set[asyncio.Future[object]] = {task}  # type: ignore[arg-type]
    waiter = None if event is None else asyncio.ensure_future(event.wait())
    if waiter is not None:
        waits.add(waiter)  # type: ignore[arg-type]
    try:
        await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        if waiter is not None:
            waiter.cancel()
