"""Small answers: a whole artifact for each `ask`, many in one send, and file names.

The asks that have come together are answered together: one look into the index, then
each file is read once. If a file was not checked since the node started, it is checked
on the very bytes that are sent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from transfer.connection import wire
from transfer.errors import DamagedError, NotHeldError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from transfer.content.artifact import Artifact
    from transfer.content.digest import Digest
    from transfer.store.store import Store

    Given = list[tuple[int, Artifact]]

_SEND_BYTES = 256 * 1024


class SmallResponder:
    """Answers asks from a store, in any thread."""

    def __init__(
        self,
        store: Store,
        may_serve: Callable[[Digest, bool], bool],
        name_of: Callable[[Digest], str],
    ) -> None:
        self._name_of = name_of
        self._store = store
        self._may_serve = may_serve

    def answer(self, asks: Sequence[wire.Ask]) -> Iterator[tuple[bytes, Given]]:
        """Yield the answers in order, joined into parts of some 256 KiB.

        With each part come the artifacts in it, by the numbers of their asks.
        """
        held = self._held(asks)
        given: Given = []
        parts: list[bytes] = []
        size = 0
        for ask in asks:
            artifact = held.get((ask.algorithm, ask.digest))
            data = None
            if artifact is None or not self._may_serve(artifact.digest, True):
                parts.append(wire.encode(self.absent(ask.number, ask.name)))
            elif artifact.size > ask.bytes_max:
                parts.append(wire.encode(wire.Larger(ask.number)))
            elif (data := self._read(artifact)) is None:
                parts.append(wire.encode(self.absent(ask.number, ask.name)))
            else:
                parts += (wire.encode(wire.Whole(ask.number, len(data))), data)
                given.append((ask.number, artifact))
                size += len(data)
            if size >= _SEND_BYTES:
                yield b"".join(parts), given
                given, parts, size = [], [], 0
        if parts:
            yield b"".join(parts), given

    def absent(self, number: int, name: Digest) -> wire.Absent:
        """Return the answer for what is not held whole, or may not be served."""
        under_way = self._store.partials.is_open(name) and self._may_serve(name, False)
        return wire.Absent(number, partial=under_way)

    def name(self, ask: wire.NameOf) -> wire.Named:
        """Return the answer to a leecher that asks for a file name."""
        artifact = self._store.find(ask.name)
        if artifact is None or not self._may_serve(artifact.digest, True):
            return wire.Named(ask.number, "")
        return wire.Named(ask.number, self._name_of(artifact.digest))

    def _held(self, asks: Sequence[wire.Ask]) -> dict[tuple[str, bytes], Artifact]:
        wanted: dict[str, list[bytes]] = {}
        for ask in asks:
            wanted.setdefault(ask.name.algorithm, []).append(ask.digest)
        return {
            (algorithm, raw): artifact
            for algorithm, raws in wanted.items()
            for raw, artifact in self._store.find_many(algorithm, raws).items()
        }

    def _read(self, artifact: Artifact) -> bytes | None:
        try:
            return self._store.read_small(artifact)
        except (NotHeldError, DamagedError):
            return None
