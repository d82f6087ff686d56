"""Kademlia for Caravan: keys, contacts and signed records, and nothing of packages.

`Dht` is the node; everything else here is what it takes and returns.
"""

from __future__ import annotations

from dht.addresses import Address, Scope
from dht.alerts import NotifyReport
from dht.announcer import OfferReport
from dht.clock import Clock, SystemClock
from dht.contacts import Contact, ContactStatus
from dht.dial_back import Reachable, ReachVerdict
from dht.errors import AddressError, DhtClosedError, DhtError, RecordError
from dht.identity import KeySigner, Signer, Verify, is_weak_key, verify_ed25519
from dht.introductions import CalledBy, Way
from dht.keys import (
    Network,
    delegation_key,
    distance,
    follow_key,
    provider_key,
    release_key,
)
from dht.placement import PlacementReport
from dht.provider_search import ProviderSearch
from dht.providers import ProviderRecord
from dht.record_client import RecordSearch, StoreReport
from dht.records import Delegation, ReleaseRecord, Urgency
from dht.service import Dht
from dht.transport import Sockets

ClosedError = DhtClosedError
"""The name that the error had in version 0.1."""

__all__ = [
    "Address",
    "AddressError",
    "CalledBy",
    "Clock",
    "ClosedError",
    "Contact",
    "ContactStatus",
    "Delegation",
    "Dht",
    "DhtClosedError",
    "DhtError",
    "KeySigner",
    "Network",
    "NotifyReport",
    "OfferReport",
    "PlacementReport",
    "ProviderRecord",
    "ProviderSearch",
    "ReachVerdict",
    "Reachable",
    "RecordError",
    "RecordSearch",
    "ReleaseRecord",
    "Scope",
    "Signer",
    "Sockets",
    "StoreReport",
    "SystemClock",
    "Urgency",
    "Verify",
    "Way",
    "delegation_key",
    "distance",
    "follow_key",
    "is_weak_key",
    "provider_key",
    "release_key",
    "verify_ed25519",
]
