"""Putting one artifact together: which chunks are held, where, and when it is whole.

Peers join the plan of the manifest that they name, are asked for what it lacks, and
what they send is written to the file that needs it. Which manifests there are and
which one leads is the business of `contenders`; its lock guards all plans, and is
held for decisions, never for I/O. What blocks says so and belongs in a thread.
"""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING

from transfer.errors import FalseManifestError, StoreError
from transfer.growing_file import SizeEvidence
from transfer.leeching.contender import ChunkClaim
from transfer.leeching.contenders import Contenders, Whole
from transfer.leeching.outcome import Settlement
from transfer.leeching.picker import PeerState
from transfer.leeching.prefix import PrefixHasher
from transfer.limits import KEPT_BYTES_MIN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from transfer.connection.peer import Peer
    from transfer.content.manifest import Manifest
    from transfer.leeching.context import LeecherContext
    from transfer.leeching.wanted import Wanted
    from transfer.store.partial import Partial


class Assembly:
    """The chunks of one download, from the first to the verified whole."""

    def __init__(
        self,
        context: LeecherContext,
        wanted: Wanted,
        *,
        on_hashed: Callable[[PrefixHasher, Whole], None],
        on_rival_whole: Callable[[], None],
    ) -> None:
        """Start empty; both callbacks are called in any thread."""
        self.over = threading.Event()
        """Set once nothing more is to be received."""
        self.bytes_at = time.monotonic()
        """When bytes of chunks came last."""
        self.bytes_received = 0
        self._context = context
        self._on_rival_whole = on_rival_whole
        self._contenders = Contenders(
            context, wanted, over=self.over, on_hashed=on_hashed
        )

    # Manifests.

    @property
    def manifest(self) -> Manifest | None:
        """The leading manifest, or None while nobody has named one."""
        lead = self._contenders.lead
        return None if lead is None else lead.manifest

    @property
    def lead_file(self) -> Partial | None:
        """The leading file."""
        lead = self._contenders.lead
        return None if lead is None else lead.partial

    def size_evidence(self) -> SizeEvidence:
        """Return what vouches for the size of the leading manifest."""
        return self._contenders.size_evidence()

    def knows(self, manifest: Manifest) -> bool:
        """Whether a manifest was admitted and is not refuted."""
        return self._contenders.knows(manifest)

    def resume(self) -> bool:
        """Take up what an earlier run left; False if there is nothing. Blocks."""
        return self._contenders.resume()

    def admit(self, manifest: Manifest) -> None:
        """Make room in the plans for a manifest that is new here. Blocks.

        Raises FalseManifestError, FullError or another StoreError.
        """
        self._contenders.admit(manifest)

    def better_lead(self) -> Manifest | None:
        """Return the manifest that should lead instead, or None."""
        return self._contenders.better_lead()

    def promote(self, manifest: Manifest) -> None:
        """Let another manifest lead. Blocks."""
        self._contenders.promote(manifest)

    def settle(self, whole: Whole) -> Settlement:
        """Decide what the hashed whole is, and act on it; raise StoreError. Blocks."""
        return self._contenders.settle(whole)

    def is_followed_by(self, hasher: PrefixHasher) -> bool:
        """Whether this hasher follows the leading file."""
        return hasher is self._contenders.hasher

    def close(self, *, discard: bool) -> None:
        """Close all files; keep what was verified for a later run, or discard it."""
        self._contenders.close(discard=discard)

    # Peers.

    def join(
        self,
        peer: Peer,
        *,
        manifest: Manifest,
        have: bytearray | None,
        round_trip: float,
    ) -> PeerState:
        """Add a peer of an admitted manifest; `have` is None if it has the whole.

        Raises FalseManifestError if the manifest was refuted meanwhile.
        """
        with self._contenders.lock:
            # It may have been refuted since: such a claim must not count again.
            contender = self._contenders.get(manifest.digest)
            if contender is None:
                raise FalseManifestError
            if have is None:
                self._contenders.claims.add(manifest, peer)
            whole = bytearray(b"\x01" * manifest.count) if have is None else have
            state = PeerState(
                source=peer.source,
                manifest=contender.manifest,
                whole=have is None,
                have=whole,
                round_trip=round_trip,
            )
            for index, (source, _) in contender.parts.items():
                if source == peer.source:
                    state.continued.append(index)
            return contender.picker.join(state)

    def leave(self, peer: PeerState) -> None:
        """Remove a peer; what it owes is asked of others."""
        with self._contenders.lock:
            peer.picker.leave(peer)

    def pick(self, peer: PeerState) -> list[int]:
        """Return the chunks to ask of a peer now."""
        with self._contenders.lock:
            return peer.picker.pick(peer, time.monotonic())

    def with_work(self, peers: Iterable[PeerState]) -> list[PeerState]:
        """Return those of the peers that `pick` would give something."""
        now = time.monotonic()
        with self._contenders.lock:
            return [peer for peer in peers if peer.picker.has_work(peer, now)]

    def snub_slow(self, now: float) -> None:
        """Snub the peers that keep their chunks waiting."""
        with self._contenders.lock:
            for contender in self._contenders.all():
                contender.picker.snub_slow(now)

    def update(self, peer: PeerState, have: bytearray | None) -> None:
        """Learn which chunks a peer has by now; None for all."""
        with self._contenders.lock:
            peer.picker.update(peer, have)

    def lacking(self, peer: PeerState, index: int) -> None:
        """Learn that a peer cannot send a chunk that it seemed to have."""
        with self._contenders.lock:
            peer.picker.lacking(peer, index)

    def redirect(self, peer: PeerState, index: int, given: bytearray) -> None:
        """Learn that a seeder sent us to others for a chunk."""
        with self._contenders.lock:
            peer.picker.redirect(peer, index, given)

    def drop_asked(self, peer: PeerState, until: float) -> None:
        """Learn that a peer is busy until then and has dropped what it owed."""
        with self._contenders.lock:
            peer.picker.drop_asked(peer, until)

    def meet_leechers(self) -> None:
        """Learn that others download the same at this time."""
        self._contenders.meet_leechers()

    def prefer_order(self) -> None:
        """Bring lower chunks first from now on."""
        self._contenders.prefer_order()

    # Chunks. All of these block, as far as they write.

    def count_bytes(self, peer: PeerState, count: int) -> None:
        """Count bytes of a chunk that came."""
        now = time.monotonic()
        peer.count_bytes(count, now)
        self.bytes_received += count
        self.bytes_at = max(self.bytes_at, peer.last_bytes)

    def claim(self, peer: PeerState, index: int) -> ChunkClaim | None:
        """Take the right to write a chunk of this peer; None if nobody needs it."""
        with self._contenders.lock:
            home = self._contenders.get(peer.manifest.digest)
            if home is None:
                return None
            # One file for what several manifests name: nothing is written twice, and
            # the digest of the whole follows the leading file.
            lead = self._contenders.lead
            if lead is not None and lead.names_alike(home.manifest, index):
                home = lead
            if not home.picker.claim(index):
                return None
            part = home.parts.pop(index, None)  # it may be written over from now on
            hasher = self._contenders.hasher if home is lead else None
            return ChunkClaim(home, index, hasher, part)

    def write(self, claim: ChunkClaim, offset: int, data: memoryview) -> None:
        """Write bytes of a claimed chunk."""
        claim.home.partial.write(offset, data)

    def unclaim(self, claim: ChunkClaim) -> None:
        """Give a claim back: what was written is not the chunk."""
        with self._contenders.lock:
            claim.home.picker.unclaim(claim.index)

    def part_of(self, peer: PeerState, index: int) -> int:
        """Return how many bytes of a chunk this source sent before it broke off."""
        with self._contenders.lock:
            home = self._contenders.get(peer.manifest.digest)
            part = None if home is None else home.parts.get(index)
            return part[1] if part is not None and part[0] == peer.source else 0

    def read_part(self, peer: PeerState, index: int, view: memoryview) -> bool:
        """Read back such a part; False if it is gone."""
        if self.part_of(peer, index) != len(view):
            return False
        with self._contenders.lock:
            home = self._contenders.get(peer.manifest.digest)
        if home is None:
            return False
        offset = home.manifest.offset(index)
        return os.preadv(home.partial.descriptor, [view], offset) == len(view)

    def save_part(self, peer: PeerState, index: int, data: memoryview) -> None:
        """Keep what came of a chunk, so that its source can go on from there."""
        with self._contenders.lock:
            home = self._contenders.get(peer.manifest.digest)
            if home is None or not home.picker.claim(index):
                return
            part = home.parts.pop(index, None)
        claim = ChunkClaim(home, index, None, part)
        try:
            self.write(claim, home.manifest.offset(index), data)
        except StoreError:
            self.unclaim(claim)
            raise
        self.break_off(claim, peer, len(data))

    def break_off(self, claim: ChunkClaim, peer: PeerState, length: int) -> None:
        """Give back the claim to a chunk of which `length` bytes are written."""
        home, part = claim.home, claim.part
        with self._contenders.lock:
            home.picker.unclaim(claim.index)
            if length >= KEPT_BYTES_MIN and home.manifest is peer.manifest:
                home.parts[claim.index] = peer.source, length
                before = part[1] if part is not None and part[0] == peer.source else 0
                peer.bytes_kept += length - before

    def written(self, claim: ChunkClaim, peer: PeerState) -> None:
        """Count a claimed chunk as held, for every manifest that names it."""
        home, index = claim.home, claim.index
        with self._contenders.lock:
            if not home.picker.written(index):
                return
            # All at once: who sees a chunk in one of these may rely on the others.
            home.held[index] = 1
            peer.bytes_given += home.manifest.length(index)
            home.partial.mark(index)
            others = self._contenders.all() if len(self._contenders.all()) > 1 else ()
            for other in others:
                if other is not home and other.names_alike(home.manifest, index):
                    other.picker.brought_by_rival(index)
            lead = self._contenders.lead
            rival_whole = any(one is not lead and one.picker.complete for one in others)
        # What follows reads and writes files, so not under the lock.
        if lead is not home and lead is not None:
            # It took the lead while this chunk was on its way to the other file.
            self._contenders.copy_missing(lead, index, index + 1)
            with self._contenders.lock:
                lead.plan_lost(())
        if rival_whole:
            self._on_rival_whole()

    def arrived(
        self,
        peer: PeerState,
        index: int,
        *,
        claim: ChunkClaim | None,
        buffered: memoryview | None,
    ) -> None:
        """Note that a peer has sent a chunk; hash it if it was written.

        `buffered` is the chunk, where it lies in this thread's buffer as a whole.
        """
        self.bytes_at = now = time.monotonic()
        self._context.store.activity.mark()
        # Before the whole can be found complete: a connection that owes nothing then
        # is kept for the next download.
        with self._contenders.lock:
            peer.picker.answered(peer, index, now)
        if claim is None:
            return
        if claim.hasher is not None and buffered is not None:
            claim.hasher.feed(peer.manifest.offset(index), buffered)
        self._contenders.advance()

    # Progress.

    def progress(self) -> tuple[int, int, int] | None:
        """Return the bytes held, held from the start on, and in all, of the lead."""
        return self._contenders.progress()

    @property
    def is_complete(self) -> bool:
        """Whether every chunk of the leading manifest is written."""
        lead = self._contenders.lead
        return lead is not None and lead.picker.complete
