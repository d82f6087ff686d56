"""One download: peers come and go until the artifact is whole.

Runs on the event loop; chunks are received in worker threads (receive.py), who
is asked for what is decided by schedule.py. A manifest is a hint until the
whole file has the digest that was asked for.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from typing import TYPE_CHECKING, TypeVar

from transfer.connection import wire
from transfer.connection.peer import Peer
from transfer.connection.peer_exchange import PexHints
from transfer.content.digest import NAME_ALGORITHM, Digest
from transfer.content.hashing import Contents
from transfer.errors import (
    AbsentError,
    BadChunkError,
    FalseManifestError,
    NoPeerError,
    PeerBusyError,
    PeerError,
    PeerRefusedError,
    StoreError,
    WireError,
    WrongBytesError,
)
from transfer.leeching.active_peers import ActivePeers
from transfer.leeching.asking import Asking
from transfer.leeching.assembly import Assembly
from transfer.leeching.chunk_receiver import Outcome
from transfer.leeching.peer_queue import PeerQueue
from transfer.leeching.result import Downloaded, Source

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

    from transfer.content.artifact import Artifact
    from transfer.content.manifest import Manifest
    from transfer.leeching.asking import Offered
    from transfer.leeching.assembly import Whole
    from transfer.leeching.connection_pool import Connection
    from transfer.leeching.context import LeecherContext
    from transfer.leeching.prefix import PrefixHasher

    T = TypeVar("T")
    Progress = Callable[[int, int | None], None]

log = logging.getLogger(__name__)

_TICK_SECONDS = 0.1
_RETRY_SECONDS = 0.2


class Download:
    """One artifact on its way here."""

    def __init__(
        self,
        workshop: LeecherContext,
        digest: Digest,
        *,
        size: int | None,
        size_max: int | None,
        manifest_digest: bytes | None,
    ) -> None:
        self.digest = digest
        self.progress: list[Progress] = []
        self._loop = asyncio.get_running_loop()
        self._workshop = workshop
        self._limits = workshop.limits
        self._asking = Asking(
            digest, size, size_max, manifest_digest, workshop.limits, workshop.port
        )
        self._crowd = PeerQueue(
            workshop.limits, self._attend, self._give_up, self._fail
        )
        own_key = workshop.connections.own_key
        hints = PexHints(self._loop, own_key, self._crowd.hint)
        self._assembly = Assembly(
            workshop.store,
            digest,
            workshop.limits,
            workshop.rate,
            workshop.hash_pool,
            self._hashed_in_thread,
            hints.hear,
        )
        self._outcome: asyncio.Future[Artifact] = self._loop.create_future()
        self._lines = ActivePeers(self._assembly)
        self._given: Counter[Peer] = Counter()
        self._favoured = asyncio.Event()
        self._favour_lock = asyncio.Lock()
        self._lied = self._helped = False
        self._waiting = 0

    def read_in_order(self) -> None:
        """Bring the lower chunks first from now on: somebody reads meanwhile."""
        with self._assembly.lock:
            self._assembly.schedule.prefer_order()

    def distrust(self, peer: Peer) -> None:
        """Ask this peer no more: it was caught with wrong bytes of this."""
        self._lied = True
        with self._assembly.lock:
            lanes = self._assembly.schedule.ban(peer.source)
        self._lines.abort(lanes)

    def add_peers(self, peers: Iterable[Peer] | AsyncIterator[Peer]) -> None:
        """Use these peers as well, as they come."""
        self._crowd.add(peers)

    async def run(self) -> Downloaded:
        """Download; raises NoPeerError, WrongBytesError or StoreError."""
        began = time.monotonic()
        try:
            self._crowd.spawn(self._watch())
            await self._resume()
            artifact = await self._outcome
        finally:
            await self._end()
        self._tell(artifact.size, artifact.size)
        sources = [Source(peer, count) for peer, count in self._given.most_common()]
        return Downloaded(artifact, time.monotonic() - began, sources)

    async def _resume(self) -> None:
        """Take up what an earlier run left, before anybody is asked for a chunk."""
        async with self._favour_lock:
            if self._workshop.store.partials.exists(self.digest):
                self._note_favoured(await self._in_thread(self._assembly.resume))

    async def _end(self) -> None:
        """End all tasks and threads; what is on disk is kept for a later run."""
        won = self._outcome.done() and not self._outcome.cancelled()
        won = won and self._outcome.exception() is None
        self._assembly.over.set()
        await self._crowd.end(self._lines.end(gently=won))
        useless = won or self._assembly.schedule.favoured is None
        if self._assembly.partial is not None:
            await self._in_thread(lambda: self._assembly.close(discard=useless))
        self._outcome.cancel()

    def _fail(self, error: BaseException) -> None:
        if not self._outcome.done():
            self._outcome.set_exception(error)
            self._outcome.exception()  # told also where nobody waits any more

    def _win(self, artifact: Artifact) -> None:
        if not self._outcome.done():
            self._outcome.set_result(artifact)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await self._workshop.in_thread(work, self._assembly.over)

    # Peers.

    async def _attend(self, peer: Peer) -> None:
        """Converse with a peer, again while it fails but was of use."""
        for attempt in range(self._limits.attempts_max):
            before = self._given[peer]
            if await self._try(peer) or self._given[peer] == before:
                return
            await asyncio.sleep(_RETRY_SECONDS * 2**attempt)

    async def _try(self, peer: Peer) -> bool:
        """Converse once; False where that failed and may be tried again."""
        try:
            await self._converse(peer)
        except (BadChunkError, FalseManifestError, WireError) as error:
            self._workshop.bad_peers.note(peer, self.digest, str(error))
            self.distrust(peer)
        except AbsentError:
            self._crowd.later(peer)
        except (PeerError, OSError) as error:
            log.info("%s failed for %s: %s", peer, self.digest, error)
            return False
        return True

    async def _converse(self, peer: Peer) -> None:
        if peer.source in self._assembly.schedule.banned:
            return
        connections = self._workshop.connections
        connection = await self._crowd.opening(connections.open(peer))
        try:
            offered = await self._ask(connection)
            if offered.data is not None:
                in_order = await self._take_whole(offered, offered.data)
            else:
                in_order = await self._exchange(offered)
        except BadChunkError as bad:
            connections.complain(connection, bad.number, bad.index)
            raise
        except BaseException:
            connection.channel.close()
            raise
        if in_order:
            connections.keep(connection)
        else:
            connection.channel.close()

    async def _ask(self, connection: Connection) -> Offered:
        """Ask until the peer is neither busy nor waits for us to know more."""
        for _ in range(self._limits.busy_answers_max):
            try:
                while (offered := await self._asking.ask(connection)) is None:
                    self._assembly.meet_company()
                    await self._wait_for_manifest()
            except PeerBusyError as busy:
                await asyncio.sleep(busy.seconds)
            else:
                return offered
        raise PeerRefusedError("It is always busy.")

    async def _wait_for_manifest(self) -> None:
        """Wait until somebody who vouches for a manifest has named it."""
        self._waiting += 1
        try:
            await self._favoured.wait()
        finally:
            self._waiting -= 1

    def _give_up(self) -> None:
        """Fail, since nobody is left who could send anything."""
        if self._assembly.schedule.complete or self._outcome.done():
            return
        if self._lied and not self._assembly.schedule.bytes_done:
            self._fail(WrongBytesError())
        else:
            self._fail(NoPeerError())

    # Chunks.

    async def _take_whole(self, offered: Offered, data: bytes) -> bool:
        """Take a small artifact that came at once with its manifest."""
        await asyncio.sleep(max(self._workshop.rate.reserve(len(data)), 0.0))
        digests = {
            name: Digest.of(data, name)
            for name in {NAME_ALGORITHM, self.digest.algorithm}
        }
        if digests[self.digest.algorithm] != self.digest:
            raise FalseManifestError
        done = wire.encode(wire.Done(offered.number))
        await offered.connection.channel.write(done)
        async with self._favour_lock:
            if self._outcome.done():
                return True
            contents = Contents(digests, offered.manifest)
            store = self._workshop.store
            artifact = await self._in_thread(lambda: store.add_verified(data, contents))
            self._given[offered.connection.peer] += len(data)
            self._win(artifact)
        return True

    async def _exchange(self, offered: Offered) -> bool:
        """Receive chunks over one connection; whether it is left in order."""
        await self._ensure_favoured(offered.manifest)
        line = self._assembly.join(offered)
        self._lines.add(line)
        self._open_second_lane(offered)
        reception = self._assembly.reception()
        try:
            while not self._assembly.over.is_set():
                outcome = await self._in_thread(lambda: reception.work(line))
                if outcome is Outcome.OVER:
                    break
                await self._lines.pause(line)
            in_order = not line.lane.asked
        finally:
            self._lines.remove(line)
            with self._assembly.lock:
                self._assembly.schedule.leave(line.lane)
            self._given[offered.connection.peer] += line.lane.bytes_given
            self._lines.wake_idle()
        if in_order:
            done = wire.encode(wire.Done(line.number))
            await line.connection.channel.write(done)
        return in_order

    async def _ensure_favoured(self, manifest: Manifest) -> None:
        async with self._favour_lock:
            if self._assembly.schedule.favoured is None:
                if manifest.digest in self._assembly.schedule.false:
                    raise FalseManifestError
                await self._in_thread(lambda: self._assembly.favour(manifest))
                self._note_favoured(manifest)

    def _note_favoured(self, manifest: Manifest | None) -> None:
        self._asking.manifest = manifest
        if manifest is None:
            self._favoured.clear()
        else:
            self._favoured.set()
            self._lines.wake_idle()

    def _open_second_lane(self, offered: Offered) -> None:
        """Use a lone peer over two connections, so that two threads hash."""
        manifest = offered.manifest
        if (
            len(self._lines) < self._limits.lanes_per_lone_peer
            and offered.have is None
            and manifest.size >= self._limits.second_lane_bytes_min
            and not self._crowd.has_queue
            and self._crowd.attending == len(self._lines)
        ):
            self._crowd.again(offered.connection.peer)

    def _help_lone_giver(self, now: float, done: int) -> None:
        """Open a second lane to who alone sends, among others that only sit there."""
        line = self._lines.lone_giver(now)
        enough = done >= self._limits.second_lane_bytes_min
        if line is not None and line.lane.whole and enough and not self._helped:
            self._helped = True
            self._crowd.again(line.connection.peer)

    async def _watch(self) -> None:
        """Notice who is slow, who has nothing to do, and when nothing moves."""
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            now = time.monotonic()
            assembly = self._assembly
            with assembly.lock:
                assembly.schedule.reclaim(now)
                stuck = assembly.schedule.is_stuck(now)
                done = assembly.schedule.bytes_done
                favoured = assembly.schedule.favoured
                moved_on = assembly.schedule.candidate(now) if stuck else None
            if moved_on is not None:
                await self._switch(moved_on)
            self._lines.wake_idle()
            if favoured is not None:
                self._tell(done, favoured.size)
                self._help_lone_giver(now, done)
            self._give_up_if_stalled(now)

    def _give_up_if_stalled(self, now: float) -> None:
        """Fail where peers are there, but nothing comes of it."""
        schedule, limits = self._assembly.schedule, self._limits
        idle = now - max(self._assembly.chunk_at, self._crowd.met_at)
        if schedule.complete or self._crowd.gathering:
            return
        if self._lines and idle > limits.stall_seconds:
            self._fail(NoPeerError("The peers that offer this stopped sending."))
        only_waiting = 0 < self._waiting == self._crowd.attending
        if only_waiting and idle > limits.vouching_seconds:
            self._fail(NoPeerError("Nobody who could be reached has all of it."))

    def _tell(self, done: int, total: int) -> None:
        for progress in self.progress:
            progress(done, total)

    # The whole.

    def _hashed_in_thread(self, hasher: PrefixHasher, whole: Whole) -> None:
        self._loop.call_soon_threadsafe(self._hashed, hasher, whole)

    def _hashed(self, hasher: PrefixHasher, whole: Whole) -> None:
        if hasher is self._assembly.hasher and not self._outcome.done():
            self._crowd.spawn(self._settle(whole))

    async def _settle(self, whole: Whole) -> None:
        """Commit the file, or find out who is to blame."""
        if isinstance(whole, OSError):
            raise StoreError(f"The download cannot be read back: {whole}.") from whole
        async with self._favour_lock:
            if self._outcome.done():
                return
            if whole[self.digest.algorithm] == self.digest:
                artifact = await self._in_thread(lambda: self._assembly.commit(whole))
                self._win(artifact)
                return
            if not await self._in_thread(self._assembly.recheck):
                self._after_setback()
                return
        self._lied = True
        log.warning("a manifest of %s was false", self.digest)
        liars = self._assembly.reject()
        for peer in self._lines.peers(lane for lane in liars if lane.whole):
            why = str(FalseManifestError())
            self._workshop.bad_peers.note(peer, self.digest, why)
        await self._switch(self._assembly.next_manifest())
        self._lines.abort(liars)
        self._after_setback()

    def _after_setback(self) -> None:
        """Go on with who is left, if anybody is."""
        self._lines.wake_idle()
        if self._crowd.is_deserted:
            self._give_up()

    async def _switch(self, manifest: Manifest | None) -> None:
        async with self._favour_lock:
            if manifest is not None:
                await self._in_thread(lambda: self._assembly.favour(manifest))
            self._note_favoured(manifest)
