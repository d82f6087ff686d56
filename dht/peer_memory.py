"""What this node remembers of others: tokens, proofs, silence, round-trip times.

All of it is bounded and all of it may be forgotten: then a token is asked for, or a
proof, once more.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from dht.fairness import TtlSet
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


_NEVER: Final = (0, 0.0)
_NO_TOKEN: Final = (b"", 0.0)


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


class Counts:
    """How often something was done with a name, until some time; bounded."""

    __slots__ = ("_entries",)

    def __init__(self) -> None:
        self._entries: OrderedDict[bytes, tuple[int, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def of(self, name: bytes, now: float) -> int:
        """Return how often it was done."""
        count, until = self._entries.get(name, _NEVER)
        return count if until > now else 0

    def add(self, name: bytes, now: float, seconds: float, *, renew: bool) -> None:
        """Count once more; it ends `seconds` from the first time, or from the last."""
        count, until = self._entries.pop(name, _NEVER)
        if until <= now:
            count, until = 0, now + seconds
        elif renew:
            until = now + seconds
        self._entries[name] = (count + 1, until)
        if len(self._entries) > PEERS_REMEMBERED_MAX:
            self._entries.popitem(last=False)

    def discard(self, name: bytes) -> None:
        """Forget a name."""
        self._entries.pop(name, None)


class UnresponsivePeers:
    """Addresses that lately did not answer, and what strangers were asked in vain.

    Where several addresses of one public host are silent, the host is left alone.
    A host, and an address, gets so many requests before its first answer: false
    contacts can make this node knock neither at every port of a victim, nor at one
    again and again.
    """

    __slots__ = ("_addresses", "_hosts", "_knocks", "_knocks_at_host")

    def __init__(self) -> None:
        self._addresses = TtlSet(DEAD_SECONDS, PEERS_REMEMBERED_MAX)
        self._hosts = Counts()
        self._knocks = Counts()
        self._knocks_at_host = Counts()

    def __bool__(self) -> bool:
        """Whether anybody is silent or was asked in vain."""
        return bool(self._addresses or self._hosts or self._knocks)

    def add(self, address: Address, now: float) -> None:
        """Note that an address did not answer."""
        self._addresses.add(address.packed, now)
        if address.group is not None:
            self._hosts.add(address.packed[:-2], now, DEAD_SECONDS, renew=True)

    def has(self, address: Address, now: float) -> bool:
        """Whether an address should not be asked now."""
        if self._addresses.has(address.packed, now):
            return True
        return self._hosts.of(address.packed[:-2], now) >= DEAD_ADDRESSES_PER_HOST_MAX

    def may_ask_stranger(self, address: Address, now: float) -> bool:
        """Whether a stranger may be asked; if so, the request is counted.

        Loopback, link-local and private ranges are exempt.
        """
        if address.group is None:
            return True
        name, host = address.packed, address.packed[:-2]
        if (
            self._knocks.of(name, now) >= STRANGER_REQUESTS_PER_ADDRESS_MAX
            or self._knocks_at_host.of(host, now) >= STRANGER_REQUESTS_PER_HOST_MAX
        ):
            return False
        self._knocks.add(name, now, STRANGER_REQUESTS_SECONDS, renew=False)
        self._knocks_at_host.add(host, now, DEAD_SECONDS, renew=False)
        return True

    def discard(self, address: Address) -> None:
        """Note that an address has answered after all."""
        host = address.packed[:-2]
        self._addresses.discard(address.packed)
        self._hosts.discard(host)
        self._knocks.discard(address.packed)
        self._knocks_at_host.discard(host)


class PeerMemory:
    """Tokens that others gave, and contacts that have proved their id."""

    __slots__ = ("_proven", "_tokens", "round_trips", "unresponsive")

    def __init__(self) -> None:
        # By packed address and by packed contact, whose hash is at hand.
        self._tokens: OrderedDict[bytes, tuple[bytes, float]] = OrderedDict()
        self._proven: OrderedDict[bytes, float] = OrderedDict()
        self.round_trips = RoundTrips()
        self.unresponsive = UnresponsivePeers()

    def token(self, address: Address, now: float) -> bytes:
        """Return the token an address gave, or nothing where it may be too old."""
        token, until = self._tokens.get(address.packed, _NO_TOKEN)
        return token if until > now else b""

    def remember_token(self, address: Address, token: bytes, now: float) -> None:
        """Remember the token of an address."""
        self._tokens[address.packed] = (token, now + TOKEN_USE_SECONDS)
        self._tokens.move_to_end(address.packed)
        if len(self._tokens) > PEERS_REMEMBERED_MAX:
            self._tokens.popitem(last=False)

    def is_proven(self, contact: Contact, now: float) -> bool:
        """Whether a contact has proved its id at this address lately."""
        return self._proven.get(contact.packed, 0.0) > now

    def remember_proof(self, contact: Contact, now: float) -> None:
        """Remember that a contact has proved its id."""
        self._proven[contact.packed] = now + PROOF_SECONDS
        self._proven.move_to_end(contact.packed)
        if len(self._proven) > PEERS_REMEMBERED_MAX:
            self._proven.popitem(last=False)

    def forget_proof(self, contact: Contact) -> None:
        """Ask a contact for its proof again, next time."""
        self._proven.pop(contact.packed, None)

    def expire(self, now: float) -> None:
        """Forget what is too old to be used; both are in the order of their end."""
        while self._proven and next(iter(self._proven.values())) <= now:
            self._proven.popitem(last=False)
        while self._tokens and next(iter(self._tokens.values()))[1] <= now:
            self._tokens.popitem(last=False)
