"""Answers: never longer than the question, until the asker is known to hear them."""

from __future__ import annotations

import contextlib
from collections import Counter

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dht import Address, Contact, Network
from dht.errors import DatagramError
from dht.identity import prove
from dht.limits import DATAGRAM_BYTES_MAX
from dht.local_storage import LocalStorage
from dht.rpc_server import RpcServer
from dht.tokens import write_scope
from dht.wire import (
    Announce,
    CallStatus,
    CallTaken,
    DialBack,
    DialBackStatus,
    DialedBack,
    FindNode,
    FindProviders,
    FindRecord,
    Notify,
    Ping,
    Reply,
    ReplyFlag,
    Request,
    RequestFlag,
    Stored,
    StoreRecord,
    add_proof,
    decode,
    encode,
    encode_unproved,
    kind_of,
)
from tests.dht.builders import (
    NETWORK,
    NOW,
    HandClock,
    address,
    announce,
    contact,
    core,
    key,
    provider,
    release,
    signer,
)

ASKER = Address("88.1.1.1", 4747)
PLACE = release().key(NETWORK)
ALL = RequestFlag.PROOF | RequestFlag.IPV4 | RequestFlag.IPV6


class Keeper:
    """A node that answers, without any socket."""

    def __init__(self, network: Network = NETWORK) -> None:
        self.clock = HandClock()
        self.core = core(1, self.clock, network=network)
        self.local_storage = LocalStorage(self.core, lambda wanted, asker: None)
        self.heard: Counter[str] = Counter()
        self.rpc_server = RpcServer(
            core=self.core,
            local_storage=self.local_storage,
            on_notify=lambda notify, asked, size: self.heard.update(["notify"]),
            on_dial_back=lambda body, asked: DialedBack(DialBackStatus.REFUSED),
            on_introduction=lambda body, asked: CallTaken(CallStatus.REFUSED),
        )

    def fill(self) -> None:
        """Know many nodes, many providers of one key, and a record."""
        for number in range(2, 200):
            self.core.tables[4].add(contact(number), 0.0)
            where = Address(f"2a00:{number:x}::7", 4747)
            self.core.tables[6].add(contact(number, where), 0.0)
        for number in range(20):
            record = provider(key(0), number)
            self.local_storage.provider_store.put(
                record.node, record.slice, (b"s",), now=self.clock.ticks, lifetime=1e9
            )
        self.local_storage.record_store.put(
            PLACE, release(), path=(b"s",), now=self.clock.ticks, lifetime=1e9
        )

    def ask(
        self, body: object, source: Address = ASKER, **options: object
    ) -> tuple[Reply, int, int]:
        """Return the reply, and the lengths of request and reply."""
        self.clock.move(options.pop("pause", 1.0))  # type: ignore[arg-type]
        packed = self.request(body, **options)
        datagram = self.core.envelope.wrap(packed, self.core.public_key)
        message = decode(packed)
        assert isinstance(message, Request)
        reply = self.rpc_server.answer(message, packed, source, size=len(datagram))
        decoded = decode(reply[self.core.envelope.overhead :])
        assert isinstance(decoded, Reply)
        return decoded, len(datagram), len(reply)

    def request(
        self,
        body: object,
        *,
        flags: int = ALL,
        token: bytes = b"",
        padding: int = 0,
        sender: bytes = key(77),
        proof: bytes = b"",
    ) -> bytes:
        return encode(
            Request(
                1,
                kind_of(body),  # type: ignore[arg-type]
                b"transact",
                sender,
                flags,
                token,
                body,
                bytes(padding),
                proof,
            )
        )

    def token(self, source: Address = ASKER) -> bytes:
        return self.core.tokens.issue(source, self.clock.ticks)

    def write_token(self, wanted: bytes, source: Address = ASKER) -> bytes:
        return self.core.tokens.issue(source, self.clock.ticks, write_scope(wanted))


@pytest.fixture(scope="module", params=[NETWORK, Network("lab", b"s" * 32)])
def keeper(request: pytest.FixtureRequest) -> Keeper:
    made = Keeper(request.param)
    made.fill()
    return made


