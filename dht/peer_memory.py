"""What this node remembers of peers: tokens, proofs, silence, round-trip times.

All of it is bounded and all of it may be forgotten: then a token is asked for, or a
proof, once more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dht.bounded import TtlMap, TtlSet
from dht.limits import (
    DEAD_ADDRESSES_PER_HOST_MAX,
    DEAD_SECONDS,
    PEERS_REMEMBERED_MAX,
    PROOF_SECONDS,
    RETRANSMIT_SECONDS_MIN,
    SOFT_TIMEOUT_SECONDS,
    SOFT_TIMEOUT_SECONDS_MAX,
    SOFT_TIMEOUT_SECONDS_MIN,
    STRANGER_REQUESTS_PER_ADDRESS_MAX,
    STRANGER_REQUESTS_PER_HOST_MAX,
    STRANGER_REQUESTS_SECONDS,
    TOKEN_USE_SECONDS,
)

if TYPE_CHECKING:
    from dht.addresses import Address
    from dht.contacts import Contact


class RoundTrips:
    """An estimate of round-trip times (RFC 6298), which sets the soft timeout."""

    __slots__ = ("_deviation", "_mean")

    def __init__(self) -> None:
        self._mean: float | None = None
        self._deviation = 0.0

    def add(self, seconds: float) -> None:
        """Note how long an answer took that was asked for once only."""
        if self._mean is None:
            self._mean, self._deviation = seconds, seconds / 2
            return
        error = abs(self._mean - seconds)
        self._deviation = 0.75 * self._deviation + 0.25 * error
        self._mean = 0.875 * self._mean + 0.125 * seconds

    def is_early(self, seconds: float) -> bool:
        """Whether no answer comes as soon as that."""
        return self._mean is not None and seconds < self._mean / 2

    @property
    def soft_timeout(self) -> float:
        """Seconds after which a silent contact no longer holds a slot."""
        if self._mean is None:
            return SOFT_TIMEOUT_SECONDS
        late = self._mean + 4 * self._deviation
        return min(max(late, SOFT_TIMEOUT_SECONDS_MIN), SOFT_TIMEOUT_SECONDS_MAX)

    @property
    def retransmit(self) -> float:
        """Seconds after which a request is sent once more."""
        return max(RETRANSMIT_SECONDS_MIN, self.soft_timeout)


class UnresponsivePeers:
    """Addresses that lately did not answer, and unanswered requests to strangers.

    Where several addresses of one public host are silent, the host is left alone.
    A host, and an address, gets so many requests before its first answer: with false
    contacts an attacker can aim this node neither at every port of a victim, nor at
    one port again and again.
    """

    __slots__ = ("_addresses", "_contacts", "_hosts", "_requests", "_requests_at_host")

    def __init__(self) -> None:
        size = PEERS_REMEMBERED_MAX
        self._addresses: TtlSet[bytes] = TtlSet(DEAD_SECONDS, size)
        self._contacts: TtlSet[bytes] = TtlSet(DEAD_SECONDS, size)
        self._hosts: TtlMap[bytes, int] = TtlMap(DEAD_SECONDS, size)
        # Requests to strangers: the time counts from the first one.
        self._requests: TtlMap[bytes, int] = TtlMap(STRANGER_REQUESTS_SECONDS, size)
        self._requests_at_host: TtlMap[bytes, int] = TtlMap(DEAD_SECONDS, size)

    def add(self, address: Address, now: float) -> None:
        """Record that an address did not answer."""
        self._addresses.add(address.packed, now)
        if address.group is not None:
            host = address.packed[:-2]
            self._hosts.put(host, (self._hosts.get(host, now) or 0) + 1, now)

    def add_contact(self, contact: Contact, now: float) -> None:
        """Record that a contact did not answer, which says nothing of its address.

        In a private network a request reaches only the node whose key it names.
        """
        self._contacts.add(contact.packed, now)

    def has(self, contact: Contact, now: float) -> bool:
        """Whether a contact should not be asked now: it, its address or its host."""
        address = contact.address
        if self._addresses.has(address.packed, now):
            return True
        if self._contacts.has(contact.packed, now):
            return True
        silent = self._hosts.get(address.packed[:-2], now) or 0
        return silent >= DEAD_ADDRESSES_PER_HOST_MAX

    def has_address(self, address: Address, now: float) -> bool:
        """Whether this very address, not only its host, did not answer lately."""
        return self._addresses.has(address.packed, now)

    def may_ask_stranger(self, address: Address, now: float) -> bool:
        """Whether a stranger may be asked; if so, the request is counted.

        Loopback, link-local and private ranges are exempt.
        """
        if address.group is None:
            return True
        name, host = address.packed, address.packed[:-2]
        at_address = self._requests.get(name, now) or 0
        at_host = self._requests_at_host.get(host, now) or 0
        if (
            at_address >= STRANGER_REQUESTS_PER_ADDRESS_MAX
            or at_host >= STRANGER_REQUESTS_PER_HOST_MAX
        ):
            return False
        until = self._requests.end_of(name) if at_address else None
        self._requests.put(name, at_address + 1, now, until=until)
        until = self._requests_at_host.end_of(host) if at_host else None
        self._requests_at_host.put(host, at_host + 1, now, until=until)
        return True

    def discard(self, address: Address) -> None:
        """Record that an address has answered after all."""
        host = address.packed[:-2]
        self._addresses.discard(address.packed)
        self._hosts.discard(host)
        self._requests.discard(address.packed)
        self._requests_at_host.discard(host)


class PeerMemory:
    """Tokens that others gave, and contacts that have proved their id.

    Both are kept by packed bytes, whose hash is at hand.
    """

    __slots__ = ("_proven", "_tokens", "round_trips", "unresponsive")

    def __init__(self) -> None:
        size = PEERS_REMEMBERED_MAX
        self._tokens: TtlMap[bytes, bytes] = TtlMap(TOKEN_USE_SECONDS, size)
        self._proven: TtlSet[bytes] = TtlSet(PROOF_SECONDS, size)
        self.round_trips = RoundTrips()
        self.unresponsive = UnresponsivePeers()

    def token(self, address: Address, now: float) -> bytes:
        """Return the token an address gave, or nothing where it may be too old."""
        return self._tokens.get(address.packed, now) or b""

    def remember_token(self, address: Address, token: bytes, now: float) -> None:
        """Remember the token of an address."""
        self._tokens.put(address.packed, token, now)

    def is_proven(self, contact: Contact, now: float) -> bool:
        """Whether a contact has proved its id at this address lately."""
        return self._proven.has(contact.packed, now)

    def remember_proof(self, contact: Contact, now: float) -> None:
        """Remember that a contact has proved its id."""
        self._proven.add(contact.packed, now)

    def forget_proof(self, contact: Contact) -> None:
        """Ask a contact for its proof again, next time."""
        self._proven.discard(contact.packed)

    def expire(self, now: float) -> None:
        """Forget what is too old to be used."""
        self._proven.expire(now)
        self._tokens.expire(now)
