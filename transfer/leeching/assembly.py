"""Putting one artifact together: which chunks are held, where, and when it is whole.

Every manifest that somebody vouches for is a `Contender` with a plan (`picker`) and a
file of its own; one of them leads (`manifests` says which). Its file is the one that
is passed on, hashed as it grows, and resumed. A chunk that the leading manifest names
as well goes into the leading file only: the others count it as done, and it is copied
when another one takes the lead. So leading can change, and a false manifest can be
refuted, without anything being fetched again.

The lock guards all plans and which one leads; it is held for decisions, never for
I/O. `admit`, `promote` and `settle` change the contenders: their caller runs one of
them at a time. What blocks says so and belongs in a thread.
"""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING

from transfer.content.digest import NAME_ALGORITHM, Digest
from transfer.content.hashing import Contents
from transfer.errors import FalseManifestError, StoreError
from transfer.growing_file import SizeEvidence
from transfer.leeching.contender import ChunkClaim, Contender, held_for, owed_by
from transfer.leeching.manifests import Claims
from transfer.leeching.outcome import Settlement, WholeVerdict
from transfer.leeching.picker import ChunkPicker, PeerState
from transfer.leeching.prefix import PrefixHasher
from transfer.limits import KEPT_BYTES_MIN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from transfer.connection.peer import Peer
    from transfer.content.artifact import Artifact
    from transfer.content.manifest import Manifest
    from transfer.leeching.context import LeecherContext
    from transfer.leeching.wanted import Wanted
    from transfer.store.partial import Partial

