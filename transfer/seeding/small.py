"""Small artifacts given outright: a whole one for each `ask`, many in one send.

What a connection has asked so far is answered together: one look into the index,
then each file is read once. Its first sending, as far as the store knows, is
checked on the very bytes that are sent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from transfer.connection import wire
from transfer.errors import DamagedError, NotHeldError, WireError
from transfer.limits import ASKS_AT_ONCE_MAX

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from transfer.connection.channel import Channel
    from transfer.connection.rate_limit import RateLimiter
    from transfer.content.artifact import Artifact
    from transfer.content.digest import Digest
    from transfer.store.store import Store

_SEND_BYTES = 256 * 1024


class SmallResponder:
    """Answers asks from a store, in any thread."""

    def __init__(
        self,
        store: Store,
        rate: RateLimiter,
        may_serve: Callable[[Digest, bool], bool],
    ) -> None:
        self._store = store
        self._rate = rate
        self._may_serve = may_serve

    def answer(
        self, channel: Channel, first: wire.Ask
    ) -> tuple[list[tuple[int, Artifact]], wire.AnyMessage | None]:
        """Answer the first and those that have come behind it, in order.

        Returns what was given, by the numbers of the asks, and the message after.
        """
        asks, message = [first], channel.next_frame()
        while isinstance(message, wire.Ask):
            asks.append(message)
            message = channel.next_frame()
        if len(asks) > ASKS_AT_ONCE_MAX:
            raise WireError("The leecher asks for too much at once.")
        return self._answer(channel, asks), message

    def _answer(
        self, channel: Channel, asks: Sequence[wire.Ask]
    ) -> list[tuple[int, Artifact]]:
        held = self._held(asks)
        given: list[tuple[int, Artifact]] = []
        parts: list[bytes] = []
        size = 0
        for ask in asks:
            artifact = held.get((ask.algorithm, ask.digest))
            if artifact is None or not self._may_serve(artifact.digest, True):
                parts.append(wire.encode(self._absent(ask)))
                continue
            if artifact.size > ask.bytes_max:
                parts.append(wire.encode(wire.Larger(ask.number)))
                continue
            try:
                data = self._store.read_small(artifact)
            except (NotHeldError, DamagedError):
                parts.append(wire.encode(self._absent(ask)))
                continue
            parts += (wire.encode(wire.Whole(ask.number, len(data))), data)
            given.append((ask.number, artifact))
            size += len(data)
            if size >= _SEND_BYTES:
                self._send(channel, parts)
                size = 0
        self._send(channel, parts)
        return given

    def _held(self, asks: Sequence[wire.Ask]) -> dict[tuple[str, bytes], Artifact]:
        wanted: dict[str, list[bytes]] = {}
        for ask in asks:
            wanted.setdefault(ask.name.algorithm, []).append(ask.digest)
        return {
            (algorithm, raw): artifact
            for algorithm, raws in wanted.items()
            for raw, artifact in self._store.find_many(algorithm, raws).items()
        }

    def _absent(self, ask: wire.Ask) -> wire.Absent:
        under_way = self._store.partials.is_open(ask.name)
        return wire.Absent(
            ask.number, partial=under_way and self._may_serve(ask.name, False)
        )

    def _send(self, channel: Channel, parts: list[bytes]) -> None:
        """Send and forget `parts`, no faster than the rate allows."""
        view = memoryview(b"".join(parts))
        parts.clear()
        while view:
            step = self._rate.slice_bytes(len(view))
            self._rate.take(step)
            channel.send(view[:step])
            view = view[step:]


def drop_asks(channel: Channel) -> wire.AnyMessage | None:
    """Forget the asks that have come; return the other message behind them."""
    message = channel.next_frame()
    while isinstance(message, wire.Ask):
        message = channel.next_frame()
    return message
