"""Which chunk to ask of which peer: pure decisions, no clock and no I/O.

One picker plans one manifest; each connection to a peer is one `PeerState`. How the
rules meet, in the order in which `pick` applies them:

1. Snubbing (as in BitTorrent's choking algorithm, BEP 3). A peer that owes a chunk and
   sends nothing for too long is snubbed: what it owes may be asked of others, and it
   is asked for nothing until a pause has passed that doubles each time. Its late
   answer still counts and ends the pause. Bytes count, not whole chunks: a slow peer
   that keeps sending is never snubbed.
2. Pipeline depth. A connection has enough requests under way to fill its path: two,
   and as many more as arrive within eight round trips. (With two, a path on which
   queues and repairs make a round trip three times as long would never fill: what
   arrives is what was asked for. On a far path with loss, repairs of repairs take
   more than four.) A slow peer that is near gets
   one, because asking ahead would only bind chunks; the next one is asked of it two
   round trips before the end, so that its path does not run dry and a packet lost at
   the end is noticed by those behind it. Of few chunks that are left, each peer gets
   a fair share, so that the end is not queued at one of them.
3. Seeders first. While peers that have the whole send what is asked of them, faster
   than links are (`_FAST_BYTES_PER_SECOND`), other leechers are not asked: that would
   cost both sides more than it brings.
4. Order. Rarest first among the chunks of other leechers, ties by chance, so that
   leechers of one artifact hold different chunks to pass on. With seeders alone,
   with fast links, or for a reader that follows the file, lower indexes come first,
   so that hashing keeps up and nothing has to be read back. A chunk that a seeder
   redirected (super-seeding, BEP 16) is asked of that seeder last.
5. Endgame. A peer for which nothing is left is given the chunk that another source has
   owed longest, if that is more than twice a usual chunk's time; never more than
   two owners for a chunk, and never the same source twice.

A chunk is in exactly one state: to do (in `_todo`), owed (in `_owners`), being written
(in `_writing`), or done. A snubbed peer's chunk is to do and may arrive all the same:
`claim` decides who writes it.
"""

from __future__ import annotations

import math
import random
import statistics
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from transfer.content import bitmap

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable

    from transfer.content.manifest import Manifest
    from transfer.limits import LeecherLimits

_OWNERS_MAX = 2
_LATE_FACTOR = 8.0
_DUPLICATE_FACTOR = 2.0
_DUPLICATE_SECONDS_MIN = 0.1
_SNUB_SECONDS_MAX = 60.0
_SORT_SECONDS = 0.25
_SMOOTHING = 0.3
_MARK_BYTES = 4096
_FAST_BYTES_PER_SECOND = 40e6
_NEAR_SECONDS = 0.1
_NEAR_TRIPS = 20
_AHEAD_TRIPS = 8
_ON_TIME_SECONDS = 0.25


