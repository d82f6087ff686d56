"""Judging: who gave an answer, and whether its id is proven, now or lately."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dht.contacts import Contact, contact_of
from dht.wire import HINT_BYTES, proved_part

if TYPE_CHECKING:
    from dht.addresses import Address
    from dht.core import Core
    from dht.in_flight import InFlight
    from dht.wire import Reply


def answerer(
    core: Core,
    pending: InFlight,
    reply: Reply,
    packed: bytes,
    observed: Address,
    now: float,
) -> Contact | None:
    """Return who gave a reply to a request; None, and counted, where it is in doubt.

    `packed` are the reply's bytes as they came, `observed` the address in it.
    """
    if reply.proof:
        return _proven(core, pending, reply, packed, observed, now)
    contact = pending.contact
    if contact is None or not core.peer_memory.is_proven(contact, now):
        core.stats["refused.unproven"] += 1
        return None
    if contact.node_id[:HINT_BYTES] != reply.hint:
        core.peer_memory.forget_proof(contact)
        core.stats["refused.other_node"] += 1
        return None
    core.reach.report(observed, pending.address)
    return contact


def _proven(
    core: Core,
    pending: InFlight,
    reply: Reply,
    packed: bytes,
    observed: Address,
    now: float,
) -> Contact | None:
    """Check a reply's proof of id and return whose it is."""
    key, proof = reply.proof[:32], reply.proof[32:]
    contact = pending.contact or contact_of(key, pending.address)
    if contact.public_key != key or contact.node_id[:HINT_BYTES] != reply.hint:
        core.stats["refused.other_node"] += 1
        return None
    part = proved_part(packed, reply.proof)
    if key == core.public_key or not core.is_proof_of(key, proof, part):
        core.stats["refused.proof"] += 1
        return None
    if not core.reach.report(observed, pending.address):
        core.stats["refused.relayed"] += 1
        return None
    core.peer_memory.remember_proof(contact, now)
    return contact
