"""What a node believes of releases: the attacks of The Update Framework, and more.

Every refused record leaves the database as it was, byte for byte.
"""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from dht import RecordError, ReleaseRecord
from node.errors import NobodyOffersError, RefusedError
from node.model.packages import Dependency
from node.releases.newest import SEQUENCE_JUMP_MAX, Learned
from node.releases.renewal import Renewal
from tests.node.publishers import (
    DAY,
    NOW,
    Believer,
    digest,
    digest_of,
    package,
    record,
    release_key,
    root_key,
)

ROOT = root_key()


@pytest.fixture
def node():
    """Make a node that knows version 5.0, number 5, of `demo`."""
    made = Believer()
    made.releases.learn(record(sequence=5, version="5.0"), confirmed=10)
    assert made.newest() == "5.0"
    return made


def refused(node: Believer, bad: ReleaseRecord) -> bool:
    """Tell whether a record meant nothing and left no trace."""
    before = node.disk
    learned = node.releases.learn(bad, confirmed=20)
    return learned is Learned.NOTHING and node.disk == before


def test_rollback_is_refused(node):
    """An older release, signed by the right key, is never news again."""
    assert refused(node, record(sequence=4, version="4.0"))
    assert node.newest() == "5.0"


def test_a_replay_changes_nothing(node):
    """Nor does the newest one, when an alert brings it a second time."""
    again = record(sequence=5, version="5.0")
    before = node.disk
    assert node.releases.learn(again, confirmed=0) is Learned.NOTHING
    assert node.disk == before


def test_fast_forward_is_bounded(node):
    """A stolen key cannot use up the numbers of an epoch in one step."""
    assert refused(node, record(sequence=5 + SEQUENCE_JUMP_MAX + 1, version="9"))
    assert refused(node, record(sequence=2**63 - 1, version="9"))
    assert node.releases.learn(record(sequence=6, version="6.0"), 1) is Learned.NEWS


def test_a_new_epoch_recovers_from_fast_forward(node):
    """Whatever the number was, the next epoch starts afresh at 1."""
    far = record(sequence=5 + SEQUENCE_JUMP_MAX, version="far")
    assert node.releases.learn(far, confirmed=1) is Learned.NEWS
    fresh = record(release_key(epoch=1), sequence=1, version="6.0")
    assert node.releases.learn(fresh, confirmed=1) is Learned.NEWS
    assert node.newest() == "6.0"
    assert refused(node, record(sequence=6 + SEQUENCE_JUMP_MAX, version="later"))


def test_a_stolen_release_key_is_revoked_by_a_new_epoch():
    """The delegation alone is enough; what the thief signs afterwards is refused."""
    node, stolen = Believer(), release_key(2, epoch=1)
    node.releases.learn(record(stolen, sequence=7, version="7.0"), confirmed=1)
    fresh = release_key(3, epoch=2)
    assert fresh.delegation is not None
    assert node.releases.learn_delegation(fresh.delegation)
    assert node.newest() is None
    assert refused(node, record(stolen, sequence=8, version="evil"))
    good = record(fresh, sequence=1, version="7.1")
    assert node.releases.learn(good, confirmed=1) is Learned.NEWS
    assert node.newest() == "7.1"


async def test_a_delegation_in_the_network_revokes_at_the_next_catch_up():
    """For all names of the publisher, without any new release."""
    node, stolen = Believer(), release_key(2, epoch=1)
    bad = record(stolen, sequence=7, version="evil")
    node.dht.keep(bad)
    assert (await node.releases.refresh(ROOT.publisher, "demo")).is_news
    fresh = release_key(3, epoch=2).delegation
    assert fresh is not None
    node.dht.keep(fresh)
    node.releases._delegation_read_at.clear()  # five minutes later
    await node.releases.refresh(ROOT.publisher, "demo")
    assert node.newest() is None
    assert node.trust_store.epoch_of(ROOT.publisher) == 2
    other = record(stolen, name="other", version="evil")
    assert refused(node, other)


def test_a_delegation_does_not_outlive_its_end():
    """What rests on it has expired then, whatever the record says of itself."""
    node = Believer()
    short = release_key(end=NOW + DAY)
    made = record(short)
    node.releases.learn(made, confirmed=1)
    known = node.releases.known(ROOT.publisher, "demo")
    assert known is not None
    assert not known.expired(NOW + DAY - 1)
    assert known.expired(NOW + DAY)
    with pytest.raises(RecordError, match="ended"):
        ReleaseRecord.verify(made.raw, NOW + DAY + 1)


