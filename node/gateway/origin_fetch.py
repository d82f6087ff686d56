"""One file from its origin: by this node, or by another one of the site for all.

What comes is taken in by one intake, whoever sends it, and verified as a whole. A
sender that fails in the middle is replaced by the next one, which goes on where it
ended. Where what was followed turns out wrong, all is asked of the origin again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from functools import partial
from typing import TypeVar

from node.gateway import limits
from node.gateway.fair_line import CLIENT, FairLine
from node.gateway.in_flight import InFlightFile
from node.gateway.leases import Turn
from node.gateway.named_file import NamedFile
from node.gateway.origin import (
    BrokenOffError,
    NoPartError,
    OriginClient,
    OriginError,
)
from node.gateway.retry import pause_before_retry
from node.gateway.traffic import SourceName
from node.gateway.upstream import Upstream
from transfer import Artifact, Digest, Intake, Peer, PeerError, Store, WrongBytesError
from transfer.growing_file import GrowingFile

log = logging.getLogger(__name__)

T = TypeVar("T")


class OriginFetch:
    """Brings one file from one origin; `gave` says in the end who gave the bytes."""

    def __init__(
        self,
        *,
        store: Store,
        client: OriginClient,
        upstream: Upstream,
        file: InFlightFile,
        named: NamedFile,
        before_commit: Callable[[Digest], None],
        line: FairLine,
    ) -> None:
        """`before_commit` is told the name of the verified file."""
        self._line = line
        self._store = store
        self._client = client
        self._upstream = upstream
        self._file = file
        self._named = named
        self._before_commit = before_commit
        self.gave: str = named.upstream

    async def alone(self) -> Artifact:
        """Ask the origin; raises OriginError or TransferError.

        A short file, one whose origin said no length, or one that was put together of
        several answers, is asked for once more where it is wrong: an answer may have
        been another's, or cut off.
        """
        for is_last in (False, True):
            with self._new_intake() as intake:
                try:
                    answers = await self._download(intake)
                    return await self._commit(intake)
                except WrongBytesError as error:
                    is_doubtful = (
                        answers > 1
                        or intake.length <= limits.PART_BYTES_MAX
                        or not intake.has_size
                    )
                    if is_last or not is_doubtful:
                        raise
                    log.info("%s is asked for anew: %s", self._named.file, error)
            await asyncio.sleep(limits.WRONG_PAUSE_SECONDS)
        raise OriginError("it was not asked")

    async def together(self, turn: Turn) -> Artifact:
        """Follow whoever holds the lease, or hold it and ask the origin.

        Raises OriginError or TransferError.
        """
        followed: list[Peer] = []
        try:
            with self._new_intake(turn.begin) as intake:
                if not await self._follow(intake, turn, followed):
                    await self._download(intake)
                artifact = await self._commit(intake)
        except WrongBytesError:
            if not followed and intake.length > limits.PART_BYTES_MAX:
                raise
            # Which of them lied cannot be said: the whole is wrong, not a part.
            for peer in followed:
                turn.leases.distrust(peer)
            self.gave = self._named.upstream
            return await self.alone()
        if followed:
            self.gave = str(followed[-1])
        return artifact

    def _new_intake(
        self, on_begin: Callable[[GrowingFile], None] | None = None
    ) -> OriginIntake:
        expected = {self._named.strong, self._file.digest}
        return OriginIntake(self._store, self._file, expected, on_begin=on_begin)

    async def _follow(
        self,
        intake: OriginIntake,
        turn: Turn,
        followed: list[Peer],
    ) -> bool:
        """Take in what other nodes give; False where the origin is to be asked."""
        leases = turn.leases
        failed: Peer | None = None
        while (peer := await turn.leader(failed)) is not None:
            followed.append(peer)
            had = intake.length
            coming = leases.follower.follow(
                peer, turn.kind, turn.name, start=intake.length
            )
            try:
                await intake.follow(coming)
            except (PeerError, OSError) as error:
                log.info("%s was followed in vain: %s", peer, error)
                leases.counts["failed"] += 1
                failed = peer
                # Who gave nothing has not spoilt the whole either.
                if intake.length == had:
                    followed.pop()
            else:
                leases.counts["followed"] += 1
                return True
        intake.lead()
        return False

    async def _commit(self, intake: OriginIntake) -> Artifact:
        name = await intake.verify()
        # Before the commit, which asks whether others may read the file.
        self._before_commit(name)
        # Clients need not wait for disks: what is verified may leave.
        intake.finish()
        return await in_thread(intake.opened.commit)

    async def _download(self, intake: OriginIntake) -> int:
        """Download, going on from what has come where the origin fails for a moment.

        Returns of how many answers it was put together.
        """
        attempt, answers = 0, 0
        sends_parts = True
        while True:
            had = intake.length
            attempt += 1
            start = had if sends_parts else 0
            try:
                async with (
                    self._line.turn(CLIENT.get()),
                    self._client.file(self._upstream, self._named.url, start) as reply,
                ):
                    await intake.receive(
                        reply.parts(), start=reply.start, size=reply.size
                    )
                    if reply.size is not None and intake.length < reply.size:
                        raise BrokenOffError("it ended early")
            except OriginError as error:
                wait = pause_before_retry(error, attempt)
                if intake.length > had:
                    answers, attempt = answers + 1, 1
                    # What makes progress is not given up.
                    wait = limits.RESUME_PAUSE_SECONDS
                elif isinstance(error, NoPartError) and sends_parts:
                    sends_parts, wait = False, 0.0
                if wait is None or attempt >= limits.ORIGIN_ATTEMPTS:
                    raise
                log.info("%s is asked for again: %s", self._named.file, error)
                await asyncio.sleep(wait)
            else:
                return answers + 1


class OriginIntake:
    """A file that comes from an origin, in one piece or several; a context manager."""

    def __init__(
        self,
        store: Store,
        file: InFlightFile,
        expected: set[Digest],
        *,
        on_begin: Callable[[GrowingFile], None] | None = None,
    ) -> None:
        """`on_begin` gets the growing file where others may follow it."""
        self._store = store
        self._file = file
        self._expected = expected
        self._on_begin = on_begin
        self._intake: Intake | None = None
        self._is_entered = False
        self._coming: GrowingFile | None = None
        self._source: SourceName = "origin"
        self._size: int | None = None
        self._leads = False

    def __enter__(self) -> OriginIntake:
        return self

    def __exit__(self, *_error: object) -> None:
        """Let go of the file; what was not committed is gone."""
        if self._coming is not None:
            self._coming.fail()
        if self._intake is not None:
            self._intake.__exit__(None, None, None)

    @property
    def length(self) -> int:
        """How many bytes have come."""
        return 0 if self._intake is None else self._intake.length

    @property
    def has_size(self) -> bool:
        """Whether the sender has said how long the file is."""
        return self._coming is not None

    @property
    def opened(self) -> Intake:
        """Where the bytes are; only once some have come."""
        if self._intake is None:
            raise OriginError("it sent nothing")
        return self._intake

    def lead(self) -> None:
        """Let others follow what comes from now on."""
        self._leads = True
        if self._coming is not None and self._on_begin is not None:
            self._on_begin(self._coming)

    async def receive(
        self, parts: AsyncIterator[bytes], *, start: int, size: int | None
    ) -> None:
        """Take in what an origin sends; OriginError, TransferError."""
        self._open(size)
        skip = self.length - start
        if skip < 0:
            raise OriginError("it sent another part than was asked for")
        async for block in _blocks(parts, size):
            fresh, skip = block[skip:], max(0, skip - len(block))
            if fresh:
                await self._write(fresh, "origin", has_known_size=True)

    async def follow(
        self, coming: AsyncGenerator[tuple[bytes, int | None], None]
    ) -> None:
        """Take in what another node passes on; PeerError, OSError, TransferError."""
        waiting: list[bytes] = []
        count = 0
        async with contextlib.aclosing(coming):
            async for data, size in coming:
                if self._intake is None:
                    self._open(size)
                waiting.append(data)
                count += len(data)
                if count >= limits.WRITE_BYTES // 4 or not self._file.bytes_seen:
                    await self._write_followed(b"".join(waiting), size)
                    waiting, count = [], 0
        if waiting:
            await self._write_followed(b"".join(waiting), size)
        if self._intake is None:
            self._open(0)

    async def _write_followed(self, data: bytes, size: int | None) -> None:
        # As with peers: nothing is passed on whose length the index did not name.
        is_known = size is not None and size == self._file.size
        await self._write(data, "peers", has_known_size=is_known)

    async def _write(
        self, data: bytes, source: SourceName, *, has_known_size: bool
    ) -> None:
        intake = self.opened
        await in_thread(partial(self._write_in, intake, data))
        self._source = source
        self._file.seen(intake.length)
        if self._coming is None and self._size:
            self._coming = GrowingFile(intake.descriptor, self._size)
            if self._on_begin is not None and self._leads:
                self._on_begin(self._coming)
        if self._coming is None:
            return
        if source == "origin" or has_known_size:
            self._file.progress(
                self._coming,
                intake.length,
                source=source,
                has_known_size=has_known_size,
            )

    def _write_in(self, intake: Intake, data: bytes) -> None:
        """Write, and open the file before: one step of a thread less. Blocks."""
        if not self._is_entered:
            intake.__enter__()
            self._is_entered = True
        if data:
            intake.write(data)

    def _open(self, size: int | None) -> None:
        if self._intake is not None:
            return
        if size is not None and size > limits.FILE_BYTES_MAX:
            raise OriginError("the file is too large")
        self._size = size
        self._intake = Intake(self._store, self._expected, size)

    async def verify(self) -> Digest:
        """Verify the whole and return its name; TransferError."""
        intake = self.opened

        def verify() -> Digest:
            self._write_in(intake, b"")
            return intake.verify()

        return await in_thread(verify)

    def finish(self) -> None:
        """Let all of it be read: it was verified."""
        if self._coming is not None:
            self._file.verified(self._coming, self._source)


async def _blocks(
    parts: AsyncIterator[bytes], size: int | None
) -> AsyncIterator[bytes]:
    """Join small parts into blocks that are worth a thread's while.

    The first part of a long file is a block of its own, and no part waits for long:
    others may follow. A short file that comes at once is one block. Where the parts
    end with an error, what came before it is yielded first.
    """
    waiting: list[bytes] = []
    count = 0
    failed: OriginError | None = None
    loop, due_at = asyncio.get_running_loop(), 0.0
    if size is not None and size < limits.WRITE_BYTES // 4:
        due_at = loop.time() + limits.BLOCK_SECONDS_MAX
    try:
        async for part in parts:
            waiting.append(part)
            count += len(part)
            if count >= limits.WRITE_BYTES // 4 or loop.time() >= due_at:
                yield b"".join(waiting)
                waiting, count = [], 0
                due_at = loop.time() + limits.BLOCK_SECONDS_MAX
    except OriginError as error:
        failed = error
    if waiting:
        yield b"".join(waiting)
    if failed is not None:
        raise failed


async def in_thread(work: Callable[[], T]) -> T:
    """Do `work` in a thread, and do not leave before it has ended."""
    future = asyncio.get_running_loop().run_in_executor(None, work)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        await asyncio.wait({future})
        raise
