"""The slice sender: brings what one keeper has of a region up to date.

1. A keeper that has all slices up to some time of issue gets the later ones, in order
   of issue, as many in a datagram as fit.
2. The last datagram asks for a summary. Where that differs from what the keeper should
   have (it was restarted, has dropped something, or kept what this node no longer
   knows), it gets an empty slice of the whole region, which drops everything there, and
   then all slices.
3. A keeper that is new to this node, or that is due for a renewal, is only asked for
   the summary where there is much to send: it may have everything from before.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, NamedTuple

from dht.contacts import pack_contacts
from dht.inventory import SLICE_HEAD_BYTES, content_id
from dht.limits import DATAGRAM_BYTES_MAX, SLICES_PER_ANNOUNCE_MAX
from dht.wire import Announce, Stored

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from dht.contacts import Contact
    from dht.core import Core
    from dht.in_flight import ProvenReply
    from dht.inventory import Block, InventorySlice
    from dht.providers import NodeRecord
    from dht.rpc_client import RpcClient
    from dht.wire import Announced

_LIMITED_SECONDS: Final = 1.0  # pause where a keeper asks for patience
_LIMITED_PAUSES_MAX: Final = 30
# An announce without its slices and introducers: the request (array, version, kind,
# transaction, sender, flags, token, padding, proof), then write token, port, expiry,
# signature, region, the heads of slices and introducers, and whether to sum up.
_HEAD_BYTES: Final = (1 + 1 + 1 + 10 + 34 + 2 + 10 + 3 + 2) + (
    1 + 10 + 3 + 6 + 66 + 7 + 1 + 3 + 1
)
NOTHING: Final = -1
"""What a keeper has that is not known to have anything."""


class Holding(NamedTuple):
    """What a keeper of a region should have."""

    region: Block
    slices: Sequence[InventorySlice]  # by time of issue
    content: int  # the XOR of their content ids

    @classmethod
    def of(cls, region: Block, slices: Sequence[InventorySlice]) -> Holding:
        """Return what a keeper should have of a region."""
        content = 0
        for each in slices:
            if each.entries:
                content ^= content_id(each.block, each.entries)
        return cls(region, sorted(slices, key=lambda each: each.issued_at), content)


class SliceSender:
    """Sends announces to one keeper, one after the other."""

    def __init__(
        self,
        *,
        core: Core,
        rpc_client: RpcClient,
        in_flight: asyncio.Semaphore,
        node: NodeRecord,
        empty: Callable[[Block, int], InventorySlice],
    ) -> None:
        """`empty` signs a slice of a block without entries, later than a time."""
        self._core = core
        self._rpc_client = rpc_client
        self._in_flight = in_flight
        self._node = node
        self._empty = empty
        self._pauses = _LIMITED_PAUSES_MAX
        self.requests = 0

    async def bring(
        self, reply: ProvenReply, holding: Holding, has: int, *, due: bool
    ) -> int:
        """Return up to which time of issue the keeper has all slices afterwards.

        `has` is the same before, `NOTHING` where that is not known. A keeper that is
        `due` gets the node record at least.
        """
        lacking = [each for each in holding.slices if each.issued_at > has]
        if has == NOTHING and len(lacking) > SLICES_PER_ANNOUNCE_MAX:
            lacking = []
        elif not lacking and not due:
            return has
        token = reply.body.write_token
        for is_reset in (False, True):
            has, token, last = await self._send(
                reply.contact, token, holding, lacking=lacking, has=has
            )
            if last is None:
                return has
            # Equal sums mean equal content, whatever was sent or lost before.
            if last.content == holding.content:
                return holding.slices[-1].issued_at if holding.slices else 0
            if is_reset:
                break
            has = NOTHING
            lacking = list(holding.slices)
            if last.content:
                lacking.insert(0, self._empty(holding.region, last.newest))
        return NOTHING

    async def _send(
        self,
        contact: Contact,
        token: bytes,
        holding: Holding,
        *,
        lacking: Sequence[InventorySlice],
        has: int,
    ) -> tuple[int, bytes, Announced | None]:
        """Send slices in order; return what the keeper has, a token, its last word.

        There is no last word where a slice was refused, or nothing was answered.
        """
        parts = list(self._parts(lacking)) or [[]]
        for number, part in enumerate(parts):
            is_last = number == len(parts) - 1
            left = list(part)
            while True:
                body = self._body(token, holding.region, left, summary=is_last)
                answer = await self._call(contact, body)
                if answer is None:
                    return has, token, None
                if answer.status == Stored.BAD_TOKEN:
                    fresh = await self._fresh_token(contact, holding.region)
                    if fresh is None:
                        return has, token, None
                    token = fresh
                    continue
                done = _stored(answer)
                # In order of issue, so the last one stored bounds all before it.
                if done:
                    has = max(has, left[done - 1].issued_at)
                left = left[done:]
                limited = Stored.LIMITED in (answer.status, *answer.statuses[done:])
                if not limited:
                    break
                if not self._pauses:
                    return has, token, None
                self._pauses -= 1
                # The keeper verifies only so many signatures a second for one sender.
                await asyncio.sleep(_LIMITED_SECONDS)
            if left or answer.status != Stored.STORED:
                return has, token, None
        return has, token, answer

    async def _call(self, contact: Contact, body: Announce) -> Announced | None:
        async with self._in_flight:
            self.requests += 1
            answer = await self._rpc_client.call(contact, body)
        return None if answer is None else answer.body

    async def _fresh_token(self, contact: Contact, region: Block) -> bytes | None:
        """Return a write token for a region, once more; None after too many."""
        if not self._pauses:
            return None
        self._pauses -= 1
        target = region.start.to_bytes(4, "big") + bytes(28)
        async with self._in_flight:
            self.requests += 1
            answer = await self._rpc_client.write_token(contact, target)
        return None if answer is None else answer.body.write_token

    def _body(
        self,
        token: bytes,
        region: Block,
        slices: Sequence[InventorySlice],
        *,
        summary: bool,
    ) -> Announce:
        node = self._node
        return Announce(
            token,
            node.address.port,
            node.expires_at,
            node.signature,
            region.packed,
            [each.packed for each in slices],
            pack_contacts(node.introducers),
            summary,
        )

    def _parts(
        self, slices: Sequence[InventorySlice]
    ) -> Iterator[list[InventorySlice]]:
        """Yield slices by the datagram."""
        room = DATAGRAM_BYTES_MAX - self._core.envelope.overhead - _HEAD_BYTES
        room -= len(pack_contacts(self._node.introducers))
        part: list[InventorySlice] = []
        taken = 0
        for each in slices:
            size = SLICE_HEAD_BYTES + len(each.entries) + 2
            if part and (taken + size > room or len(part) == SLICES_PER_ANNOUNCE_MAX):
                yield part
                part, taken = [], 0
            part.append(each)
            taken += size
        if part:
            yield part


def _stored(answer: Announced) -> int:
    """Return how many slices were stored before the first that was not."""
    done = 0
    for status in answer.statuses:
        if status != Stored.STORED:
            break
        done += 1
    return done