async def test_an_ended_record_is_not_stored_again():
    """Holders keep alive what counts, and nothing else."""
    node = Believer()
    node.releases.learn(record(release_key(end=NOW + DAY)), confirmed=1)
    await node.releases.refresh(ROOT.publisher, "demo")
    assert len(node.dht.stored) == 2  # the record and its delegation, found nowhere
    node.dht.stored.clear()
    node.time = NOW + 2 * DAY
    node.releases._delegation_read_at.clear()
    await node.releases.refresh(ROOT.publisher, "demo")
    assert node.dht.stored == []


def test_two_records_of_one_number_are_kept_as_proof(node):
    """The first stays the newest, and its publisher is no longer obeyed."""
    other = record(sequence=5, version="5.0-evil")
    assert node.releases.learn(other, confirmed=1) is Learned.CONFLICT
    assert node.releases.learn(other, confirmed=1) is Learned.NOTHING
    assert node.newest() == "5.0"
    ((one, two),) = node.trust_store.conflicts_of(ROOT.publisher)
    assert {one, two} == {record(sequence=5, version="5.0").raw, other.raw}
    fresh = release_key(epoch=1).delegation
    assert fresh is not None
    node.releases.learn_delegation(fresh)
    assert node.trust_store.conflicts_of(ROOT.publisher) == []


def test_one_statement_in_other_bytes_is_no_proof(node):
    """A re-encoded record, or a second signature on the same body, frames nobody."""
    first = record(sequence=5, version="5.0")
    twin = replace(first, raw=first.raw + b"\xc0")
    assert refused(node, twin)
    assert node.trust_store.conflicts_of(ROOT.publisher) == []
    assert node.releases.learn(record(sequence=6, version="6.0"), 1) is Learned.NEWS


async def test_a_proof_in_the_network_needs_two_statements(node):
    first = record(sequence=5, version="5.0")
    node.dht.keep(first, replace(first, raw=first.raw + b"\xc0"))
    await node.releases.refresh(ROOT.publisher, "demo")
    assert node.trust_store.conflicts_of(ROOT.publisher) == []


async def test_a_proof_in_the_network_is_found(node):
    """Keepers hold both; whoever reads the name learns that its key signed both."""
    first = record(sequence=5, version="5.0")
    node.dht.keep(first, record(sequence=5, version="5.0-evil"))
    await node.releases.refresh(ROOT.publisher, "demo")
    assert len(node.trust_store.conflicts_of(ROOT.publisher)) == 1


def test_a_stranger_has_names_of_his_own(node):
    """The same name by another publisher is another name."""
    stranger = root_key(7)
    node.releases.learn(record(stranger, sequence=99, version="99"), confirmed=20)
    assert node.newest() == "5.0"
    assert node.newest(stranger) == "99"


def test_a_record_under_anothers_name_cannot_be_signed():
    """The publisher is its key: nobody else's signature makes one."""
    with pytest.raises(RecordError):
        record(root_key(7), publisher=ROOT.publisher)


@pytest.mark.parametrize("days", [-366, 366])
def test_a_publishers_clock_that_is_off_by_a_year_is_noticed(days):
    """Ahead: refused by all. Behind: shown as not confirmed for long."""
    made = record(issued_at=NOW + days * DAY)
    if days > 0:
        with pytest.raises(RecordError, match="future"):
            ReleaseRecord.verify(made.raw, NOW)
        return
    node = Believer()
    node.releases.learn(ReleaseRecord.verify(made.raw, NOW), confirmed=1)
    known = node.releases.known(ROOT.publisher, "demo")
    assert known is not None
    assert known.stale(NOW)


def test_freezing_becomes_visible(node):
    """A newest release that is not signed anew looks old, then has expired."""
    known = node.releases.known(ROOT.publisher, "demo")
    assert known is not None
    assert not known.stale(NOW + 30 * DAY)
    assert known.stale(NOW + 31 * DAY)
    assert known.expired(NOW + 400 * DAY)