@dataclass(slots=True, eq=False)
class PeerState:
    """What is known of one connection, and what was asked over it."""

    source: Hashable
    """What is banned when it lies."""
    manifest: Manifest
    """The manifest that this peer names."""
    picker: ChunkPicker = field(init=False)
    """The plan of that manifest, once it has joined."""
    whole: bool
    """Whether it claims the whole artifact and vouches for the manifest."""
    have: bytearray
    """1 for each chunk that it can send."""
    round_trip: float = 0.0
    asked: dict[int, float] = field(default_factory=dict)
    """Chunks that it owes, and when they were asked for."""
    chunk_seconds: float | None = None
    """How long one chunk takes, smoothed."""
    last_arrival: float = 0.0
    last_bytes: float = 0.0
    snubbed_until: float = 0.0
    snub_seconds: float = 0.0
    is_ending: bool = False
    """Whether its only chunk is about to end, so that another is asked for."""
    bytes_given: int = 0
    bytes_kept: int = 0
    """Bytes of chunks that broke off and can be continued."""
    continued: list[int] = field(default_factory=list)
    """Chunks of which this source has sent a part already: it is asked for the rest."""
    redirected: set[int] = field(default_factory=set)
    """Chunks that it sent us to others for."""
    _given_to_others: bytearray = field(default_factory=bytearray)
    _bits: int | None = None
    _unmarked: int = 0

    @property
    def bits(self) -> int:
        """`have` as one number, the chunk at `index` being bit `index`."""
        if self._bits is None:
            self._bits = int.from_bytes(bitmap.pack(self.have), "little")
        return self._bits

    def has_now(self, have: bytearray) -> None:
        """Learn which chunks it has by now."""
        self.have, self._bits = have, None

    def count_bytes(self, count: int, now: float) -> None:
        """Count bytes that came; few at a time do not pass for sending."""
        self._unmarked += count
        if self._unmarked >= _MARK_BYTES:
            self._unmarked = 0
            self.last_bytes = now

    def measure_arrival(self, index: int, now: float) -> None:
        """Measure how long a chunk took on its own, behind the one before it."""
        took = now - max(self.asked.get(index, now), self.last_arrival)
        if self.chunk_seconds is None:
            self.chunk_seconds = took
        else:
            self.chunk_seconds += _SMOOTHING * (took - self.chunk_seconds)
        self.last_arrival = now
        self.is_ending = False
        self.snubbed_until = self.snub_seconds = 0.0

    def mark_redirected(self, index: int, given: bytearray) -> None:
        """Learn that a seeder rather sends what others do not have yet."""
        self.redirected.add(index)
        self._given_to_others = given

    def gave_to_others(self, index: int) -> bool:
        """Whether this seeder said that others were given a chunk."""
        given = self._given_to_others
        return index < len(given) and given[index] == 1

    def silent_since(self, now: float) -> float:
        """Return since when it owes bytes; `now` if it owes none."""
        if not self.asked:
            return now
        return max(self.last_arrival, self.last_bytes, min(self.asked.values()))

    def is_on_time(self, now: float) -> bool:
        """Whether it sends what is asked of it about as fast as it did."""
        if self.chunk_seconds is None or self.snubbed_until > now:
            return False
        owes_since = max(self.last_arrival, min(self.asked.values(), default=now))
        return now - owes_since < max(_ON_TIME_SECONDS, 4 * self.chunk_seconds)

    @property
    def is_slow(self) -> bool:
        """Whether a chunk takes much longer than a request does."""
        near = max(_NEAR_SECONDS, _NEAR_TRIPS * self.round_trip)
        return self.chunk_seconds is not None and self.chunk_seconds > near

    def ending_bytes(self, length: int) -> int:
        """Return how many bytes before its end a chunk is ending; 0 for never."""
        if self.chunk_seconds is None or not self.is_slow:
            return 0
        return math.ceil(length * min(2 * self.round_trip / self.chunk_seconds, 1.0))

    def pipeline_depth(self, limits: LeecherLimits, share: int) -> int:
        """Return how many chunks may be under way at once on this connection."""
        wanted = 2
        if self.is_slow:
            return 2 if self.is_ending else 1
        if self.chunk_seconds is not None:
            trips = _AHEAD_TRIPS * self.round_trip
            wanted += int(trips / max(self.chunk_seconds, 1e-4))
        by_bytes = max(limits.request_bytes_max // self.manifest.chunk_size, 2)
        most = min(limits.requests_per_peer_max, by_bytes)
        return max(min(wanted, most, max(share, 1) + 1), 1)


class ChunkPicker:
    """What is still missing of one manifest, and which peers are to send it."""

    def __init__(
        self,
        manifest: Manifest,
        limits: LeecherLimits,
        *,
        done: bytearray | None = None,
        owed_to_rival: Callable[[int, float], bool] | None = None,
    ) -> None:
        """`done` chunks are held already.

        `owed_to_rival(index, now)` says whether this very chunk is on its way
        for another manifest that names it too, and not late; None without rivals.
        """
        self.manifest = manifest
        self.peers: set[PeerState] = set()
        self.owed_to_rival = owed_to_rival
        self._limits = limits
        self._writing: set[int] = set()
        self._owners: dict[int, set[PeerState]] = {}
        self._sorted, self._sorted_at = True, -math.inf
        self._in_order = False
        self._others_download = False
        self._todo: list[int] = []
        """Missing chunks that nobody owes, the next one last."""
        self._todo_bits = 0
        """The same as one number, so that an idle peer costs no look at each."""
        self.reset(bytearray(manifest.count) if done is None else done)

    def reset(self, done: bytearray) -> None:
        """Plan anew from the chunks that are held; requests under way stay."""
        self._done = bytearray(done)
        self.missing = self.manifest.count - done.count(1)
        self._writing.clear()
        self._todo = [
            index
            for index, held in enumerate(self._done)
            if not held and index not in self._owners
        ]
        self._todo_bits = _bits_of(self._todo, self.manifest.count)
        self._sort_at_once()

    @property
    def complete(self) -> bool:
        """Whether every chunk is written."""
        return self.missing == 0

    @property
    def bytes_done(self) -> int:
        """How many bytes are written."""
        manifest = self.manifest
        if not manifest.count:
            return 0
        last = manifest.count - 1
        short = manifest.chunk_size - manifest.length(last) if self._done[last] else 0
        return (manifest.count - self.missing) * manifest.chunk_size - short

    # Peers.

    def join(self, peer: PeerState) -> PeerState:
        """Add a connection; its manifest is this one."""
        peer.picker = self
        self.peers.add(peer)
        self._sorted = self._sorted and peer.whole
        return peer

    def leave(self, peer: PeerState) -> None:
        """Remove a connection; what it owes is asked of others."""
        self.peers.discard(peer)
        for index in list(peer.asked):
            self._release(peer, index)
        self._sorted = self._sorted and peer.whole

    def update(self, peer: PeerState, have: bytearray | None) -> None:
        """Learn which chunks a peer has by now; None for all."""
        peer.whole = peer.whole or have is None
        whole = bytearray(b"\x01" * self.manifest.count)
        peer.has_now(whole if have is None else have)
        self._sorted = False

    def meet_leechers(self) -> None:
        """Learn that others download the same at this time."""
        if not self._others_download:
            self._others_download = True
            self._sort_at_once()

    def prefer_order(self) -> None:
        """Ask for lower indexes first: the file is read while it comes."""
        self._in_order = True
        self._sort_at_once()

    # Chunks.

    def pick(self, peer: PeerState, now: float) -> list[int]:
        """Return the chunks to ask of this peer now; it owes them from now on."""
        picked: list[int] = []
        if peer.snubbed_until > now:
            return picked
        room = self._depth(peer) - len(peer.asked)
        while room > len(picked):
            index = self._next(peer, now)
            if index is None and not peer.asked:
                index = self._endgame_chunk(peer, now)
            if index is None:
                break
            self._owners.setdefault(index, set()).add(peer)
            peer.asked[index] = now
            picked.append(index)
        return picked

    def has_work(self, peer: PeerState, now: float) -> bool:
        """Whether `pick` would return anything for this peer."""
        if peer.snubbed_until > now or len(peer.asked) >= self._depth(peer):
            return False
        may_ask = self._has_some_for(peer) and not self._seeders_suffice(peer, now)
        if may_ask and any(
            self._can_ask(peer, index, moment)
            for moment in self._moments(peer, now)
            for index in reversed(self._todo)
        ):
            return True
        return not peer.asked and self._endgame_chunk(peer, now) is not None

    def claim(self, index: int) -> bool:
        """Take the right to write a chunk; False if it is written or being written."""
        if self._done[index] or index in self._writing:
            return False
        self._writing.add(index)
        return True

    def unclaim(self, index: int) -> None:
        """Give the right back: the chunk was not written after all."""
        if index in self._writing:
            self._writing.discard(index)
            if index not in self._owners and not self._todo_bits >> index & 1:
                self._put_back(index)

    def written(self, index: int) -> bool:
        """Note that a claimed chunk is on disk; False after a `reset`."""
        if index not in self._writing:
            return False
        self._writing.discard(index)
        self._done[index] = 1
        self._todo_bits &= ~(1 << index)
        self.missing -= 1
        return True

    def brought_by_rival(self, index: int) -> None:
        """Note that a chunk came for another manifest that names it too."""
        if not self._done[index]:
            self._writing.add(index)
            self.written(index)
            self._sorted = False

    def answered(self, peer: PeerState, index: int, now: float) -> None:
        """Note that a peer sent a chunk, needed or not."""
        peer.measure_arrival(index, now)
        self._release(peer, index)

    def lacking(self, peer: PeerState, index: int) -> None:
        """Note that a peer cannot send a chunk that it seemed to have."""
        if index < len(peer.have):
            peer.have[index] = 0
            peer.has_now(peer.have)
        self._release(peer, index)

    def redirect(self, peer: PeerState, index: int, given: bytearray) -> None:
        """Note that a seeder sent us to others for a chunk; asked again, it sends it.

        `given` has 1 for each chunk that others were given.
        """
        peer.mark_redirected(index, given)
        self._release(peer, index)

    def drop_asked(self, peer: PeerState, snubbed_until: float) -> None:
        """Note that a peer is busy and has dropped all that was asked of it."""
        for index in list(peer.asked):
            self._release(peer, index)
        peer.snubbed_until = snubbed_until

    def snub_slow(self, now: float) -> bool:
        """Snub the peers that owe bytes for too long; True if there were any."""
        typical = _typical_seconds(self.peers)
        least = max(self._limits.snub_seconds_min, _LATE_FACTOR * typical)
        snubbed = False
        for peer in self.peers:
            patience = max(least, 2 * peer.round_trip)
            if peer.snubbed_until > now or now - peer.silent_since(now) < patience:
                continue
            peer.snub_seconds = min(max(2 * peer.snub_seconds, 1.0), _SNUB_SECONDS_MAX)
            peer.snubbed_until = now + peer.snub_seconds
            for index in peer.asked:
                self._give_back(peer, index)
            snubbed = True
        return snubbed

    def is_owed(self, index: int, now: float) -> bool:
        """Whether a chunk is being written, or on its way and not late."""
        if index in self._writing:
            return True
        owners = self._owners.get(index)
        if not owners:
            return False
        return now - _owed_since(owners, index) <= self._late_after()

    def _depth(self, peer: PeerState) -> int:
        share = len(self._todo) // max(len(self.peers), 1)
        return peer.pipeline_depth(self._limits, share)

    def _next(self, peer: PeerState, now: float) -> int | None:
        if not self._sorted and now - self._sorted_at >= _SORT_SECONDS:
            self._sort()
            self._sorted_at = now
        if not self._has_some_for(peer) or self._seeders_suffice(peer, now):
            return None
        todo = self._todo
        while peer.continued:
            index = peer.continued.pop()
            if index in todo and self._can_ask(peer, index, now):
                return self._pop_todo(todo.index(index))
        for moment in self._moments(peer, now):
            place = self._place_for(peer, moment)
            if place is not None:
                return self._pop_todo(place)
        return None

    def _moments(self, peer: PeerState, now: float) -> tuple[float, ...]:
        """Return at which times to look: what a rival is late with comes last."""
        if self.owed_to_rival is None or peer.asked:
            return (-math.inf,)
        return -math.inf, now

    def _place_for(self, peer: PeerState, moment: float) -> int | None:
        """Return where the next chunk for a peer stands among those to do."""
        todo, second_best = self._todo, None
        for place in range(len(todo) - 1, -1, -1):
            index = todo[place]
            if not self._can_ask(peer, index, moment):
                continue
            if not peer.gave_to_others(index):
                return place
            second_best = place if second_best is None else second_best
        return second_best

    def _pop_todo(self, place: int) -> int:
        index = self._todo.pop(place)
        self._todo_bits &= ~(1 << index)
        return index

    def _put_back(self, index: int) -> None:
        self._todo.append(index)
        self._todo_bits |= 1 << index
        self._sorted = False

    def _has_some_for(self, peer: PeerState) -> bool:
        return bool(self._todo_bits & peer.bits)

    def _can_ask(self, peer: PeerState, index: int, now: float) -> bool:
        if not peer.have[index] or index in peer.asked:
            return False
        # What a snubbed peer sent late, or a rival, is in the list a while longer.
        if self._done[index] or index in self._writing:
            return False
        rival = self.owed_to_rival
        return rival is None or not rival(index, now)

    def _seeders_suffice(self, peer: PeerState, now: float) -> bool:
        """Fast seeders suffice: other leechers are not asked then."""
        if peer.whole:
            return False
        seeders = (one for one in self.peers if one.whole and one.is_on_time(now))
        return not self._is_slow(seeders)

    def _endgame_chunk(self, peer: PeerState, now: float) -> int | None:
        """Return the late chunk that another source has owed longest, or None."""
        patience = self._late_after(peer.chunk_seconds)
        latest: tuple[float, int] | None = None
        for index, owners in self._owners.items():
            if not peer.have[index] or self._done[index] or len(owners) >= _OWNERS_MAX:
                continue
            if any(owner.source == peer.source for owner in owners):
                continue
            since = _owed_since(owners, index)
            if now - since > patience and (latest is None or since < latest[0]):
                latest = (since, index)
        return None if latest is None else latest[1]

    def _late_after(self, typical: float | None = None) -> float:
        typical = typical or _typical_seconds(self.peers)
        return max(_DUPLICATE_SECONDS_MIN, _DUPLICATE_FACTOR * typical)

    def _release(self, peer: PeerState, index: int) -> None:
        peer.asked.pop(index, None)
        self._give_back(peer, index)

    def _give_back(self, peer: PeerState, index: int) -> None:
        """Take a chunk off its owner; unless it is done, it is to do again."""
        owners = self._owners.get(index)
        if owners is None or peer not in owners:
            return
        owners.discard(peer)
        if owners:
            return
        del self._owners[index]
        if not self._done[index] and index not in self._writing:
            self._put_back(index)

    def _is_slow(self, peers: Iterable[PeerState]) -> bool:
        """Whether links bound this, so that variety is worth more than order."""
        times = [peer.chunk_seconds for peer in peers]
        chunk_size = self.manifest.chunk_size
        rate = sum(chunk_size / max(one, 1e-6) for one in times if one is not None)
        return rate < _FAST_BYTES_PER_SECOND

    def _sort_at_once(self) -> None:
        self._sorted, self._sorted_at = False, -math.inf

    def _sort(self) -> None:
        self._todo = [index for index in self._todo if not self._done[index]]
        self._todo.sort(reverse=True)
        leechers = [peer.have for peer in self.peers if not peer.whole]
        if (
            (leechers or self._others_download)
            and not self._in_order
            and self._is_slow(self.peers)
        ):
            random.shuffle(self._todo)
            counts = bitmap.sums(leechers, len(self._done))
            self._todo.sort(key=counts.__getitem__, reverse=True)
        self._sorted = True


def _bits_of(indexes: Iterable[int], count: int) -> int:
    """Return the number that has these bits of `count`."""
    flags = bytearray(count)
    for index in indexes:
        flags[index] = 1
    return int.from_bytes(bitmap.pack(flags), "little")


def _owed_since(owners: Iterable[PeerState], index: int) -> float:
    return min(max(owner.asked[index], owner.last_arrival) for owner in owners)


def _typical_seconds(peers: Iterable[PeerState]) -> float:
    """Return how long a chunk usually takes, 0 if no peer has sent one."""
    times = [peer.chunk_seconds for peer in peers]
    known = [seconds for seconds in times if seconds is not None]
    return statistics.median(known) if known else 0.0
