"""What one node is made of, shared by those who ask and those who answer."""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import TYPE_CHECKING

from dht.envelope import envelope_for
from dht.fairness import TokenBuckets
from dht.identity import is_proof, prove
from dht.limits import PROOFS_MADE_PER_SOURCE_PER_SECOND, PROOFS_PER_SECOND
from dht.peer_memory import PeerMemory
from dht.routing import Table
from dht.tokens import Tokens

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from dht.addresses import Address
    from dht.clock import Clock
    from dht.contacts import Contact
    from dht.identity import Signer, Verify
    from dht.keys import Network
    from dht.reach import UdpReach


class Core:
    """The identity, tables, memory and counters of a node."""

    def __init__(
        self,
        *,
        signer: Signer,
        verify: Verify,
        network: Network,
        clock: Clock,
        rng: random.Random,
        reach: UdpReach,
    ) -> None:
        now = clock.monotonic()
        self.signer = signer
        self.public_key = signer.public_key
        self.node_id = hashlib.sha256(signer.public_key).digest()
        self.verify = verify
        self.network = network
        self.clock = clock
        self.rng = rng
        self.reach = reach
        self.envelope = envelope_for(network, clock, rng)
        self.tables = {4: Table(self.node_id, now), 6: Table(self.node_id, now)}
        self.peer_memory = PeerMemory()
        self.tokens = Tokens(rng, now)
        self.stats: Counter[str] = Counter()
        self.families: frozenset[int] = frozenset()
        self.on_new_contact: Callable[[Contact], None] = _nothing
        self.on_foreign: Callable[[bytes, Address], None] = _ignore_foreign
        self.on_lost_contact: Callable[[Contact], None] = _nothing
        self.on_questionable: Callable[[Contact], None] = _nothing
        self._proofs = TokenBuckets(PROOFS_PER_SECOND, 2 * PROOFS_PER_SECOND)
        rate = PROOFS_MADE_PER_SOURCE_PER_SECOND
        self._proofs_for = TokenBuckets(rate, 4 * rate)

    @property
    def known(self) -> int:
        """How many contacts the tables hold."""
        return sum(len(table) for table in self.tables.values())

    def table_of(self, address: Address) -> Table:
        """Return the table of an address's family."""
        return self.tables[address.family]

    def may_prove_to(self, source: bytes, now: float) -> bool:
        """Whether a proof may be made for a source: a new key costs a secret."""
        return self._proofs_for.take(source, now) and self._proofs.take(b"", now)

    def proof_for(self, public_key: bytes, part: bytes) -> bytes:
        """Return the proof of this node's id for a key; empty for a weak one."""
        secret = self.signer.secret_with(public_key)
        if secret is None:
            return b""
        return prove(secret, self.network.tag, self.public_key, part)

    def is_proof_of(self, public_key: bytes, proof: bytes, part: bytes) -> bool:
        """Whether a proof shows this node that its sender holds a key."""
        secret = self.signer.secret_with(public_key)
        return is_proof(proof, secret, self.network.tag, public_key, part)

    def table(self, contact: Contact, now: float, rtt: float | None = None) -> None:
        """Put a proven contact into its table, as far as there is room."""
        table = self.table_of(contact.address)
        if table.heard(contact, now, rtt) or not contact.address.dialable:
            return
        questionable = table.add(contact, now)
        if questionable is not None:
            self.on_questionable(questionable)
        elif table.heard(contact, now, rtt):
            self.on_new_contact(contact)

    def lose(self, contact: Contact, now: float) -> None:
        """Take note of a contact that did not answer."""
        table = self.table_of(contact.address)
        known = contact in table
        table.failed(contact, now)
        if known and contact not in table:
            self.on_lost_contact(contact)


def _nothing(contact: Contact) -> None:
    """Ignore what nobody wants to hear of."""


def _ignore_foreign(datagram: bytes, source: Address) -> None:
    """Want no datagrams of other protocols."""