async def released(node: Believer, made, **changes):
    """Let the network say that `made` is the newest package of `demo`."""
    body = made.body
    node.fetcher.add(made)
    pointer = record(
        package=digest_of(made), version=body.version, sequence=body.sequence, **changes
    )
    node.releases.learn(pointer, confirmed=1)
    release = node.releases.known(ROOT.publisher, "demo")
    assert release is not None
    return await node.releases.package_of(release, lambda _: None)


@pytest.mark.parametrize(
    ("made", "pointer"),
    [
        (package(name="other"), {}),
        (package(root_key(7)), {}),
        (package(version="2.0"), {"version": "1.0"}),
        (package(), {"urgency": "security"}),
        (package(sequence=3), {"sequence": 2}),
    ],
    ids=["wrong name", "wrong publisher", "wrong version", "urgency", "older record"],
)
async def test_mix_and_match_is_refused(made, pointer):
    """A record and a package file count only together, and nothing is kept of it."""
    node = Believer()
    node.fetcher.add(made)
    fields = {"version": made.body.version, "sequence": made.body.sequence, **pointer}
    node.releases.learn(record(package=digest_of(made), **fields), confirmed=1)
    release = node.releases.known(ROOT.publisher, "demo")
    assert release is not None
    before = node.disk
    with pytest.raises(RefusedError):
        await node.releases.package_of(release, lambda _: None)
    assert node.disk == before


async def test_extraneous_dependencies_cannot_be_added():
    """What a package needs stands under its signature; a changed list breaks it."""
    node = Believer()
    made = package(dependencies=[Dependency("package", digest(3))])
    assert (await released(node, made)).body.dependencies == made.body.dependencies
    name = f"sha256:{digest_of(made).hex()}"
    assert node.catalogue.dependencies_of(name) == [("package", digest(3))]


async def test_walking_back_stays_with_its_publisher_and_name():
    """`previous` cannot lead into another package, nor forwards."""
    node = Believer()
    foreign = node.fetcher.add(package(root_key(7)))
    await released(node, package(version="2.0", sequence=2, previous=foreign))
    node.dht.keep(node.releases.known(ROOT.publisher, "demo").record)
    with pytest.raises(RefusedError, match="something else"):
        await node.releases.find_version(
            ROOT.publisher, "demo", version="1.0", progress=lambda _: None
        )


async def test_nobody_knowing_a_name_is_said():
    with pytest.raises(NobodyOffersError):
        await Believer().releases.newest(ROOT.publisher, "demo")


async def test_holders_keep_a_record_alive(node):
    """It is stored again where the network lost it, or has an older one."""
    await node.releases.refresh(ROOT.publisher, "demo")
    assert [one.version for one in node.dht.stored] == ["5.0"]
    node.dht.stored.clear()
    node.dht.keep(record(sequence=4, version="4.0"))
    await node.releases.refresh(ROOT.publisher, "demo")
    assert [one.version for one in node.dht.stored] == ["5.0"]


async def test_without_a_network_nothing_is_concluded(node):
    """No answer is no news, and no reason to store."""
    node.dht.asked = 0
    reading = await node.releases.refresh(ROOT.publisher, "demo")
    assert (reading.is_news, reading.answers) == (False, 0)
    assert node.dht.stored == []


class Keys:
    """The publisher keys of a home."""

    def __init__(self, **keys) -> None:
        self.keys = keys
        self.encrypted: set[str] = set()

    def names(self):
        return sorted(self.keys)

    def is_encrypted(self, name):
        return name in self.encrypted

    def load(self, name):
        return self.keys[name]

    def delegation(self, name):
        return self.keys[name].delegation


def renewal_of(node: Believer, keys: Keys) -> Renewal:
    parts: tuple = (node.dht, keys)
    return Renewal(
        dht=parts[0],
        catalogue=node.catalogue,
        trust_store=node.trust_store,
        releases=node.releases,
        pipeline=node.pipeline,
        keys=parts[1],
        rng=random.Random(1),
        now=lambda: node.time,
    )


async def own_release(node: Believer) -> None:
    made = package()
    name = f"sha256:{digest_of(made).hex()}"
    node.catalogue.add_package(name, made, held=True, own=True)
    node.releases.learn(record(package=digest_of(made)), confirmed=1)


