"""What one node is made of, shared by the RPC client and the RPC server."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from typing import TYPE_CHECKING

from dht.addresses import Address
from dht.budgets import Sender, SenderBudget, Standing
from dht.contacts import contact_of
from dht.envelope import envelope_for
from dht.identity import is_proof, prove
from dht.inventory import InventorySlice
from dht.limits import PROOFS_MADE_PER_SOURCE_PER_SECOND, PROOFS_PER_SECOND
from dht.peer_memory import PeerMemory
from dht.providers import NodeRecord
from dht.routing import Table
from dht.tokens import Tokens

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from dht.clock import Clock
    from dht.contacts import Contact
    from dht.identity import Signer, Verify
    from dht.in_flight import Asked
    from dht.inventory import Block
    from dht.keys import Network
    from dht.reach import UdpReach

_NOWHERE = Address("127.0.0.1", 0)


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
        self.envelope = envelope_for(network, self.public_key, clock=clock, rng=rng)
        self.tables = {4: Table(self.node_id, now), 6: Table(self.node_id, now)}
        self.peer_memory = PeerMemory()
        self.tokens = Tokens(rng, now)
        self.stats: Counter[str] = Counter()
        self.families: frozenset[int] = frozenset()
        self.on_new_contact: Callable[[Contact], None] = _nothing
        self.on_foreign: Callable[[bytes, Address], None] = _ignore_foreign
        self.on_lost_contact: Callable[[Contact], None] = _nothing
        self.on_questionable: Callable[[Contact], None] = _nothing
        self._proofs_made = SenderBudget(
            per_second=PROOFS_MADE_PER_SOURCE_PER_SECOND,
            burst=4 * PROOFS_MADE_PER_SOURCE_PER_SECOND,
            total_per_second=PROOFS_PER_SECOND,
        )

    @property
    def own_contact(self) -> Contact:
        """This node as a contact; its address says nothing."""
        return contact_of(self.public_key, _NOWHERE)

    @property
    def known(self) -> int:
        """How many contacts the tables hold."""
        return sum(len(table) for table in self.tables.values())

    def table_of(self, address: Address) -> Table:
        """Return the table of an address's family."""
        return self.tables[address.family]

    def sender_of(self, asked: Asked) -> Sender:
        """Return who is charged for the work that a request causes.

        A key costs nothing, a place in the table does: it is bounded by bucket and
        by group. So only tabled keys count by themselves.
        """
        address = asked.source
        if not asked.echoed:
            standing = Standing.CLAIMED
        elif asked.sender in self.table_of(address):
            standing = Standing.TABLED
        else:
            standing = Standing.ECHOED
        return Sender(address, standing, asked.sender.public_key)

    def may_prove_to(self, asked: Asked) -> bool:
        """Whether a proof may be made for an asker: a new key costs a secret."""
        return self._proofs_made.consume(self.sender_of(asked), asked.now)

    def proof_for(self, public_key: bytes, part: bytes) -> bytes:
        """Return the proof of this node's id for a key; empty for a weak one."""
        secret = self.signer.secret_with(public_key)
        if secret is None:
            return b""
        return prove(secret, tag=self.network.tag, prover=self.public_key, part=part)

    def is_proof_of(self, public_key: bytes, proof: bytes, part: bytes) -> bool:
        """Whether a proof shows this node that its sender holds a key."""
        secret = self.signer.secret_with(public_key)
        return is_proof(
            proof, secret, tag=self.network.tag, prover=public_key, part=part
        )

    def sign_node_record(self, address: Address, expires_at: float) -> NodeRecord:
        """Return this node's signed record at an address."""
        return NodeRecord.sign(
            self.signer,
            tag=self.network.tag,
            address=address,
            expires_at=expires_at,
            introducers=self.reach.introducers,
        )

    def sign_slice(
        self, block: Block, entries: bytes, issued_at: int
    ) -> InventorySlice:
        """Return this node's signed slice of a block."""
        return InventorySlice.sign(
            self.signer,
            tag=self.network.tag,
            block=block,
            entries=entries,
            issued_at=issued_at,
        )

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

    def heard(self, public_key: bytes, host: str) -> float:
        """Return when a contact of a table was heard last; minus infinity if never."""
        node_id = hashlib.sha256(public_key).digest()
        for table in self.tables.values():
            contact = table.get(node_id)
            if contact is not None and contact.address.host == host:
                history = table.status(contact)
                return history.last_seen if history is not None else -math.inf
        return -math.inf

    def is_unresponsive(self, contact: Contact, now: float) -> bool:
        """Whether a contact should not be asked now, because it did not answer lately.

        A contact of the table, or one that has proved its id, is not silenced by what
        others say of its host: only its own address counts.
        """
        unresponsive = self.peer_memory.unresponsive
        if unresponsive.has_address(contact.address, now):
            return True
        if not unresponsive.has(contact, now):
            return False
        is_tabled = contact in self.table_of(contact.address)
        return not is_tabled and not self.peer_memory.is_proven(contact, now)

    def lose(self, contact: Contact, now: float) -> None:
        """Count an answer that did not come; the second one costs the place."""
        table = self.table_of(contact.address)
        known = contact in table
        table.failed(contact, now)
        if known and contact not in table:
            self.on_lost_contact(contact)


def _nothing(contact: Contact) -> None:
    """Do nothing: the default of each callback."""


def _ignore_foreign(datagram: bytes, source: Address) -> None:
    """Want no datagrams of other protocols."""