Whole = dict[str, Digest] | OSError


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
        self._wanted = wanted
        self._on_hashed = on_hashed
        self._on_rival_whole = on_rival_whole
        self._lock = threading.Lock()
        self._claims = Claims(wanted)
        self._contenders: dict[bytes, Contender] = {}
        self._lead: Contender | None = None
        self._refuted: Contender | None = None
        """The last refuted one: most of its chunks may be right all the same."""
        self._hasher: PrefixHasher | None = None
        self._prefix = 0
        self._in_order = self._others_download = False

    # Manifests.

    @property
    def manifest(self) -> Manifest | None:
        """The leading manifest, or None while nobody has named one."""
        lead = self._lead
        return None if lead is None else lead.manifest

    @property
    def lead_file(self) -> Partial | None:
        """The leading file."""
        lead = self._lead
        return None if lead is None else lead.partial

    def size_evidence(self) -> SizeEvidence:
        """Return what vouches for the size of the leading manifest."""
        with self._lock:
            if self._lead is None:
                return SizeEvidence.UNCONFIRMED
            return self._claims.size_evidence(self._lead.manifest)

    def check(self, manifest: Manifest) -> None:
        """Raise FalseManifestError for a refuted manifest, FullError for a giant.

        Nothing is evicted for a size that is only claimed: room is made when the
        verified whole is committed.
        """
        with self._lock:
            self._claims.check(manifest)
        self._context.store.room.check(manifest.size)

    def knows(self, manifest: Manifest) -> bool:
        """Whether a manifest was admitted and is not refuted."""
        return manifest.digest in self._contenders

    def resume(self) -> bool:
        """Take up what an earlier run left; False if there is nothing. Blocks."""
        partials = self._context.store.partials
        if not partials.exists(self._wanted.digest):
            return False
        partial = partials.begin(self._wanted.digest)
        found = partial.resume(self.over)
        if not found or partial.manifest is None or not self._fits(partial.manifest):
            partials.end(partial, discard=True)
            return False
        self._claims.add(partial.manifest, None)
        self._set_lead(self._contender(partial.manifest, partial, partial.verified()))
        return True

    def _fits(self, manifest: Manifest) -> bool:
        """Whether what the caller knows allows a manifest of an earlier run."""
        try:
            self._wanted.believable(manifest.encode())
        except FalseManifestError:
            return False
        return True

    def admit(self, manifest: Manifest) -> None:
        """Make room in the plans for a manifest that is new here. Blocks.

        Raises FalseManifestError, FullError or another StoreError.
        """
        self.check(manifest)
        if manifest.digest in self._contenders:
            return
        partials, refuted = self._context.store.partials, self._refuted
        is_first = self._lead is None and refuted is None
        partial = partials.begin(self._wanted.digest, rival=not is_first)
        partial.adopt(manifest)
        contender = self._contender(manifest, partial, partial.verified())
        if self._lead is None:
            if refuted is not None:
                partials.swap(refuted.partial, partial)
                self._copy_missing(contender)
                self._drop_refuted()
            partial.save_manifest()
            self._set_lead(contender)

    def _contender(
        self, manifest: Manifest, partial: Partial, held: bytearray
    ) -> Contender:
        picker = ChunkPicker(manifest, self._context.limits, done=held)
        contender = Contender(manifest, picker, partial, held)
        if self._in_order:
            picker.prefer_order()
        if self._others_download:
            picker.meet_leechers()
        with self._lock:
            picker.reset(held_for(contender, self._contenders.values()))
            self._contenders[manifest.digest] = contender
            if len(self._contenders) > 1:
                for one in self._contenders.values():
                    one.picker.owed_to_rival = owed_by(one, self._contenders)
        return contender

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
        with self._lock:
            # It may have been refuted since: such a claim must not count again.
            contender = self._contenders.get(manifest.digest)
            if contender is None:
                raise FalseManifestError
            if have is None:
                self._claims.add(manifest, peer)
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
        with self._lock:
            peer.picker.leave(peer)

    def pick(self, peer: PeerState) -> list[int]:
        """Return the chunks to ask of a peer now."""
        with self._lock:
            return peer.picker.pick(peer, time.monotonic())

    def with_work(self, peers: Iterable[PeerState]) -> list[PeerState]:
        """Return those of the peers that `pick` would give something."""
        now = time.monotonic()
        with self._lock:
            return [peer for peer in peers if peer.picker.has_work(peer, now)]

    def snub_slow(self, now: float) -> None:
        """Snub the peers that keep their chunks waiting."""
        with self._lock:
            for contender in self._contenders.values():
                contender.picker.snub_slow(now)

    def update(self, peer: PeerState, have: bytearray | None) -> None:
        """Learn which chunks a peer has by now; None for all."""
        with self._lock:
            peer.picker.update(peer, have)

    def lacking(self, peer: PeerState, index: int) -> None:
        """Learn that a peer cannot send a chunk that it seemed to have."""
        with self._lock:
            peer.picker.lacking(peer, index)

    def redirect(self, peer: PeerState, index: int, given: bytearray) -> None:
        """Learn that a seeder sent us to others for a chunk."""
        with self._lock:
            peer.picker.redirect(peer, index, given)

    def drop_asked(self, peer: PeerState, until: float) -> None:
        """Learn that a peer is busy until then and has dropped what it owed."""
        with self._lock:
            peer.picker.drop_asked(peer, until)

    def meet_leechers(self) -> None:
        """Learn that others download the same at this time."""
        with self._lock:
            self._others_download = True
            for contender in self._contenders.values():
                contender.picker.meet_leechers()

    def prefer_order(self) -> None:
        """Bring lower chunks first from now on."""
        with self._lock:
            self._in_order = True
            for contender in self._contenders.values():
                contender.picker.prefer_order()

    # Chunks. All of these block, as far as they write.

    def count_bytes(self, peer: PeerState, count: int) -> None:
        """Count bytes of a chunk that came."""
        now = time.monotonic()
        peer.count_bytes(count, now)
        self.bytes_received += count
        self.bytes_at = max(self.bytes_at, peer.last_bytes)

    def claim(self, peer: PeerState, index: int) -> ChunkClaim | None:
        """Take the right to write a chunk of this peer; None if nobody needs it."""
        with self._lock:
            home = self._contenders.get(peer.manifest.digest)
            if home is None:
                return None
            # One file for what several manifests name: nothing is written twice, and
            # the digest of the whole follows the leading file.
            lead = self._lead
            if lead is not None and lead.names_alike(home.manifest, index):
                home = lead
            if not home.picker.claim(index):
                return None
            part = home.parts.pop(index, None)  # it may be written over from now on
            hasher = self._hasher if home is lead else None
            return ChunkClaim(home, index, hasher, part)

    def write(self, claim: ChunkClaim, offset: int, data: memoryview) -> None:
        """Write bytes of a claimed chunk."""
        claim.home.partial.write(offset, data)

    def unclaim(self, claim: ChunkClaim) -> None:
        """Give a claim back: what was written is not the chunk."""
        with self._lock:
            claim.home.picker.unclaim(claim.index)

    def part_of(self, peer: PeerState, index: int) -> int:
        """Return how many bytes of a chunk this source sent before it broke off."""
        with self._lock:
            home = self._contenders.get(peer.manifest.digest)
            part = None if home is None else home.parts.get(index)
            return part[1] if part is not None and part[0] == peer.source else 0

    def read_part(self, peer: PeerState, index: int, view: memoryview) -> bool:
        """Read back such a part; False if it is gone."""
        if self.part_of(peer, index) != len(view):
            return False
        home = self._contenders[peer.manifest.digest]
        offset = home.manifest.offset(index)
        return os.preadv(home.partial.descriptor, [view], offset) == len(view)

    def save_part(self, peer: PeerState, index: int, data: memoryview) -> None:
        """Keep what came of a chunk, so that its source can go on from there."""
        with self._lock:
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
        with self._lock:
            home.picker.unclaim(claim.index)
            if length >= KEPT_BYTES_MIN and home.manifest is peer.manifest:
                home.parts[claim.index] = peer.source, length
                before = part[1] if part is not None and part[0] == peer.source else 0
                peer.bytes_kept += length - before

    def written(self, claim: ChunkClaim, peer: PeerState) -> None:
        """Count a claimed chunk as held, for every manifest that names it."""
        home, index = claim.home, claim.index
        with self._lock:
            if not home.picker.written(index):
                return
            # All at once: who sees a chunk in one of these may rely on the others.
            home.held[index] = 1
            peer.bytes_given += home.manifest.length(index)
            home.partial.mark(index)
            others = self._contenders.values() if len(self._contenders) > 1 else ()
            for other in others:
                if other is not home and other.names_alike(home.manifest, index):
                    other.picker.brought_by_rival(index)
            lead = self._lead
            rival_whole = any(one is not lead and one.picker.complete for one in others)
        # What follows reads and writes files, so not under the lock.
        if lead is not home and lead is not None:
            # It took the lead while this chunk was on its way to the other file.
            self._copy_missing(lead, index, index + 1)
            with self._lock:
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
        with self._lock:
            peer.picker.answered(peer, index, now)
        if claim is None:
            return
        if claim.hasher is not None and buffered is not None:
            claim.hasher.feed(peer.manifest.offset(index), buffered)
        self._advance()

    def _advance(self) -> None:
        """Let the digest of the whole follow the leading file from its start."""
        with self._lock:
            lead, hasher = self._lead, self._hasher
            if lead is None or hasher is None:
                return
            before, manifest = self._prefix, lead.manifest
            end = lead.held.find(0, before)
            self._prefix = prefix = manifest.count if end < 0 else end
        # Not under the lock: the hasher has one of its own, in which `take` waits.
        # Several threads may come here in any order; it keeps the farthest.
        if prefix > before or prefix == manifest.count:
            hasher.advance(min(prefix * manifest.chunk_size, manifest.size))

    # Progress.

    def progress(self) -> tuple[int, int, int] | None:
        """Return the bytes held, held from the start on, and in all, of the lead."""
        with self._lock:
            if (lead := self._lead) is None:
                return None
            manifest = lead.manifest
            prefix = min(self._prefix * manifest.chunk_size, manifest.size)
            return lead.picker.bytes_done, prefix, manifest.size

    @property
    def is_complete(self) -> bool:
        """Whether every chunk of the leading manifest is written."""
        lead = self._lead
        return lead is not None and lead.picker.complete

    # Contenders change. One of these at a time; all of them block.

    def better_lead(self) -> Manifest | None:
        """Return the manifest that should lead instead, or None.

        One that is complete, so that it can be verified; else one with more
        evidence of which no less is held.
        """
        with self._lock:
            lead = self._lead
            if lead is None or lead.picker.complete:
                return None
            rivals = [one for one in self._contenders.values() if one is not lead]
            for one in rivals:
                if one.picker.complete:
                    return one.manifest
            done = lead.picker.bytes_done
            for one in rivals:
                if one.picker.bytes_done >= done and self._claims.is_better(
                    one.manifest, lead.manifest
                ):
                    return one.manifest
            return None

    def promote(self, manifest: Manifest) -> None:
        """Let another manifest lead: its file takes the place of the leading one."""
        with self._lock:
            rival, lead = self._contenders.get(manifest.digest), self._lead
        if rival is None or rival is lead:
            return
        if lead is not None:
            # A crash between these two is harmless: what is resumed is checked chunk
            # by chunk, by whichever manifest lies there.
            self._context.store.partials.swap(lead.partial, rival.partial)
            rival.partial.save_manifest()
        self._set_lead(rival)
        # New chunks go to its file now; those that it lacks are in the others'.
        self._copy_missing(rival)
        with self._lock:
            rival.plan_lost(())
        self._advance()

    def settle(self, whole: Whole) -> Settlement:
        """Decide what the hashed whole is, and act on it; raise StoreError."""
        if isinstance(whole, OSError):
            raise StoreError(f"The download cannot be read back: {whole}.") from whole
        lead = self._lead
        if lead is None:
            raise StoreError("There is nothing to commit.")
        if whole[self._wanted.digest.algorithm] == self._wanted.digest:
            artifact = self._commit(lead, whole)
            # After the commit: if that fails, it is no peer's fault.
            with self._lock:
                liars = self._claims.confirm(lead.manifest)
            return Settlement(WholeVerdict.COMMITTED, artifact, liars)
        # Every chunk matched when it came. So either the disk has changed one, or
        # the manifest is false; nobody is blamed before that is known.
        sound = lead.partial.recheck(self.over)
        if not all(sound):
            with self._lock:
                lead.held = sound
                lead.picker.reset(sound)
                for one in self._contenders.values():
                    one.plan_lost(self._contenders.values())
            self._copy_missing(lead)
            self._set_lead(lead)
            return Settlement(WholeVerdict.DAMAGED_HERE)
        return self._refute(lead)

    def close(self, *, discard: bool) -> None:
        """Close all files; keep what was verified for a later run, or discard it."""
        # First: a descriptor that is closed under a reader may become another file's.
        self._stop_hasher()
        lead, self._lead = self._lead, None
        self._drop_refuted()
        for one in self._contenders.values():
            self._end(one, discard=discard or one is not lead or not any(one.held))
        self._contenders.clear()

    def _end(self, contender: Contender, *, discard: bool) -> None:
        self._context.store.partials.end(contender.partial, discard=discard)

    def _commit(self, lead: Contender, digests: dict[str, Digest]) -> Artifact:
        contents = Contents(digests, lead.manifest)
        partial = lead.partial
        partial.cut(lead.manifest.size)
        artifact = self._context.store.commit(
            partial.path, partial.descriptor, contents
        )
        partial.forget_manifest()
        return artifact

    def _refute(self, lead: Contender) -> Settlement:
        """Drop a false manifest; let the best of the others lead."""
        with self._lock:
            liars = self._claims.refute(lead.manifest)
            del self._contenders[lead.manifest.digest]
            # Its peers are there until their connections are closed: nothing more is
            # asked of them meanwhile.
            lead.picker.reset(bytearray(b"\x01" * lead.manifest.count))
            closing = list(lead.picker.peers)
            best: Contender | None = None
            for one in self._contenders.values():
                if best is None or self._claims.is_better(one.manifest, best.manifest):
                    best = one
        self._drop_refuted()
        self._refuted = lead
        if best is not None:
            self.promote(best.manifest)
            self._rescue(lead, best)
            self._drop_refuted()
        else:
            self._stop_hasher()
            with self._lock:
                self._lead = None
        return Settlement(WholeVerdict.FALSE_MANIFEST, liars=liars, closing=closing)

    def _rescue(self, refuted: Contender, lead: Contender) -> None:
        """Copy what only a refuted file holds to those that count on it.

        The new lead has what it names; the others need what it names otherwise.
        """
        with self._lock:
            others = [one for one in self._contenders.values() if one is not lead]
        for one in others:
            for index in refuted.held_alike(one):
                if not lead.names_alike(one.manifest, index) and not one.held[index]:
                    self._copy(refuted, one, index)
        with self._lock:
            for one in others:
                one.plan_lost(self._contenders.values())

    def _drop_refuted(self) -> None:
        refuted, self._refuted = self._refuted, None
        if refuted is not None:
            self._end(refuted, discard=True)

    def _stop_hasher(self) -> None:
        if self._hasher is not None:
            self._hasher.stop()

    def _set_lead(self, contender: Contender) -> None:
        """Hash this contender's file from its start from now on."""
        self._stop_hasher()
        hasher = PrefixHasher(
            contender.partial.descriptor,
            contender.manifest.size,
            algorithms=(NAME_ALGORITHM, self._wanted.digest.algorithm),
            pool=self._context.hash_pool,
            ended=self._on_hashed,
        )
        with self._lock:
            self._lead, self._hasher, self._prefix = contender, hasher, 0
        self._advance()

    def is_followed_by(self, hasher: PrefixHasher) -> bool:
        """Whether this hasher follows the leading file."""
        return hasher is self._hasher

    def _copy_missing(
        self, target: Contender, start: int = 0, end: int | None = None
    ) -> None:
        """Copy chunks that others hold into the file of one that names them too."""
        with self._lock:
            others = [one for one in self._contenders.values() if one is not target]
            if self._refuted is not None:
                others.append(self._refuted)
        for index in range(start, target.manifest.count if end is None else end):
            for one in others:
                if (
                    index < one.manifest.count
                    and one.held[index]
                    and one.names_alike(target.manifest, index)
                    and not target.held[index]
                ):
                    self._copy(one, target, index)

    def _copy(self, source: Contender, target: Contender, index: int) -> None:
        if not target.copy_chunk(source, index):
            return
        with self._lock:
            target.held[index] = 1
            target.partial.mark(index)
            target.picker.brought_by_rival(index)
