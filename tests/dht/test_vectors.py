"""Golden bytes of what is signed: another implementation must give the same."""

from __future__ import annotations

import json
import random
from pathlib import Path

from dht import (
    Address,
    Contact,
    Delegation,
    Network,
    delegation_key,
    follow_key,
    provider_key,
    release_key,
)
from dht.envelope import PrivateEnvelope
from dht.identity import prove
from dht.inventory import Block, InventorySlice, pack_entries
from tests.dht.builders import (
    NETWORK,
    NOW,
    HandClock,
    key,
    private_key,
    provider,
    release,
    signer,
)

VECTORS = Path(__file__).parents[1] / "vectors" / "dht_signed.json"


def ten() -> InventorySlice:
    """Return a slice of all keys from 0 to 9 that begin with a bit of 0."""
    keys = [key(number) for number in range(10) if key(number)[0] < 128]
    block = Block(1, 0)
    return InventorySlice.sign(
        signer(1),
        tag=NETWORK.tag,
        block=block,
        entries=pack_entries(keys, block.depth),
        issued_at=int(NOW) * 1000,
    )


def signed() -> dict[str, str]:
    """Return everything by name, as hexadecimal bytes."""
    lab = Network("lab", b"s" * 32)
    root, release_signer = private_key(1), private_key(2)
    delegation = Delegation.sign(
        root, signer(2).public_key, epoch=3, not_after=NOW + 1000
    )
    publisher = signer(1).public_key
    delegated = release(by=release_signer, epoch=3, delegation=delegation)
    secret = signer(1).secret_with(signer(2).public_key)
    assert secret is not None
    private = PrivateEnvelope(lab, publisher, clock=HandClock(), rng=random.Random(1))
    found = {
        "public key 1": publisher,
        "node id 1": Contact(publisher, Address("127.0.0.1", 4747)).node_id,
        "tag of caravan": NETWORK.tag,
        "tag of private lab": lab.tag,
        "provider key": provider_key(NETWORK, "sha256", key(0)),
        "provider key in private lab": provider_key(lab, "sha256", key(0)),
        "follow key": follow_key(NETWORK, publisher, "demo"),
        "release key": release_key(NETWORK, publisher, "demo"),
        "delegation key": delegation_key(NETWORK, publisher),
        "release record": release().raw,
        "delegation": delegation.raw,
        "delegated release record": delegated.raw,
        "provider record": provider(key(0), 1, Address("8.8.8.8", 4747)).packed,
        "provider record, IPv6": provider(key(0), 1, Address("2a00::1", 4747)).packed,
        "block of key 0, depth 7": Block.of(key(0), 7).packed,
        "slice of keys 0 to 9, first half": ten().packed,
        "content id of this slice": ten().content_id.to_bytes(8, "big"),
        "secret of keys 1 and 2": secret,
        "proof of key 1 to key 2": prove(
            secret, tag=NETWORK.tag, prover=publisher, part=b"part"
        ),
        "private datagram to key 2": private.wrap(b"message", signer(2).public_key),
        "private datagram to an unknown key": private.wrap(b"message", None),
        "release record of private lab": release(network=lab).raw,
    }
    return {name: value.hex() for name, value in found.items()}


def test_golden_bytes_of_keys_records_and_datagrams() -> None:
    """Ed25519 signatures are deterministic, so all of it is."""
    assert signed() == json.loads(VECTORS.read_text())
