"""Which chunk to ask of which peer: pure decisions, no clock and no I/O.

A lane is one connection; several lanes may lead to one source. Lanes name a
manifest each. One manifest is favoured: the file is put together after it, and
lanes of other manifests give the chunks in which theirs agrees with it. A
manifest is known to be false only when the whole file was verified against
the digest that was asked for; then another one is favoured.

Where those who have all of it are swift, those who download it are left alone.
Rarest chunks first. Among equals the lower index comes first, unless others
download the same: then chance decides, so that each of them gets other chunks
to pass on. When nothing is left to assign, chunks that are late elsewhere are
asked a second time. A lane that lets a chunk wait too long gives it back and rests.
"""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING

from transfer.content import bitmap
from transfer.leeching import pipeline as turns
from transfer.leeching.peer_state import PeerState

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

    from transfer.content.manifest import Manifest
    from transfer.limits import LeecherLimits

_OWNERS_MAX = 2
_LATE_FACTOR = 8.0
_DUPLICATE_FACTOR = 2.0
_DUPLICATE_SECONDS_MIN = 0.1
_REST_SECONDS_MAX = 60.0
_SORT_SECONDS = 0.25


class ChunkPicker:
    """What is still missing of one artifact, and who is to send it."""

    def __init__(self, limits: LeecherLimits) -> None:
        self.favoured: Manifest | None = None
        self.lanes: set[PeerState] = set()
        self.banned: set[Hashable] = set()
        self.false: set[bytes] = set()
        """Digests of manifests that proved to be false."""
        self.missing = 0
        self._limits = limits
        self._done = bytearray()
        self._writing: set[int] = set()
        self._owners: dict[int, set[PeerState]] = {}
        self._todo: list[int] = []
        """Missing chunks that nobody was asked for, the next one last."""
        self._sorted, self._sorted_at = True, -math.inf
        self._in_order = False
        self._in_company = False

    # What is to be put together.

    def favour(self, manifest: Manifest, done: bytearray) -> None:
        """Put the file together after this manifest; `done` chunks are held."""
        self.favoured = manifest
        self._done = bytearray(done)
        self._writing.clear()
        self.missing = manifest.count - done.count(1)
        for lane in self.lanes:
            lane.mask = self._mask(lane)
        self._owners = {}
        for lane in self.lanes:
            for index in lane.asked:
                if self._agrees(lane, index):
                    self._owners.setdefault(index, set()).add(lane)
        self._refill()

    def reject_favoured(self) -> list[PeerState]:
        """Learn that the favoured manifest is false; return the lanes to close.

        Sources that claimed to have the whole of it are banned.
        """
        favoured = self.favoured
        if favoured is None:
            return []
        self.false.add(favoured.digest)
        liars = [lane for lane in self.lanes if lane.manifest.digest in self.false]
        self.banned.update(lane.source for lane in liars if lane.whole)
        return [
            lane for lane in self.lanes if lane in liars or lane.source in self.banned
        ]

    def unfavour(self) -> None:
        """Go on without a manifest until somebody names another one."""
        self.favoured = None
        for gone in (self._todo, self._owners, self._writing):
            gone.clear()

    def candidate(self, now: float) -> Manifest | None:
        """Return the other manifest that most whole sources name, or None.

        Lanes that rest count only where there is no other.
        """
        favoured = None if self.favoured is None else self.favoured.digest
        sources: dict[bytes, set[Hashable]] = {}
        manifests: dict[bytes, Manifest] = {}
        for lane in self.lanes:
            digest = lane.manifest.digest
            if not lane.whole or digest in self.false or digest == favoured:
                continue
            manifests[digest] = lane.manifest
            awake = sources.setdefault(digest, set())
            if lane.rest_until <= now:
                awake.add(lane.source)
        if not sources:
            return None
        best = max(sources, key=lambda digest: (len(sources[digest]), digest))
        return manifests[best]

    def is_stuck(self, now: float) -> bool:
        """Whether a chunk is missing that no lane which is awake can give."""
        if self.favoured is None or self._writing:
            return False
        awake = [lane for lane in self.lanes if lane.rest_until <= now]
        if any(lane.manifest.digest == self.favoured.digest for lane in awake):
            return False
        return any(
            not done and not any(lane.mask[index] for lane in awake)
            for index, done in enumerate(self._done)
        )

    @property
    def complete(self) -> bool:
        """Whether every chunk is written."""
        return self.favoured is not None and self.missing == 0

    @property
    def bytes_done(self) -> int:
        """How many bytes of the favoured manifest's chunks are written."""
        favoured = self.favoured
        if favoured is None or not favoured.count:
            return 0
        last = favoured.count - 1
        short = favoured.chunk_size - favoured.length(last) if self._done[last] else 0
        return (favoured.count - self.missing) * favoured.chunk_size - short

    def prefix(self, start: int) -> int:
        """Return how many chunks from the first on are written; at least `start`."""
        end = self._done.find(0, start)
        return len(self._done) if end < 0 else end

    # Lanes.

    def join(
        self, source: Hashable, manifest: Manifest, have: bytearray | None
    ) -> PeerState:
        """Take in a connection; `have` is None where the peer has it all."""
        held = bytearray(b"\x01" * manifest.count) if have is None else have
        lane = PeerState(source, manifest, have is None, held)
        self.lanes.add(lane)
        lane.mask = self._mask(lane)
        self._sorted = self._sorted and lane.whole
        return lane

    def meet_company(self) -> None:
        """Learn that others download the same at this time."""
        if not self._in_company:
            self._in_company = True
            self._sort_at_once()

    def prefer_order(self) -> None:
        """Learn that somebody reads the file while it comes: lower indexes first."""
        self._in_order = True
        self._sort_at_once()

    def update(self, lane: PeerState, have: bytearray | None) -> None:
        """Learn what a lane's peer has by now."""
        lane.whole = lane.whole or have is None
        lane.have = bytearray(b"\x01" * lane.manifest.count) if have is None else have
        lane.mask = self._mask(lane)
        self._sorted = False

    def leave(self, lane: PeerState) -> None:
        """Forget a lane; what was asked of it is to be asked of others."""
        self.lanes.discard(lane)
        for index in list(lane.asked):
            self._release(lane, index)
        self._sorted = self._sorted and lane.whole

    def ban(self, source: Hashable) -> list[PeerState]:
        """Ban a source; return its lanes, which are to be closed."""
        self.banned.add(source)
        return [lane for lane in self.lanes if lane.source == source]

    # Chunks.

    def pick(self, lane: PeerState, now: float) -> list[int]:
        """Return the chunks to ask of this lane now; they count as asked."""
        picked: list[int] = []
        if self.favoured is None or lane.rest_until > now:
            return picked
        room = self._depth(lane) - len(lane.asked)
        while room > len(picked):
            index = self._next(lane, now)
            if index is None and not lane.asked:
                index = self._late_elsewhere(lane, now)
            if index is None:
                break
            self._owners.setdefault(index, set()).add(lane)
            lane.asked[index] = now
            picked.append(index)
        return picked

    def claim(self, lane: PeerState, index: int) -> bool:
        """Whether this lane's chunk, just verified, is to be written."""
        if self._agrees(lane, index) and not (
            self._done[index] or index in self._writing
        ):
            self._writing.add(index)
            return True
        return False

    def unclaim(self, index: int) -> None:
        """Learn that a claimed chunk will not be written."""
        self._writing.discard(index)

    def written(self, lane: PeerState, index: int) -> bool:
        """Learn that a claimed chunk is on disk; False where it is of no use.

        That is so where another manifest was favoured in the meantime.
        """
        if self.favoured is None or index not in self._writing:
            return False
        self._writing.discard(index)
        self._done[index] = 1
        self.missing -= 1
        lane.bytes_given += self.favoured.length(index)
        return True

    def answered(self, lane: PeerState, index: int, now: float) -> None:
        """Learn that a lane sent a chunk, needed or not."""
        lane.note_arrival(index, now)
        self._release(lane, index)

    def lacking(self, lane: PeerState, index: int) -> None:
        """Learn that a lane's peer cannot send a chunk that it seemed to have."""
        if index < len(lane.have):
            lane.have[index] = 0
        if index < len(lane.mask):
            lane.mask[index] = 0
        self._release(lane, index)

    def elsewhere(self, lane: PeerState, index: int, given: bytearray) -> None:
        """Learn that a lane's peer rather sends what others do not have yet.

        It has it, and will send it when it is asked for it once more.
        """
        lane.declined.add(index)
        lane.elsewhere = given
        self._release(lane, index)

    def drop_asked(self, lane: PeerState, rest_until: float) -> None:
        """Learn that a lane's peer is busy and dropped what was asked of it."""
        for index in list(lane.asked):
            self._release(lane, index)
        lane.rest_until = rest_until

    def reclaim(self, now: float) -> bool:
        """Take late chunks from lanes that are too slow; True where any was.

        The lane rests, longer each time; an answer still counts when it comes.
        """
        typical = turns.typical_seconds(self.lanes)
        reclaimed = False
        least = max(self._limits.turn_seconds_min, _LATE_FACTOR * typical)
        for lane in self.lanes:
            patience = max(least, 2 * lane.round_trip)
            if lane.rest_until > now or now - lane.waits_since(now) < patience:
                continue
            lane.rest_seconds = min(max(2 * lane.rest_seconds, 1.0), _REST_SECONDS_MAX)
            lane.rest_until = now + lane.rest_seconds
            for index in lane.asked:
                self._give_back(lane, index)
            reclaimed = True
        return reclaimed

    def has_work(self, lane: PeerState, now: float) -> bool:
        """Whether `pick` would return anything for this lane."""
        if self.favoured is None or lane.rest_until > now:
            return False
        if len(lane.asked) >= self._depth(lane):
            return False
        if not self._spares(lane, now) and any(
            lane.mask[index] and index not in lane.asked for index in self._todo
        ):
            return True
        return not lane.asked and self._late_elsewhere(lane, now) is not None

    def _depth(self, lane: PeerState) -> int:
        chunk_size = self.favoured.chunk_size if self.favoured else 1
        share = len(self._todo) // max(len(self.lanes), 1)
        return turns.depth(lane, self._limits, chunk_size, share)

    def _next(self, lane: PeerState, now: float) -> int | None:
        if not self._sorted and now - self._sorted_at >= _SORT_SECONDS:
            self._sort()
            self._sorted_at = now
        todo, mask, other = self._todo, lane.mask, None
        if self._spares(lane, now):
            return None
        for place in range(len(todo) - 1, -1, -1):
            index = todo[place]
            if mask[index] and index not in lane.asked:
                if not lane.sent_elsewhere(index):
                    return todo.pop(place)
                other = place if other is None else other
        return None if other is None else todo.pop(other)

    def _spares(self, lane: PeerState, now: float) -> bool:
        """Whether a peer that downloads itself is left alone, others being swift."""
        giving = (one for one in self.lanes if one.whole and turns.is_on_time(one, now))
        return not (lane.whole or self._is_slow(giving))

    def _late_elsewhere(self, lane: PeerState, now: float) -> int | None:
        """Return the chunk that another source has owed longest, or None."""
        typical = lane.chunk_seconds or turns.typical_seconds(self.lanes)
        patience = max(_DUPLICATE_SECONDS_MIN, _DUPLICATE_FACTOR * typical)
        latest: tuple[float, int] | None = None
        for index, owners in self._owners.items():
            if not lane.mask[index] or self._done[index] or len(owners) >= _OWNERS_MAX:
                continue
            if any(owner.source == lane.source for owner in owners):
                continue
            since = min(max(owner.asked[index], owner.last_arrival) for owner in owners)
            if now - since > patience and (latest is None or since < latest[0]):
                latest = (since, index)
        return None if latest is None else latest[1]

    def _release(self, lane: PeerState, index: int) -> None:
        lane.asked.pop(index, None)
        self._give_back(lane, index)

    def _give_back(self, lane: PeerState, index: int) -> None:
        """Free a chunk of its owner; it is to be asked again unless done."""
        owners = self._owners.get(index)
        if owners is None or lane not in owners:
            return
        owners.discard(lane)
        if owners:
            return
        del self._owners[index]
        if not self._done[index] and index not in self._writing:
            self._todo.append(index)
            self._sorted = False

    def _agrees(self, lane: PeerState, index: int) -> bool:
        favoured = self.favoured
        if favoured is None or index >= favoured.count:
            return False
        if lane.manifest is favoured:
            return True
        return lane.manifest.chunk_size == favoured.chunk_size and lane.manifest.chunk(
            index
        ) == favoured.chunk(index)

    def _mask(self, lane: PeerState) -> bytearray:
        favoured = self.favoured
        if favoured is None:
            return bytearray()
        if lane.manifest.digest == favoured.digest:
            return bytearray(lane.have)
        mask = bytearray(favoured.count)
        for index in range(min(favoured.count, lane.manifest.count)):
            mask[index] = lane.have[index] and self._agrees(lane, index)
        return mask

    def _refill(self) -> None:
        self._todo = [
            index
            for index, done in enumerate(self._done)
            if not done and index not in self._owners
        ]
        self._sort_at_once()

    def _sort_at_once(self) -> None:
        self._sorted, self._sorted_at = False, -math.inf

    def _is_slow(self, lanes: Iterable[PeerState]) -> bool:
        return turns.is_slow(lanes, self.favoured.chunk_size if self.favoured else 0)

    def _sort(self) -> None:
        self._todo.sort(reverse=True)
        partial = [lane.mask for lane in self.lanes if not lane.whole]
        if (
            (partial or self._in_company)
            and not self._in_order
            and self._is_slow(self.lanes)
        ):
            random.shuffle(self._todo)
            counts = bitmap.sums(partial, len(self._done))
            self._todo.sort(key=counts.__getitem__, reverse=True)
        self._sorted = True