async def test_an_own_release_is_signed_anew_before_it_looks_old():
    """The same package, one number higher, as soon as it is 20 days old."""
    node = Believer()
    await own_release(node)
    renewal = renewal_of(node, Keys(default=ROOT))
    assert await renewal.renew() == []
    assert node.dht.stored[-1].sequence == 1
    node.time = NOW + 20 * DAY
    (signed,) = await renewal.renew()
    assert (signed.sequence, signed.version, signed.issued_at) == (2, "1.0", node.time)
    known = node.releases.known(ROOT.publisher, "demo")
    assert known is not None
    assert known.record == signed
    assert not known.stale(NOW + 45 * DAY)
    release = await node.releases.row_of(known, 1)
    assert release is not None
    assert release.version == "1.0"


async def test_a_release_of_a_clock_that_was_ahead_is_signed_anew_at_once():
    """Nobody takes a record of the future; its publisher's node mends that."""
    node = Believer()
    made = package()
    name = f"sha256:{digest_of(made).hex()}"
    node.catalogue.add_package(name, made, held=True, own=True)
    node.time = NOW + 40 * DAY
    ahead = record(package=digest_of(made), issued_at=node.time)
    node.releases.learn(ahead, confirmed=0)
    node.time = NOW
    (signed,) = await renewal_of(node, Keys(default=ROOT)).renew()
    assert (signed.sequence, signed.issued_at) == (2, NOW)
    assert ReleaseRecord.verify(signed.raw, NOW) == signed
    assert node.newest() == "1.0"


async def test_one_own_name_does_not_end_the_renewal_of_the_others(monkeypatch):
    node = Believer()
    for name in ("bad", "demo"):
        made = package(name=name)
        digest_text = f"sha256:{digest_of(made).hex()}"
        node.catalogue.add_package(digest_text, made, held=True, own=True)
        node.releases.learn(record(name=name, package=digest_of(made)), confirmed=1)
    refresh = node.releases.refresh

    async def fails_for_bad(publisher, name):
        if name == "bad":
            raise ValueError("bad bytes")
        return await refresh(publisher, name)

    monkeypatch.setattr(node.releases, "refresh", fails_for_bad)
    node.time = NOW + 20 * DAY
    (signed,) = await renewal_of(node, Keys(default=ROOT)).renew()
    assert signed.name == "demo"


async def test_a_key_with_a_passphrase_signs_nothing_by_itself():
    node = Believer()
    await own_release(node)
    keys = Keys(default=ROOT)
    keys.encrypted.add("default")
    node.time = NOW + 25 * DAY
    assert await renewal_of(node, keys).renew() == []
    assert node.dht.stored[-1].sequence == 1


async def test_what_was_published_elsewhere_since_is_left_to_its_node():
    """Two nodes of one publisher must not sign two records of one number."""
    node = Believer()
    await own_release(node)
    elsewhere = package(version="2.0", sequence=2)
    node.releases.learn(
        record(package=digest_of(elsewhere), version="2.0", sequence=2), confirmed=1
    )
    node.time = NOW + 25 * DAY
    assert await renewal_of(node, Keys(default=ROOT)).renew() == []


async def test_own_delegations_are_made_known_at_start():
    """The newest ones, until they end."""
    node = Believer()
    old, new = release_key(2, epoch=1), release_key(3, epoch=2)
    ended = release_key(4, epoch=3, end=NOW - 1)
    renewal = renewal_of(node, Keys(a=new, b=old, c=ended))
    await renewal.renew()
    assert [one.epoch for one in node.dht.stored] == [2]


async def test_after_a_theft_the_own_release_counts_again():
    """A new epoch takes the thief's release away, and brings ours back at once."""
    node, stolen, fresh = Believer(), release_key(2, epoch=1), release_key(3, epoch=2)
    made = package()
    name = f"sha256:{digest_of(made).hex()}"
    node.catalogue.add_package(name, made, held=True, own=True)
    node.releases.learn(record(stolen, package=digest_of(made)), confirmed=1)
    node.releases.learn(record(stolen, sequence=2, version="evil"), confirmed=1)
    assert node.newest() == "evil"
    (signed,) = await renewal_of(node, Keys(fresh=fresh)).renew()
    assert signed.order == (2, 1)
    assert node.newest() == "1.0"
    assert refused(node, record(stolen, sequence=9, version="evil"))