bodies = st.sampled_from(
    [
        Ping(),
        DialBack(ASKER.packed, 4747, bytes(8)),
        FindNode(key(3)),
        FindProviders(key(0)),
        FindProviders(key(0), 1 << 16 | 8),
        FindRecord(PLACE),
        FindRecord(PLACE, conflict=True),
        FindRecord(key(5)),
        Announce(b"", 4747, 0, bytes(64), bytes(5), []),
        Announce(b"12345678", 4747, 0, bytes(64), b"\4" + bytes(4), [bytes(79)] * 8),
        StoreRecord(PLACE, b"12345678", release().raw),
        StoreRecord(PLACE, b"12345678", b""),
        Notify(release().raw),
        Notify(b""),
    ]
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    body=bodies,
    flags=st.integers(0, 31),
    token=st.sampled_from([b"", b"12345678"]),
    padding=st.integers(0, 1050),
    host=st.sampled_from(["88.1.1.1", "127.0.0.1", "2a00:1::1"]),
)
def test_nothing_is_amplified_before_a_token_is_echoed(
    keeper: Keeper, body: object, flags: int, token: bytes, padding: int, host: str
) -> None:
    """For every kind of request, of any length, with any flags."""
    asked = answered = 0
    with contextlib.suppress(DatagramError):  # too short to be answered at all
        _, asked, answered = keeper.ask(
            body, Address(host, 4747), flags=flags, token=token, padding=padding
        )
    assert answered <= asked


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(body=bodies, host=st.sampled_from(["88.1.1.1", "2a00:1::1"]))
def test_no_reply_is_longer_than_a_datagram(
    keeper: Keeper, body: object, host: str
) -> None:
    """For an asker that echoes its token, the whole answer comes, with its proof."""
    source = Address(host, 4747)
    reply, _, answered = keeper.ask(body, source, token=keeper.token(source))
    assert answered <= DATAGRAM_BYTES_MAX
    assert len(reply.proof) == 48
    assert not reply.flags & ReplyFlag.TRUNCATED


def test_a_cut_reply_says_so_and_the_token_brings_the_rest() -> None:
    """What does not fit is left out, not lost."""
    keeper = Keeper()
    keeper.fill()
    short, _, _ = keeper.ask(FindNode(key(3)), flags=RequestFlag.IPV4, padding=40)
    assert short.flags & ReplyFlag.TRUNCATED
    whole, _, _ = keeper.ask(
        FindNode(key(3)), flags=RequestFlag.IPV4, token=short.token
    )
    assert not whole.flags & ReplyFlag.TRUNCATED
    assert len(whole.body.contacts) == 20 * 39


def test_the_providers_that_fit_and_their_number_are_told() -> None:
    """And a cursor for the others; some contacts have room beside them."""
    keeper = Keeper()
    keeper.fill()
    reply, _, _ = keeper.ask(FindProviders(key(0)), token=keeper.token())
    assert len(reply.body.providers) == 4
    assert len(reply.body.contacts) >= 3 * 39
    assert reply.body.total == 20
    seen = set(reply.body.providers)
    pages = 1
    while reply.body.cursor:
        again = FindProviders(key(0), reply.body.cursor)
        reply, _, _ = keeper.ask(again, token=keeper.token())
        assert not seen & set(reply.body.providers)
        seen |= set(reply.body.providers)
        pages += 1
    assert (len(seen), pages) == (20, 5)


def test_beside_a_record_come_at_most_six_contacts() -> None:
    """The record must fit."""
    keeper = Keeper()
    keeper.fill()
    reply, _, _ = keeper.ask(FindRecord(PLACE), token=keeper.token())
    assert reply.body.record == release().raw
    assert 0 < len(reply.body.contacts) <= 6 * 51


