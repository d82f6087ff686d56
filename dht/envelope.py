"""The prefix of every datagram: which network it belongs to.

A public network's prefix is its 8-byte tag: it keeps strangers apart and proves
nothing. A private network's is a MAC over the rest, a time in seconds and a nonce:
without the secret nothing is answered, and what was seen before or is older than
the window is dropped. UDP is thereby authenticated, not secret.
"""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING, Final, Protocol

from dht.errors import DatagramError
from dht.limits import CLOCK_WINDOW_SECONDS, DATAGRAM_BYTES_MAX, REPLAY_MACS_MAX

if TYPE_CHECKING:
    import random

    from dht.clock import Clock
    from dht.keys import Network

MAC_BYTES: Final = 16
TIME_BYTES: Final = 4
NONCE_BYTES: Final = 4
_MAC_PREFIX: Final = b"caravan datagram 1"


class Envelope(Protocol):
    """Wraps messages for a network and opens what came."""

    overhead: int

    def wrap(self, message: bytes) -> bytes:
        """Return the datagram of a message."""

    def open(self, datagram: bytes) -> bytes:
        """Return the message of a datagram; raises `DatagramError`."""


def envelope_for(network: Network, clock: Clock, rng: random.Random) -> Envelope:
    """Return the envelope of a network."""
    if network.secret is None:
        return PublicEnvelope(network)
    return PrivateEnvelope(network, clock, rng)


class PublicEnvelope:
    """The tag of a public network before each message."""

    def __init__(self, network: Network) -> None:
        self._tag = network.tag
        self.overhead = len(self._tag)

    def wrap(self, message: bytes) -> bytes:
        """Return the datagram of a message."""
        return self._tag + message

    def open(self, datagram: bytes) -> bytes:
        """Return the message of a datagram; raises `DatagramError`."""
        if len(datagram) > DATAGRAM_BYTES_MAX:
            raise DatagramError("long")
        if not datagram.startswith(self._tag):
            raise DatagramError("network")
        return datagram[self.overhead :]


class PrivateEnvelope:
    """A MAC, a time and a nonce before each message."""

    def __init__(self, network: Network, clock: Clock, rng: random.Random) -> None:
        self._secret = network.key(b"caravan datagram key")
        self._tag = network.tag
        self._clock = clock
        self._rng = rng
        self._seen = ReplayWindow()
        self.overhead = MAC_BYTES + TIME_BYTES + NONCE_BYTES

    def wrap(self, message: bytes) -> bytes:
        """Return the datagram of a message."""
        # The nonce lets the same message be sent twice within a second.
        stamp = int(self._clock.time()).to_bytes(TIME_BYTES, "big")
        rest = stamp + self._rng.randbytes(NONCE_BYTES) + message
        return self._mac(rest) + rest

    def open(self, datagram: bytes) -> bytes:
        """Return the message of a datagram; raises `DatagramError`."""
        if len(datagram) > DATAGRAM_BYTES_MAX:
            raise DatagramError("long")
        if len(datagram) < self.overhead:
            raise DatagramError("short")
        mac, rest = datagram[:MAC_BYTES], datagram[MAC_BYTES:]
        if not hmac.compare_digest(mac, self._mac(rest)):
            raise DatagramError("mac")
        stamp = int.from_bytes(rest[:TIME_BYTES], "big")
        now = self._clock.time()
        if abs(now - stamp) > CLOCK_WINDOW_SECONDS:
            raise DatagramError("time")
        if not self._seen.is_new(mac, stamp, now):
            raise DatagramError("replay")
        return rest[TIME_BYTES + NONCE_BYTES :]

    def _mac(self, rest: bytes) -> bytes:
        message = _MAC_PREFIX + self._tag + rest
        return hmac.digest(self._secret, message, "sha256")[:MAC_BYTES]


class ReplayWindow:
    """The MACs of the last minutes, sorted into slots by the time they carry.

    Only members of the network can add to it. Past its bound the oldest slot goes
    first, together with everything of its age: fewer replays are then known, and
    datagrams of a forgotten slot are refused.
    """

    __slots__ = ("_count", "_forgotten_until", "_slots")

    def __init__(self) -> None:
        self._slots: dict[int, set[bytes]] = {}
        self._count = 0
        self._forgotten_until = 0

    def is_new(self, mac: bytes, stamp: int, now: float) -> bool:
        """Remember a MAC; False if it was seen or is too old to tell."""
        if stamp < self._forgotten_until:
            return False
        slot = self._slots.get(stamp)
        if slot is None:
            self._forget(int(now) - CLOCK_WINDOW_SECONDS)
            slot = self._slots[stamp] = set()
        if mac in slot:
            return False
        slot.add(mac)
        self._count += 1
        if self._count > REPLAY_MACS_MAX:
            self._forget(min(self._slots) + 1)
        return True

    def _forget(self, before: int) -> None:
        """Drop all slots older than a time in seconds."""
        for stamp in [stamp for stamp in self._slots if stamp < before]:
            self._count -= len(self._slots.pop(stamp))
            self._forgotten_until = max(self._forgotten_until, stamp + 1)
