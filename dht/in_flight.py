"""Requests under way: those this node has sent, and one that it is answering."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from dht.contacts import Contact

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from dht.addresses import Address
    from dht.wire import MessageBody, Request


class ProvenReply(NamedTuple):
    """A reply that counts: from the contact asked, its id proven."""

    contact: Contact
    body: Any  # the struct that belongs to the request's kind
    flags: int
    observed: Address


class InFlight:
    """A request on its way."""

    __slots__ = (
        "address",
        "again",
        "body",
        "contact",
        "continued",
        "done",
        "due_at",
        "excused",
        "first_bytes",
        "flags",
        "hearsay",
        "introduces",
        "last_sent_at",
        "late",
        "patience",
        "reminders",
        "sent_at",
        "size",
        "timer",
        "transaction",
        "tries",
    )

    def __init__(
        self,
        address: Address,
        contact: Contact | None,
        body: MessageBody,
        *,
        done: Callable[[ProvenReply | None], None],
    ) -> None:
        self.address = address
        self.contact = contact  # None: any node that answers there
        self.body = body
        self.done = done
        self.flags = 0
        self.size = 0  # least length of the datagram
        self.first_bytes = 0  # the same, to an address that gave no token yet
        self.sent_at = 0.0
        self.last_sent_at = 0.0
        self.tries = 0
        self.late: Callable[[], None] | None = None
        self.patience = 0  # reminders after which it is called
        self.due_at = 0.0  # when its timer runs out
        self.excused = False  # its end was put off because this machine was late
        self.reminders = 0  # how often its timer has run out
        self.again = True  # may be sent once more
        self.continued = False  # was asked again for what did not fit
        self.hearsay = False  # sent for another's sake
        self.introduces = False  # carries a proof of this node's id
        self.transaction = b""
        self.timer: asyncio.TimerHandle | None = None


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
