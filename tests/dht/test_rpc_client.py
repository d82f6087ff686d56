"""Asking: whose answer counts, and what happens when none comes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from dht import Address, Contact
from dht.errors import DatagramError
from dht.identity import prove
from dht.in_flight import ProvenReply
from dht.limits import FIRST_FIND_BYTES, FIRST_PING_BYTES, REQUEST_BYTES_MIN, K
from dht.rpc_client import RpcClient
from dht.wire import (
    HINT_BYTES,
    FindNode,
    Nodes,
    Ping,
    Pong,
    Reply,
    ReplyFlag,
    Request,
    RequestFlag,
    add_proof,
    decode,
    encode_unproved,
    kind_of,
)
from tests.dht.builders import NETWORK, HandClock, address, core, key, signer
from tests.simulation.loop import virtual_time

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.simulation.loop import VirtualLoop

ME_SEEN = Address("77.1.1.1", 4747)
OTHER = signer(2)
THERE = address(2)
CONTACT = Contact(OTHER.public_key, THERE)


class LoopClock(HandClock):
    """Follows the virtual loop."""

    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def monotonic(self) -> float:
        return self._loop.time()


class Bench:
    """One asking node; what it sends is caught, and answered by hand."""

    def __init__(self, loop: VirtualLoop) -> None:
        self.loop = loop
        self.core = core(1, LoopClock(loop))
        self.core.families = frozenset({4})
        self.sent: list[tuple[bytes, Address]] = []
        self.answers: list[ProvenReply | None] = []
        self.rpc_client = RpcClient(self.core, self._send, loop)

    def _send(self, datagram: bytes, to: Address) -> bool:
        self.sent.append((datagram, to))
        return True

    def ask(self, body: object = None, contact: Contact = CONTACT) -> Request:
        self.rpc_client.ask(contact, body or Ping(), self.answers.append)  # type: ignore[arg-type]
        return self.last

    @property
    def last(self) -> Request:
        message = decode(self.sent[-1][0][self.core.envelope.overhead :])
        assert isinstance(message, Request)
        return message

    def pass_time(self, seconds: float) -> None:
        self.loop.run_until_complete(asyncio.sleep(seconds))

    def reply(
        self,
        request: Request,
        *,
        by: object = OTHER,
        source: Address = THERE,
        seen: Address = ME_SEEN,
        flags: int = 0,
        proved: bool = True,
        body: object = None,
        asker: bytes | None = None,
        transaction: bytes | None = None,
    ) -> None:
        body = body or (Nodes(b"", b"") if request.kind == 2 else Pong())
        public_key = by.public_key  # type: ignore[attr-defined]
        part = encode_unproved(
            Reply(
                1,
                kind_of(body),  # type: ignore[arg-type]
                transaction or request.transaction,
                Contact(public_key, source).node_id[:HINT_BYTES],
                seen.packed,
                b"tokenabc",
                flags,
                body,
            )
        )
        proof = b""
        if proved:
            secret = by.secret_with(asker or self.core.public_key)  # type: ignore[attr-defined]
            proof = public_key + prove(
                secret, tag=NETWORK.tag, prover=public_key, part=part
            )
        packed = add_proof(part, proof)
        message = decode(packed)
        assert isinstance(message, Reply)
        self.rpc_client.receive(message, packed, source)


@pytest.fixture
def bench() -> Iterator[Bench]:
    with virtual_time() as loop:
        made = Bench(loop)
        yield made
        made.rpc_client.close()


def test_a_proven_answer_counts_and_enters_the_table(bench: Bench) -> None:
    """Only then does the contact exist for us."""
    request = bench.ask()
    assert request.flags & RequestFlag.PROOF
    assert CONTACT not in bench.core.tables[4]
    bench.reply(request)
    (answer,) = bench.answers
    assert answer is not None
    assert answer.contact == CONTACT
    assert CONTACT in bench.core.tables[4]
    again = bench.ask()
    assert not again.flags & RequestFlag.PROOF
    bench.reply(again, proved=False)
    assert bench.answers[1] is not None


def test_first_requests_are_padded_to_the_reply_they_want(bench: Bench) -> None:
    """Once a token is held they are short."""
    first = bench.ask()
    assert len(bench.sent[-1][0]) == FIRST_PING_BYTES
    bench.ask(FindNode(key(1)), Contact(key(8), address(8)))
    assert len(bench.sent[-1][0]) == FIRST_FIND_BYTES
    bench.reply(first)
    bench.ask(FindNode(key(1)))
    assert REQUEST_BYTES_MIN <= len(bench.sent[-1][0]) < 200
    assert bench.last.token == b"tokenabc"


@pytest.mark.parametrize(
    "lie",
    [
        {"by": signer(3)},  # another key
        {"proved": False},  # no proof
        {"asker": key(5)},  # a proof made for somebody else
    ],
)
def test_an_unproven_answer_is_none(bench: Bench, lie: dict) -> None:  # type: ignore[type-arg]
    """The contact counts as one that did not answer."""
    bench.reply(bench.ask(), **lie)
    assert bench.answers == [None]
    assert len(bench.core.tables[4]) == 0


@pytest.mark.parametrize(
    "stray",
    [
        {"source": address(3)},
        {"source": Address(THERE.host, 4748)},
        {"transaction": b"guessed!"},
        {"body": Nodes(b"", b"")},
    ],
)
def test_a_stray_reply_changes_nothing(bench: Bench, stray: dict) -> None:  # type: ignore[type-arg]
    """From elsewhere, to nothing, or of another kind: the request goes on waiting."""
    request = bench.ask()
    with pytest.raises(DatagramError):
        bench.reply(request, **stray)
    assert bench.answers == []
    bench.reply(request)
    assert len(bench.answers) == 1


def test_a_relayed_proof_is_found_out(bench: Bench) -> None:
    """The liar's own address stands in it, and not the one that others see."""
    for number in range(10, 14):
        other = signer(number)
        where = address(number)
        request = bench.ask(contact=Contact(other.public_key, where))
        bench.reply(request, by=other, source=where)
    assert None not in bench.answers
    bench.reply(bench.ask(), seen=Address("99.6.6.6", 4747))
    assert bench.answers[-1] is None
    assert bench.core.stats["refused.relayed"] == 1
    assert CONTACT not in bench.core.tables[4]


