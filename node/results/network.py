"""The network around the node: contacts, invitations and providers."""

from __future__ import annotations

import msgspec

from node.results.node import Reachability
from node.results.result import Result


class PeerEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A contact in the routing table."""

    node_id: str
    address: str
    rtt_ms: float | None
    age_seconds: float


class PeersResult(Result, frozen=True, kw_only=True):
    """The contacts of the node."""

    contacts: list[PeerEntry]
    reachability: Reachability | None = None


class InviteResult(Result, frozen=True, kw_only=True):
    """A line that joins, and until when it is taken."""

    invitation: str
    expires: int


class MeetResult(Result, frozen=True, kw_only=True):
    """How many of the contacts answered; the node goes on trying the others."""

    asked: int
    answered: int


class ProviderEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A node that offers a digest, and how it is reached (see `Reachability`)."""

    node_id: str
    address: str
    reach: str = "unknown"


class LookupResult(Result, frozen=True, kw_only=True):
    """Who offers a digest, and what finding them cost."""

    digest: str
    providers: list[ProviderEntry]
    seconds: float
    requests: int
