"""Composing: the datagram of a request, with its flags, padding and proof."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dht.identity import PROOF_BYTES
from dht.limits import REQUEST_BYTES_MIN
from dht.wire import Request, RequestFlag, add_proof, encode_unproved, kind_of

if TYPE_CHECKING:
    from dht.core import Core
    from dht.in_flight import Question


def compose(core: Core, question: Question, now: float) -> bytes:
    """Return the datagram of a request that is sent now.

    Its first sending to a stranger is padded, so that the whole reply is no longer;
    what is sent again is not: many of those who stay silent were never there.
    """
    token = core.peer_memory.token(question.address, now)
    request = Request(
        1,
        kind_of(question.body),
        question.transaction,
        core.public_key,
        _flags(core, question, now),
        token,
        question.body,
    )
    size = question.size or (0 if token else question.first_bytes)
    size = max(size, REQUEST_BYTES_MIN) - core.envelope.overhead
    contact = question.contact
    if question.introduces and token and contact is not None:
        part = _padded(request, size - PROOF_BYTES)
        proof = core.proof_for(contact.public_key, part)
    else:
        part, proof = _padded(request, size), b""
    receiver = None if contact is None else contact.public_key
    return core.envelope.wrap(add_proof(part, proof), receiver)


def _flags(core: Core, question: Question, now: float) -> int:
    """Return what a request tells of this node and wants of the other."""
    flags = question.flags
    if 4 in core.families and not question.is_bare:
        flags |= RequestFlag.IPV4
    if 6 in core.families and not question.is_bare:
        flags |= RequestFlag.IPV6
    if core.reach.is_read_only(question.address):
        flags |= RequestFlag.READ_ONLY
    contact = question.contact
    if contact is None or not core.peer_memory.is_proven(contact, now):
        flags |= RequestFlag.PROOF
    return flags


def _padded(request: Request, size: int) -> bytes:
    """Return a request up to its proof, so that with an empty one it has `size`."""
    part = encode_unproved(request)
    missing = size - len(part) - 2
    if missing <= 0:
        return part
    # The padding is the last element before the proof and was empty: c4 00.
    if missing <= 255:
        return part[:-1] + bytes([missing]) + bytes(missing)
    missing -= 1
    return part[:-2] + b"\xc5" + missing.to_bytes(2, "big") + bytes(missing)
