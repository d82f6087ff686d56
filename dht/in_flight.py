"""Requests under way, as values: one to be sent, one to be answered, and a reply."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from dht.contacts import Contact

if TYPE_CHECKING:
    from dht.addresses import Address
    from dht.wire import MessageBody, Request


class ProvenReply(NamedTuple):
    """A reply that counts: from the contact asked, its id proven."""

    contact: Contact
    body: Any  # the struct that belongs to the request's kind
    flags: int
    observed: Address


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A request as it is sent once: to whom, what, and how long at least."""

    address: Address
    contact: Contact | None
    body: MessageBody
    transaction: bytes
    flags: int
    size: int
    """The least length of the datagram."""
    first_bytes: int
    """The same, to an address that gave no token yet; 0 for a repetition."""
    introduces: bool
    """Whether it carries a proof of this node's id."""
    is_bare: bool = False
    """Whether the reply need name no contacts."""


class Asked:
    """A request being answered: who asks, and how much room the reply has."""

    __slots__ = ("echoed", "flags", "now", "request", "room", "sender", "truncated")

    def __init__(
        self, request: Request, sender: Contact, now: float, *, echoed: bool
    ) -> None:
        self.request = request
        self.sender = sender
        self.now = now
        self.echoed = echoed  # the address has shown that it receives our replies
        self.flags = 0  # of the reply
        self.room = 0  # bytes left for the body
        self.truncated = False

    @property
    def source(self) -> Address:
        """The address that asks."""
        return self.sender.address
