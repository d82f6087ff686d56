"""The resolver: a file by its digest, from the store, from peers or from its origin.

Peers have a short head start; after it the origin runs beside them, and the first to
deliver wins. Whatever the source, nothing counts before its digest holds. All who ask
for one file share one download.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from node.errors import NodeError
from node.gateway import limits
from node.gateway.bounded import RecentKeys
from node.gateway.in_flight import InFlightFile
from node.gateway.named_file import NamedFile
from node.gateway.origin import MissingError, OriginError
from node.gateway.sources import SourceError, Sources
from transfer import Artifact, ClosedError, Digest, Store, TransferError
from transfer.growing_file import GrowingFile
from transfer.single_flight import Flight, SingleFlight

log = logging.getLogger(__name__)

Key = tuple[Digest, bool]


class MissError(NodeError):
    """Neither the peers nor the origin can give this now."""

    exit_code = 4

    def __init__(self, message: str, cause: OriginError | None = None) -> None:
        super().__init__(message)
        self.cause = cause
        """What the origin answered, where it was asked."""


class StreamedFile:
    """A file of which enough has come to begin passing it on; close it."""

    def __init__(
        self, file: InFlightFile, coming: GrowingFile, flight: Flight[Artifact]
    ) -> None:
        self.coming = coming
        self.size = coming.size if file.has_known_size else None
        """How long it is; None where one peer alone says so."""
        self.source = file.source
        """Where it comes from."""
        self.strong = file.digest
        """What the whole must have; the last bytes are held back until it has."""
        self._file = file
        self._flight = flight
        flight.join()

    @property
    def is_verified(self) -> bool:
        """Whether the whole has come and has its digest; it may not be kept yet."""
        return self._file.whole is self.coming

    async def settled(self) -> bool:
        """Wait until that is so, or the download has ended otherwise; tell which."""
        ended = asyncio.ensure_future(self.coming.wait_end())
        try:
            await asyncio.wait(
                {ended, self._flight.task}, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            ended.cancel()
        return self.is_verified

    async def whole(self) -> Artifact:
        """Wait for the verified whole; raises MissError."""
        return await outcome(self._flight)

    def read(self, most: int) -> bytes:
        """Return all of a file that is verified; MissError for more than `most`."""
        size = self.coming.size
        data = self.coming.read(0, size) if size <= most else b""
        if not self.is_verified or len(data) != size:
            raise MissError("the file is too long, or became shorter")
        return data

    def close(self) -> None:
        """Say that nobody here waits for it any more."""
        self._flight.leave()


class Resolver:
    """Brings files by their digests."""

    def __init__(
        self,
        store: Store,
        sources: Sources,
        *,
        stream: bool,
        keep: Callable[[Artifact, Sequence[NamedFile]], None],
    ) -> None:
        self._store = store
        self._sources = sources
        self._stream = stream
        self._keep = keep
        self._flights: SingleFlight[Key, Artifact] = SingleFlight()
        self._files: dict[Key, InFlightFile] = {}
        self._missed: RecentKeys[Key] = RecentKeys(limits.MISS_REMEMBERED_SECONDS)

    async def resolve(
        self, digest: Digest, named: Sequence[NamedFile] = ()
    ) -> Artifact:
        """Return the artifact that `digest` names, verified; MissError."""
        found = await self._open(digest, named, may_stream=False)
        if isinstance(found, StreamedFile):
            raise MissError("a stream was not asked for")
        return found

    async def open(
        self, digest: Digest, named: Sequence[NamedFile] = ()
    ) -> Artifact | StreamedFile:
        """Return the artifact, or a large one while it still comes in; MissError."""
        return await self._open(digest, named, may_stream=self._stream)

    async def read(self, digest: Digest, named: Sequence[NamedFile]) -> bytes:
        """Return the bytes of a small file, once they are verified.

        Raises MissError or TransferError.
        """
        found = await self._open(digest, named, may_stream=True)
        if isinstance(found, StreamedFile):
            try:
                if await found.settled():
                    return found.read(limits.METADATA_BYTES_MAX)
                found_whole = await found.whole()
            finally:
                found.close()
        else:
            found_whole = found
        return await asyncio.to_thread(self._store.read, found_whole)

    async def held(self, digest: Digest) -> Artifact | None:
        """Return the artifact if it is in the store."""
        return await self._store.find_soon(digest)

    async def close(self) -> None:
        """Cancel every download."""
        await self._flights.close()

    # --- one request ---------------------------------------------------------------

    async def _open(
        self, digest: Digest, named: Sequence[NamedFile], *, may_stream: bool
    ) -> Artifact | StreamedFile:
        if (held := await self._store.find_soon(digest)) is not None:
            if named:
                self._keep(held, named)
            return held
        strong = named[0].strong if named else digest
        if (held := await self._store.find_soon(strong)) is not None:
            return await self._checked(held, digest, named)
        # Whether a weak digest is right shows only in the whole.
        may_stream = may_stream and digest == strong
        file, flight = self._flight(strong, named)
        try:
            coming = await file.begun(flight.task, may_stream=may_stream)
            if coming is not None:
                return StreamedFile(file, coming, flight)
            artifact = await outcome(flight)
        except TimeoutError as error:
            raise MissError(
                f"no peer started sending {strong} within "
                f"{limits.MISS_SECONDS_MAX:.0f} s"
            ) from error
        finally:
            flight.leave()
        return await self._checked(artifact, digest, named)

    async def _checked(
        self, artifact: Artifact, digest: Digest, named: Sequence[NamedFile]
    ) -> Artifact:
        """Return the artifact if the digest that was asked for is its own too.

        A page may name a weak digest beside a strong one; that they belong to one
        file is only its word until the bytes have been hashed here.
        """
        if digest != artifact.digest and digest not in artifact.digests:
            try:
                artifact = await asyncio.to_thread(
                    self._store.with_aliases, artifact.digest
                )
            except TransferError as error:
                raise MissError(str(error)) from error
            if digest not in artifact.digests:
                raise MissError(f"{digest} belongs to another file than it was named")
        if named:
            self._keep(artifact, named)
        return artifact

    # --- downloads under way ---------------------------------------------------------

    def _flight(
        self, digest: Digest, named: Sequence[NamedFile]
    ) -> tuple[InFlightFile, Flight[Artifact]]:
        """Return the download of `digest`, a new one where there is none."""
        key = (digest, bool(named))
        if not named and self._flights.get((digest, True)) is not None:
            key = (digest, True)  # one that has an origin serves these callers as well
        if self._flights.get(key) is None:
            self._check_may_begin(key)
            self._files[key] = InFlightFile(digest, named)
        file = self._files[key]
        flight = self._flights.join(key, lambda: self._bring(key, file))
        file.lingers = flight  # type: ignore[assignment] # it only says how long
        return file, flight

    def _check_may_begin(self, key: Key) -> None:
        now = InFlightFile.now()
        if self._missed.has(key, now):
            raise MissError(f"{key[0]} was not to be had a moment ago")
        if len(self._flights) >= limits.DOWNLOADS_MAX:
            raise MissError(
                f"{limits.DOWNLOADS_MAX} downloads are under way; try again later"
            )

    async def _bring(self, key: Key, file: InFlightFile) -> Artifact:
        try:
            artifact = await self._sources.race(file)
        except SourceError as error:
            log.info("%s is not to be had: %s", file.digest, error)
            # A failure that may pass is not remembered: the next client asks again.
            if error.cause is None or isinstance(error.cause, MissingError):
                self._missed.add(key, file.now())
            raise
        finally:
            if self._files.get(key) is file:
                del self._files[key]
        self._keep(artifact, file.named)
        return artifact


async def outcome(flight: Flight[Artifact]) -> Artifact:
    """Return what a download gives once it has ended; MissError."""
    try:
        return await flight.result()
    except SourceError as error:
        raise MissError(str(error), error.cause) from error
    except ClosedError as error:
        raise MissError("the node is stopping") from error
