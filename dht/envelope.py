"""The prefix of every datagram: which network it belongs to.

1. A public network's prefix is its 8-byte tag: it keeps strangers apart and proves
   nothing.
2. A private network's prefix is a MAC over a time in seconds, a nonce and the message.
   Without the secret nothing is answered. UDP is thereby authenticated, not secret.
3. The MAC covers the public key of the receiver too, so a datagram that was caught on
   its way to one member is worth nothing at another. Only a first ping may name no
   receiver: it goes to an address that a user gave, whose key is not known yet.
4. What was seen before, or is older or newer than the window, is dropped. The memory
   of what was seen is bounded, and the source that fills it forgets only its own.
"""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from dht.bounded import BoundedDict
from dht.errors import DatagramError
from dht.limits import CLOCK_WINDOW_SECONDS, DATAGRAM_BYTES_MAX, REPLAY_MACS_MAX
from dht.prefix_tree import Path, PrefixTree

if TYPE_CHECKING:
    import random

    from dht.addresses import Address
    from dht.clock import Clock
    from dht.keys import Network

MAC_BYTES: Final = 16
TIME_BYTES: Final = 4
NONCE_BYTES: Final = 4
_MAC_PREFIX: Final = b"caravan datagram 2"
_FORGETFUL_MAX: Final = 4096  # sources of which something was forgotten


class Opened(NamedTuple):
    """The message of a datagram, and whether it was surely meant for this node."""

    message: bytes
    is_addressed: bool


class DatagramEnvelope(Protocol):
    """Wraps messages for a network and opens datagrams."""

    overhead: int

    def wrap(self, message: bytes, receiver: bytes | None) -> bytes:
        """Return the datagram of a message to a public key, None if unknown."""

    def open(self, datagram: bytes, source: Address) -> Opened:
        """Return the message of a datagram; raise `DatagramError`."""


def envelope_for(
    network: Network, own_key: bytes, *, clock: Clock, rng: random.Random
) -> DatagramEnvelope:
    """Return the envelope of a network for a node with a public key."""
    if network.secret is None:
        return PublicEnvelope(network)
    return PrivateEnvelope(network, own_key, clock=clock, rng=rng)


class PublicEnvelope:
    """The tag of a public network before each message."""

    def __init__(self, network: Network) -> None:
        self._tag = network.tag
        self.overhead = len(self._tag)

    def wrap(self, message: bytes, receiver: bytes | None) -> bytes:
        """Return the datagram of a message."""
        del receiver
        return self._tag + message

    def open(self, datagram: bytes, source: Address) -> Opened:
        """Return the message of a datagram; raise `DatagramError`."""
        del source
        if len(datagram) > DATAGRAM_BYTES_MAX:
            raise DatagramError("long")
        if not datagram.startswith(self._tag):
            raise DatagramError("network")
        return Opened(datagram[self.overhead :], is_addressed=True)


class PrivateEnvelope:
    """A MAC, a time and a nonce before each message."""

    def __init__(
        self, network: Network, own_key: bytes, *, clock: Clock, rng: random.Random
    ) -> None:
        self._secret = network.key(b"caravan datagram key")
        self._tag = network.tag
        self._own_key = own_key
        self._clock = clock
        self._rng = rng
        self._seen = ReplayWindow()
        self.overhead = MAC_BYTES + TIME_BYTES + NONCE_BYTES

    def wrap(self, message: bytes, receiver: bytes | None) -> bytes:
        """Return the datagram of a message to a public key, None if unknown."""
        # The nonce lets the same message be sent twice within a second.
        stamp = int(self._clock.time()).to_bytes(TIME_BYTES, "big")
        rest = stamp + self._rng.randbytes(NONCE_BYTES) + message
        return self._mac(receiver or b"", rest) + rest

    def open(self, datagram: bytes, source: Address) -> Opened:
        """Return the message of a datagram; raise `DatagramError`."""
        if len(datagram) > DATAGRAM_BYTES_MAX:
            raise DatagramError("long")
        if len(datagram) < self.overhead:
            raise DatagramError("short")
        mac, rest = datagram[:MAC_BYTES], datagram[MAC_BYTES:]
        is_addressed = hmac.compare_digest(mac, self._mac(self._own_key, rest))
        if not is_addressed and not hmac.compare_digest(mac, self._mac(b"", rest)):
            raise DatagramError("mac")
        stamp = int.from_bytes(rest[:TIME_BYTES], "big")
        now = self._clock.time()
        if abs(now - stamp) > CLOCK_WINDOW_SECONDS:
            raise DatagramError("time")
        if not self._seen.is_new(mac, stamp, source=source, now=now):
            raise DatagramError("replay")
        return Opened(rest[TIME_BYTES + NONCE_BYTES :], is_addressed)

    def _mac(self, receiver: bytes, rest: bytes) -> bytes:
        """Return the MAC; the length of the receiver's key says where it ends."""
        message = b"".join(
            (_MAC_PREFIX, self._tag, bytes([len(receiver)]), receiver, rest)
        )
        return hmac.digest(self._secret, message, "sha256")[:MAC_BYTES]


class ReplayWindow:
    """The MACs of the last minutes, sorted by their source and the time they carry.

    Only members of the network can add to it. Past its bound the largest prefix of
    sources (`dht.prefix_tree`) forgets the oldest second of one source, and datagrams
    of that source from that second or before are refused from then on. So a member
    that floods, even with stamps of the future, shuts out only itself.
    """

    __slots__ = (
        "_count_max",
        "_forgotten_until",
        "_macs",
        "_slots",
        "_swept_at",
        "_tree",
    )

    def __init__(self, count_max: int = REPLAY_MACS_MAX) -> None:
        self._count_max = count_max
        self._macs: set[bytes] = set()
        self._slots: dict[Path, dict[int, list[bytes]]] = {}  # by source and stamp
        self._forgotten_until: BoundedDict[Path, int] = BoundedDict(_FORGETFUL_MAX)
        self._tree = PrefixTree()
        self._swept_at = 0

    def __len__(self) -> int:
        return len(self._macs)

    def is_new(self, mac: bytes, stamp: int, *, source: Address, now: float) -> bool:
        """Remember a MAC; False if it was seen or is too old to know."""
        self._sweep(int(now))
        path = source.path
        if mac in self._macs or stamp < self._forgotten_until.get(path, 0):
            return False
        self._macs.add(mac)
        self._slots.setdefault(path, {}).setdefault(stamp, []).append(mac)
        self._tree.add(path, 1)
        if len(self._macs) > self._count_max:
            loser = self._tree.largest()
            oldest = min(self._slots[loser])
            self._forgotten_until[loser] = oldest + 1
            self._forget(loser, oldest)
        return True

    def _sweep(self, now: int) -> None:
        """Once a second, forget what the window no longer lets in."""
        if now == self._swept_at:
            return
        self._swept_at = now
        before = now - CLOCK_WINDOW_SECONDS
        for path, slots in list(self._slots.items()):
            for stamp in [each for each in slots if each < before]:
                self._forget(path, stamp)

    def _forget(self, path: Path, stamp: int) -> None:
        """Drop the MACs of one source and second."""
        slots = self._slots[path]
        macs = slots.pop(stamp)
        if not slots:
            del self._slots[path]
        self._macs.difference_update(macs)
        self._tree.add(path, -len(macs))
