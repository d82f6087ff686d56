"""Judging a reply: which node gave it, and whether its id is proven."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from dht.contacts import Contact, contact_of
from dht.wire import HINT_BYTES, proved_part

if TYPE_CHECKING:
    from dht.addresses import Address
    from dht.core import Core
    from dht.in_flight import Question
    from dht.wire import Reply


class Received(NamedTuple):
    """A reply as it came: its bytes, and the address in it."""

    reply: Reply
    packed: bytes
    observed: Address
    now: float


def answerer(core: Core, question: Question, received: Received) -> Contact | None:
    """Return the contact that gave a reply; None, and counted, if it is in doubt."""
    reply = received.reply
    if reply.proof:
        return _proven(core, question, received)
    contact = question.contact
    if contact is None or not core.peer_memory.is_proven(contact, received.now):
        core.stats["refused.unproven"] += 1
        return None
    if contact.node_id[:HINT_BYTES] != reply.hint:
        core.peer_memory.forget_proof(contact)
        core.stats["refused.other_node"] += 1
        return None
    return contact


def _proven(core: Core, question: Question, received: Received) -> Contact | None:
    """Check a reply's proof of id and return the contact that it proves."""
    reply, packed, observed, now = received
    key, proof = reply.proof[:32], reply.proof[32:]
    contact = question.contact or contact_of(key, question.address)
    if contact.public_key != key or contact.node_id[:HINT_BYTES] != reply.hint:
        core.stats["refused.other_node"] += 1
        return None
    part = proved_part(packed, reply.proof)
    if key == core.public_key or not core.is_proof_of(key, proof, part):
        core.stats["refused.proof"] += 1
        return None
    # A contact of the table is heard: when the own address has changed, all of them
    # contradict what was reported before.
    known = contact in core.table_of(contact.address)
    if not known and core.reach.contradicts(observed, question.address):
        core.stats["refused.relayed"] += 1
        return None
    core.peer_memory.remember_proof(contact, now)
    return contact
