"""What can go wrong in the DHT, as one family; each message is one sentence."""

from __future__ import annotations


class DhtError(Exception):
    """Something in the DHT could not be done."""


class AddressError(DhtError, ValueError):
    """This is not a numeric IP address with a port."""


class RecordError(DhtError):
    """This record is not what it claims to be, and is refused."""


class DatagramError(DhtError):
    """This datagram does not follow the protocol.

    `reason` is one word, under which it is counted.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(f"A datagram does not follow the protocol ({reason}).")
        self.reason = reason


class DhtClosedError(DhtError):
    """The DHT is not running."""