def test_private_contacts_are_told_in_private_networks_only() -> None:
    """A public asker learns nothing of a LAN."""
    keeper = Keeper()
    for number in range(2, 10):
        lan = contact(number, Address("192.168.1.7", 2000 + number))
        keeper.core.tables[4].add(lan, 0.0)
    public, _, _ = keeper.ask(FindNode(key(3)), padding=1000)
    assert public.body.contacts == b""
    neighbour = Address("192.168.1.50", 4747)
    local, _, _ = keeper.ask(FindNode(key(3)), neighbour, padding=1000)
    assert len(local.body.contacts) == 8 * 39


def _announce(keeper: Keeper, number: int, **options: object) -> list[int]:
    record = provider(key(0), number, ASKER)
    token = options.pop("write_token", keeper.write_token(key(0)))
    body = announce(record, token)  # type: ignore[arg-type]
    reply, _, _ = keeper.ask(
        body, sender=record.public_key, token=keeper.token(), **options
    )
    return [reply.body.status, *reply.body.statuses]


def test_an_announce_needs_a_write_token_for_its_key() -> None:
    """A token for another key or address is not one."""
    keeper = Keeper()
    assert _announce(keeper, 5) == [Stored.STORED] * 2
    for bad in (b"", b"12345678", keeper.write_token(key(1)), keeper.token()):
        assert _announce(keeper, 6, write_token=bad) == [Stored.BAD_TOKEN]
    elsewhere = keeper.write_token(key(0), address(9))
    assert _announce(keeper, 6, write_token=elsewhere) == [Stored.BAD_TOKEN]
    assert len(keeper.local_storage.provider_store) == 1


def test_nobody_announces_for_another_address_or_key() -> None:
    """The record must be signed by its sender for the IP that is seen."""
    keeper = Keeper()
    record = provider(key(0), 5, address(9))
    token = keeper.write_token(key(0))
    reply, _, _ = keeper.ask(
        announce(record, token), sender=record.public_key, token=keeper.token()
    )
    assert (reply.body.status, reply.body.statuses) == (Stored.INVALID, [])
    mine = provider(key(0), 5, ASKER)
    reply, _, _ = keeper.ask(announce(mine, token), sender=key(4), token=keeper.token())
    assert reply.body.status == Stored.INVALID
    low = msgspec.structs.replace(announce(mine, token), port=80)
    reply, _, _ = keeper.ask(low, sender=mine.public_key, token=keeper.token())
    assert reply.body.status == Stored.INVALID
    other = provider(key(0), 6, ASKER).slice.packed
    reply, _, _ = keeper.ask(
        announce(mine, token, other), sender=mine.public_key, token=keeper.token()
    )
    assert reply.body.statuses == [Stored.STORED, Stored.INVALID]


def _store(keeper: Keeper, raw: bytes, place: bytes = PLACE) -> Reply:
    body = StoreRecord(place, keeper.write_token(place), raw)
    return keeper.ask(body, token=keeper.token())[0]


def test_records_are_judged_before_they_are_kept() -> None:
    """Forged, expired, misplaced and older ones are refused."""
    keeper = Keeper()
    good = release(sequence=5)
    assert _store(keeper, good.raw).body.status == Stored.STORED
    assert _store(keeper, good.raw).body.status == Stored.STORED
    older = _store(keeper, release(sequence=4).raw)
    assert (older.body.status, older.body.record) == (Stored.OLDER, good.raw)
    twin = _store(keeper, release(sequence=5, package=key(3)).raw)
    assert (twin.body.status, twin.body.record) == (Stored.CONFLICT, good.raw)
    bad = bytearray(release(sequence=6).raw)
    bad[-1] ^= 1
    assert _store(keeper, bytes(bad)).body.status == Stored.INVALID
    ended = release(sequence=7, expires_at=NOW - 1)
    assert _store(keeper, ended.raw).body.status == Stored.INVALID
    misplaced = release(sequence=8, name="other")
    assert _store(keeper, misplaced.raw).body.status == Stored.INVALID
    body = StoreRecord(PLACE, b"12345678", release(sequence=9).raw)
    reply, _, _ = keeper.ask(body, token=keeper.token())
    assert reply.body.status == Stored.BAD_TOKEN
    assert keeper.local_storage.newest(PLACE, keeper.clock.ticks) == good


