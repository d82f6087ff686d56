"""The contenders of one download: which manifest leads, and what becomes of the others.

Every manifest that somebody vouches for is a `Contender` with a plan (`picker`) and a
file of its own; one of them leads (`manifests` says which). Its file is the one that
is passed on, hashed as it grows, and resumed. A chunk that the leading manifest names
as well goes into the leading file only: the others count it as done, and it is copied
when another one takes the lead. So leading can change, and a false manifest can be
refuted, without anything being fetched again.

`lock` guards all plans and which one leads; it is held for decisions, never for I/O.
`admit`, `promote` and `settle` change the contenders: their caller runs one of them at
a time. What blocks says so and belongs in a thread.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from transfer.content.digest import NAME_ALGORITHM, Digest
from transfer.content.hashing import Contents
from transfer.errors import FalseManifestError, StoreError
from transfer.growing_file import SizeEvidence
from transfer.leeching.contender import Contender, held_for, owed_by
from transfer.leeching.manifests import Claims
from transfer.leeching.outcome import Settlement, WholeVerdict
from transfer.leeching.picker import ChunkPicker
from transfer.leeching.prefix import PrefixHasher

if TYPE_CHECKING:
    from collections.abc import Callable, ValuesView

    from transfer.content.artifact import Artifact
    from transfer.content.manifest import Manifest
    from transfer.leeching.context import LeecherContext
    from transfer.leeching.wanted import Wanted
    from transfer.store.partial import Partial

Whole = dict[str, Digest] | OSError


class Contenders:
    """All manifests of one download that may be true, each with its plan and file."""

    def __init__(
        self,
        context: LeecherContext,
        wanted: Wanted,
        *,
        over: threading.Event,
        on_hashed: Callable[[PrefixHasher, Whole], None],
    ) -> None:
        """Start without any; `on_hashed` is called in any thread."""
        self.lock = threading.Lock()
        self.claims = Claims(wanted)
        self.lead: Contender | None = None
        self.hasher: PrefixHasher | None = None
        """What follows the leading file."""
        self._context = context
        self._wanted = wanted
        self._over = over
        self._on_hashed = on_hashed
        self._all: dict[bytes, Contender] = {}
        self._refuted: Contender | None = None
        """The last refuted one: most of its chunks may be right all the same."""
        self._prefix = 0
        self._in_order = self._others_download = False

    def get(self, digest: bytes) -> Contender | None:
        """Return the contender of this manifest; call it under the lock."""
        return self._all.get(digest)

    def all(self) -> ValuesView[Contender]:
        """Return the contenders; call it under the lock."""
        return self._all.values()

    def size_evidence(self) -> SizeEvidence:
        """Return what vouches for the size of the leading manifest."""
        with self.lock:
            if self.lead is None:
                return SizeEvidence.UNCONFIRMED
            return self.claims.size_evidence(self.lead.manifest)

    def _check(self, manifest: Manifest) -> None:
        """Raise FalseManifestError for a refuted manifest, FullError for a giant.

        Nothing is evicted for a size that is only claimed: room is made when the
        verified whole is committed.
        """
        with self.lock:
            self.claims.check(manifest)
        self._context.store.room.check(manifest.size)

    def knows(self, manifest: Manifest) -> bool:
        """Whether a manifest was admitted and is not refuted."""
        return manifest.digest in self._all

    def resume(self) -> bool:
        """Take up what an earlier run left; False if there is nothing. Blocks."""
        partials = self._context.store.partials
        if not partials.exists(self._wanted.digest):
            return False
        partial = partials.begin(self._wanted.digest)
        found = partial.resume(self._over)
        if not found or partial.manifest is None or not self._fits(partial.manifest):
            partials.end(partial, discard=True)
            return False
        self.claims.add(partial.manifest, None)
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
        self._check(manifest)
        if manifest.digest in self._all:
            return
        partials, refuted = self._context.store.partials, self._refuted
        is_first = self.lead is None and refuted is None
        partial = partials.begin(self._wanted.digest, rival=not is_first)
        partial.adopt(manifest)
        contender = self._contender(manifest, partial, partial.verified())
        if self.lead is None:
            if refuted is not None:
                partials.swap(refuted.partial, partial)
                self.copy_missing(contender)
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
        with self.lock:
            picker.reset(held_for(contender, self._all.values()))
            self._all[manifest.digest] = contender
            if len(self._all) > 1:
                for one in self._all.values():
                    one.picker.owed_to_rival = owed_by(one, self._all)
        return contender

    def meet_leechers(self) -> None:
        """Learn that others download the same at this time."""
        with self.lock:
            self._others_download = True
            for contender in self._all.values():
                contender.picker.meet_leechers()

    def prefer_order(self) -> None:
        """Bring lower chunks first from now on."""
        with self.lock:
            self._in_order = True
            for contender in self._all.values():
                contender.picker.prefer_order()

    def progress(self) -> tuple[int, int, int] | None:
        """Return the bytes held, held from the start on, and in all, of the lead."""
        with self.lock:
            if (lead := self.lead) is None:
                return None
            manifest = lead.manifest
            prefix = min(self._prefix * manifest.chunk_size, manifest.size)
            return lead.picker.bytes_done, prefix, manifest.size

    def advance(self) -> None:
        """Let the digest of the whole follow the leading file from its start."""
        with self.lock:
            lead, hasher = self.lead, self.hasher
            if lead is None or hasher is None:
                return
            before, manifest = self._prefix, lead.manifest
            end = lead.held.find(0, before)
            self._prefix = prefix = manifest.count if end < 0 else end
        # Not under the lock: the hasher has one of its own, in which `take` waits.
        # Several threads may come here in any order; it keeps the farthest.
        if prefix > before or prefix == manifest.count:
            hasher.advance(min(prefix * manifest.chunk_size, manifest.size))

    # Contenders change. One of these at a time; all of them block.

    def better_lead(self) -> Manifest | None:
        """Return the manifest that should lead instead, or None.

        One that is complete, so that it can be verified; else one with more
        evidence of which no less is held.
        """
        with self.lock:
            lead = self.lead
            if lead is None or lead.picker.complete:
                return None
            rivals = [one for one in self._all.values() if one is not lead]
            for one in rivals:
                if one.picker.complete:
                    return one.manifest
            done = lead.picker.bytes_done
            for one in rivals:
                if one.picker.bytes_done >= done and self.claims.is_better(
                    one.manifest, lead.manifest
                ):
                    return one.manifest
            return None

    def promote(self, manifest: Manifest) -> None:
        """Let another manifest lead: its file takes the place of the leading one."""
        with self.lock:
            rival, lead = self._all.get(manifest.digest), self.lead
        if rival is None or rival is lead:
            return
        if lead is not None:
            # A crash between these two is harmless: what is resumed is checked chunk
            # by chunk, by whichever manifest lies there.
            self._context.store.partials.swap(lead.partial, rival.partial)
            rival.partial.save_manifest()
        self._set_lead(rival)
        # New chunks go to its file now; those that it lacks are in the others'.
        self.copy_missing(rival)
        with self.lock:
            rival.plan_lost(())
        self.advance()

    def settle(self, whole: Whole) -> Settlement:
        """Decide what the hashed whole is, and act on it; raise StoreError."""
        if isinstance(whole, OSError):
            raise StoreError(f"The download cannot be read back: {whole}.") from whole
        lead = self.lead
        if lead is None:
            raise StoreError("There is nothing to commit.")
        if whole[self._wanted.digest.algorithm] == self._wanted.digest:
            artifact = self._commit(lead, whole)
            # After the commit: if that fails, it is no peer's fault.
            with self.lock:
                liars = self.claims.confirm(lead.manifest)
            return Settlement(WholeVerdict.COMMITTED, artifact, liars)
        # Every chunk matched when it came. So either the disk has changed one, or
        # the manifest is false; nobody is blamed before that is known.
        sound = lead.partial.recheck(self._over)
        if not all(sound):
            with self.lock:
                lead.held = sound
                lead.picker.reset(sound)
                for one in self._all.values():
                    one.plan_lost(self._all.values())
            self.copy_missing(lead)
            self._set_lead(lead)
            return Settlement(WholeVerdict.DAMAGED_HERE)
        return self._refute(lead)

    def close(self, *, discard: bool) -> None:
        """Close all files; keep what was verified for a later run, or discard it."""
        # First: a descriptor that is closed under a reader may become another file's.
        self._stop_hasher()
        lead, self.lead = self.lead, None
        self._drop_refuted()
        for one in self._all.values():
            self._end(one, discard=discard or one is not lead or not any(one.held))
        self._all.clear()

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
        with self.lock:
            liars = self.claims.refute(lead.manifest)
            del self._all[lead.manifest.digest]
            # Its peers are there until their connections are closed: nothing more is
            # asked of them meanwhile.
            lead.picker.reset(bytearray(b"\x01" * lead.manifest.count))
            closing = list(lead.picker.peers)
            best: Contender | None = None
            for one in self._all.values():
                if best is None or self.claims.is_better(one.manifest, best.manifest):
                    best = one
        self._drop_refuted()
        self._refuted = lead
        if best is not None:
            self.promote(best.manifest)
            self._rescue(lead, best)
            self._drop_refuted()
        else:
            self._stop_hasher()
            with self.lock:
                self.lead = None
        return Settlement(WholeVerdict.FALSE_MANIFEST, liars=liars, closing=closing)

    def _rescue(self, refuted: Contender, lead: Contender) -> None:
        """Copy what only a refuted file holds to those that count on it.

        The new lead has what it names; the others need what it names otherwise.
        """
        with self.lock:
            others = [one for one in self._all.values() if one is not lead]
        for one in others:
            for index in refuted.held_alike(one):
                if not lead.names_alike(one.manifest, index) and not one.held[index]:
                    self._copy(refuted, one, index)
        with self.lock:
            for one in others:
                one.plan_lost(self._all.values())

    def _drop_refuted(self) -> None:
        refuted, self._refuted = self._refuted, None
        if refuted is not None:
            self._end(refuted, discard=True)

    def _stop_hasher(self) -> None:
        if self.hasher is not None:
            self.hasher.stop()

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
        with self.lock:
            self.lead, self.hasher, self._prefix = contender, hasher, 0
        self.advance()

    def is_followed_by(self, hasher: PrefixHasher) -> bool:
        """Whether this hasher follows the leading file."""
        return hasher is self.hasher

    def copy_missing(
        self, target: Contender, start: int = 0, end: int | None = None
    ) -> None:
        """Copy chunks that others hold into the file of one that names them too."""
        with self.lock:
            others = [one for one in self._all.values() if one is not target]
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
        with self.lock:
            target.held[index] = 1
            target.partial.mark(index)
            target.picker.brought_by_rival(index)