def test_a_silent_contact_is_asked_twice_more_and_then_given_up(bench: Bench) -> None:
    """Others leave it alone before that; the transaction is the same each time."""
    first = bench.ask()
    bench.pass_time(0.3)
    assert len(bench.sent) == 2
    assert bench.last.transaction == first.transaction
    bench.pass_time(0.5)
    assert len(bench.sent) == 3
    assert bench.answers == []
    assert bench.core.peer_memory.unresponsive.has_address(THERE, bench.loop.time())
    bench.pass_time(0.8)
    assert bench.answers == [None]
    assert len(bench.sent) == 3


def test_an_answer_after_patience_has_ended_still_counts(bench: Bench) -> None:
    """The address is no longer held to be silent."""
    request = bench.ask()
    bench.pass_time(1.0)
    bench.reply(request)
    assert bench.answers[0] is not None
    assert not bench.core.peer_memory.unresponsive.has_address(THERE, bench.loop.time())


def test_an_answer_to_the_second_sending_tells_no_round_trip(bench: Bench) -> None:
    """Nobody knows which of the two it answers (Karn)."""
    request = bench.ask()
    bench.pass_time(0.5)
    bench.reply(request)
    status = bench.core.tables[4].status(CONTACT)
    assert status is not None
    assert status.rtt_seconds is None


def test_a_node_that_was_replaced_at_its_address_is_noticed(bench: Bench) -> None:
    """The hint in an unproven reply shows another id."""
    bench.reply(bench.ask())
    bench.reply(bench.ask(), by=signer(3), proved=False)
    assert bench.answers[-1] is None
    assert bench.ask().flags & RequestFlag.PROOF


def test_a_cut_reply_is_asked_for_again_with_the_new_token(bench: Bench) -> None:
    """Once."""
    request = bench.ask(FindNode(key(1)))
    bench.reply(request, flags=ReplyFlag.TRUNCATED, proved=False)
    assert bench.answers == []
    assert bench.last.token == b"tokenabc"
    bench.reply(bench.last, flags=ReplyFlag.TRUNCATED)
    assert len(bench.answers) == 1
    assert bench.answers[0] is not None


def test_an_invitation_is_answered_with_a_proof(bench: Bench) -> None:
    """Signed for that node, with its token in it; once in a while only."""
    bench.reply(bench.ask(), flags=ReplyFlag.INTRODUCE)
    introduction = bench.last
    assert introduction.kind == 1
    assert introduction.token == b"tokenabc"
    assert len(introduction.proof) == 16
    bench.reply(introduction, flags=ReplyFlag.INTRODUCE, proved=False)
    count = len(bench.sent)
    bench.reply(bench.ask(), flags=ReplyFlag.INTRODUCE, proved=False)
    assert len(bench.sent) == count + 1


def test_with_a_full_table_invitations_wait_for_what_goes_on(bench: Bench) -> None:
    """A second, then one after the other."""
    for number in range(10, 10 + K):
        other = signer(number)
        bench.core.table(Contact(other.public_key, address(number)), 0.0)
    for number in (2, 3):
        other, where = signer(number), address(number)
        request = bench.ask(contact=Contact(other.public_key, where))
        bench.reply(request, by=other, source=where, flags=ReplyFlag.INTRODUCE)
    assert len(bench.sent) == 2
    bench.pass_time(1.05)
    assert [to for _, to in bench.sent[2:]] == [address(2)]
    bench.pass_time(0.1)
    assert [to for _, to in bench.sent[2:]] == [address(2), address(3)]
    assert len(bench.last.proof) == 16


def test_closing_ends_all_requests(bench: Bench) -> None:
    """Those under way and those that still come."""
    bench.ask()
    bench.ask()
    bench.rpc_client.close()
    assert bench.answers == [None, None]
    bench.rpc_client.ask(CONTACT, Ping(), bench.answers.append)
    bench.pass_time(0.01)
    assert bench.answers == [None] * 3