def test_a_conflict_is_told_and_shown() -> None:
    """The proof that a publisher signed two records of one order."""
    keeper = Keeper()
    twin = release(package=key(3))
    _store(keeper, release().raw)
    _store(keeper, twin.raw)
    reply, _, _ = keeper.ask(FindRecord(PLACE), token=keeper.token())
    assert reply.flags & ReplyFlag.CONFLICT
    proof, _, _ = keeper.ask(FindRecord(PLACE, conflict=True), token=keeper.token())
    assert proof.body.record == twin.raw


def _introduction(keeper: Keeper, token: bytes, seed: int = 9) -> bytes:
    """Return a ping that proves its sender's id."""
    me = signer(seed)
    request = Request(1, 1, b"transact", me.public_key, ALL, token, Ping())
    part = encode_unproved(request)
    secret = me.secret_with(keeper.core.public_key)
    assert secret is not None
    return add_proof(
        part, prove(secret, tag=NETWORK.tag, prover=me.public_key, part=part)
    )


def _deliver(keeper: Keeper, packed: bytes, source: Address = ASKER) -> Reply:
    message = decode(packed)
    assert isinstance(message, Request)
    datagram = keeper.core.envelope.wrap(packed, keeper.core.public_key)
    reply = keeper.rpc_server.answer(message, packed, source, size=len(datagram) + 200)
    decoded = decode(reply[keeper.core.envelope.overhead :])
    assert isinstance(decoded, Reply)
    return decoded


def test_only_a_proof_with_a_fresh_token_enters_the_table() -> None:
    """A newcomer is told that it would be tabled; claiming an id is not enough."""
    keeper = Keeper()
    me = Contact(signer(9).public_key, ASKER)
    first, _, _ = keeper.ask(Ping(), sender=me.public_key, padding=200)
    assert first.flags & ReplyFlag.INTRODUCE
    assert me not in keeper.core.tables[4]
    _deliver(keeper, _introduction(keeper, b"12345678"))
    assert me not in keeper.core.tables[4]
    _deliver(keeper, _introduction(keeper, first.token), address(3))
    assert len(keeper.core.tables[4]) == 0
    reply = _deliver(keeper, _introduction(keeper, first.token))
    assert me in keeper.core.tables[4]
    assert not reply.flags & ReplyFlag.INTRODUCE


def test_a_proof_made_for_another_node_is_worth_nothing() -> None:
    """It names whom it convinces."""
    keeper, other = Keeper(), Keeper()
    other.core.public_key = key(5)
    packed = _introduction(other, keeper.token())
    _deliver(keeper, packed)
    assert len(keeper.core.tables[4]) == 0
    assert keeper.core.stats["refused.proof"] == 1


def test_a_read_only_node_is_answered_and_not_tabled() -> None:
    """Nor invited."""
    keeper = Keeper()
    flags = ALL | RequestFlag.READ_ONLY
    reply, _, _ = keeper.ask(Ping(), flags=flags, padding=200)
    assert not reply.flags & ReplyFlag.INTRODUCE


def test_signing_is_rate_limited_per_source() -> None:
    """A flood from one source cannot buy all signatures."""
    keeper = Keeper()
    busy = 0
    for _ in range(1000):
        try:
            keeper.ask(Ping(), padding=200, pause=0.0)
        except DatagramError as error:
            busy += error.reason == "busy"
    assert busy >= 700
    reply, _, _ = keeper.ask(Ping(), address(4), padding=200)
    assert len(reply.proof) == 48


@pytest.mark.parametrize("where", ["88.1.1.1:53", "88.1.1.1:1023", "224.0.0.1:4747"])
def test_some_sources_get_no_answer(where: str) -> None:
    """Answers to services of other protocols would be an attack on them."""
    with pytest.raises(DatagramError, match="source"):
        Keeper().ask(Ping(), Address.parse(where), padding=200)


def test_a_node_does_not_answer_itself() -> None:
    """Its own datagrams come back when an address is false."""
    keeper = Keeper()
    with pytest.raises(DatagramError, match="own"):
        keeper.ask(Ping(), sender=keeper.core.public_key, padding=200)
