"""What a security release causes is derived from the newest release that counts.

Files are numbers: `files(1, 2)` are two artifacts, and `digest(1)` is the first.
"""

from __future__ import annotations

import base64

import pytest

from node.content.withdrawal import Withdrawal
from node.errors import RefusedError
from node.model.packages import ArtifactEntry, Dependency
from tests.node.publishers import (
    Believer,
    digest,
    package,
    record,
    release_key,
    root_key,
)

OTHER = root_key(7)
STOLEN = release_key(2, epoch=1)
FRESH = release_key(3, epoch=2)


def files(*numbers: int) -> list[ArtifactEntry]:
    return [ArtifactEntry(f"{n}.bin", 1, digest(n), "ab" * 32) for n in numbers]


def version(number: int, *numbers: int, key=None, **changes):
    """Return version `number` of `demo` with some files."""
    fields = {"version": f"{number}", "sequence": number, "artifacts": files(*numbers)}
    if key is not None and key.delegation is not None:
        fields["epoch"] = key.delegation.epoch
        fields["delegation"] = base64.b64encode(key.delegation.raw).decode()
    return package(key, **{**fields, **changes})


def fix(number: int, *numbers: int, replaces, **changes):
    """Return a security release."""
    return version(
        number,
        *numbers,
        urgency="security",
        replaces=[digest(n) for n in replaces],
        **changes,
    )


def withheld(node: Believer) -> set[int]:
    return {int(one.removeprefix("sha256:"), 16) for one in node.withdrawal.withheld()}


@pytest.fixture
def node():
    """Make a node that holds version 1 of `demo`: the files 1 and 2."""
    made = Believer()
    made.first = made.hold(version(1, 1, 2))
    return made


def test_what_a_security_release_replaces_is_withheld(node):
    node.release(fix(2, 2, 3, replaces=[1], previous=node.first))
    assert withheld(node) == {1}
    with pytest.raises(RefusedError, match="demo 2 by"):
        node.withdrawal.check(digest(1))
    node.withdrawal.check(digest(2))


def test_a_routine_release_withholds_nothing(node):
    node.release(version(2, 3, replaces=[digest(1), digest(2)]))
    assert withheld(node) == set()


def test_what_is_released_again_is_offered_again(node):
    """2 was broken; 3 goes back to the files of 1."""
    second = node.release(fix(2, 3, replaces=[1, 2], previous=node.first))
    assert withheld(node) == {1, 2}
    node.release(version(3, 1, 2, replaces=[digest(3)], previous=second))
    assert withheld(node) == set()


def test_a_routine_release_after_it_does_not_end_a_withdrawal(node):
    """A list of vulnerable nodes must not fill again with the next version."""
    second = node.release(fix(2, 3, replaces=[1, 2], previous=node.first))
    node.release(version(3, 4, replaces=[digest(3)], previous=second))
    assert withheld(node) == {1, 2}


def test_a_revoked_key_withholds_nothing():
    """Neither at once, nor as the version before one of the next epoch."""
    node = Believer()
    first = node.hold(version(1, 1, key=STOLEN))
    evil = node.release(fix(2, 9, replaces=[1], previous=first, key=STOLEN), key=STOLEN)
    assert withheld(node) == {1}
    assert FRESH.delegation is not None
    node.releases.learn_delegation(FRESH.delegation)
    assert withheld(node) == set()
    later = version(1, 5, key=FRESH, previous=evil, replaces=[digest(9), digest(1)])
    node.release(later, key=FRESH)
    assert withheld(node) == set()


def test_a_release_that_is_signed_anew_after_a_revocation_counts():
    """The new key vouches for the package file that the old one signed."""
    node = Believer()
    first = node.hold(version(1, 1, key=STOLEN))
    made = fix(2, 2, replaces=[1], previous=first, key=STOLEN)
    node.release(made, key=STOLEN)
    again = record(
        FRESH,
        package=bytes.fromhex(node.fetcher.add(made).removeprefix("sha256:")),
        version="2",
        urgency="security",
    )
    node.releases.learn(again, confirmed=1)
    assert withheld(node) == {1}


def test_a_publisher_in_conflict_withholds_nothing(node):
    """Two releases of one number: neither is obeyed, whatever it replaces."""
    node.release(fix(2, 3, replaces=[1, 2]))
    assert withheld(node) == {1, 2}
    node.releases.learn(record(sequence=2, version="2-evil"), confirmed=1)
    assert withheld(node) == set()


def test_a_stranger_withholds_nothing_of_others(node):
    """Whatever he writes into `replaces` of a package of his own."""
    node.release(
        package(
            OTHER, name="demo", urgency="security", replaces=[digest(1), digest(2)]
        ),
        key=OTHER,
    )
    assert withheld(node) == set()


@pytest.mark.parametrize(
    "how", ["direct", "pinned", "pinned package", "contained", "artifact", "package"]
)
def test_what_something_else_needs_is_not_withheld(node, how):
    """By its digest, by a pin, in another's package, or as a dependency of one."""
    node.release(fix(2, 3, replaces=[1, 2], previous=node.first))
    if how == "direct":
        node.catalogue.add_direct(digest(1), "1.bin")
    elif how == "pinned":
        node.catalogue.pin(digest(1))
    elif how == "pinned package":
        node.catalogue.pin(node.first)
    elif how == "contained":
        node.hold(package(OTHER, name="app", artifacts=files(1, 8)))
    elif how == "artifact":
        need = Dependency("artifact", digest(1))
        node.hold(package(OTHER, name="app", artifacts=files(8), dependencies=[need]))
    else:
        need = Dependency("package", node.first, "demo", "1")
        node.hold(package(OTHER, name="app", artifacts=files(8), dependencies=[need]))
    whole = how in ("pinned package", "package")
    assert withheld(node) == (set() if whole else {2})


def test_an_older_version_of_the_same_name_needs_nothing(node):
    """Version 1 does not keep alive what it contains or depends on."""
    node.hold(
        version(
            2, 4, dependencies=[Dependency("package", node.first)], previous=node.first
        )
    )
    node.release(fix(3, 5, replaces=[1, 2, 4]))
    assert withheld(node) == {1, 2, 4}


def test_a_package_that_is_only_known_needs_nothing(node):
    """What was read of somebody's newest release is not held."""
    need = Dependency("artifact", digest(1))
    node.release(fix(2, 3, replaces=[1, 2]))
    made = package(OTHER, name="app", artifacts=files(8), dependencies=[need])
    node.catalogue.add_package(node.fetcher.add(made), made, held=False)
    assert withheld(node) == {1, 2}


def test_a_dependent_is_marked_with_what_was_replaced_and_by_what(node):
    """By package and by artifact; those that need neither are not marked."""
    needs = [Dependency("package", node.first), Dependency("artifact", digest(2))]
    app = node.hold(package(OTHER, name="app", artifacts=files(8), dependencies=needs))
    node.hold(package(OTHER, name="free", artifacts=files(7)))
    assert node.withdrawal.dependents() == []
    second = node.release(fix(2, 3, replaces=[1, 2], note="closes a hole"))
    marked = node.withdrawal.dependents()
    assert {(one.package.digest, one.dependency) for one in marked} == {
        (app, node.first),
        (app, digest(2)),
    }
    assert {one.name for one in marked} == {"demo 1", "2.bin"}
    for one in marked:
        assert one.replacement.release.digest == second
        assert one.replacement.release.note == "closes a hole"


def test_switched_off_it_withholds_nothing_and_still_marks(node):
    need = Dependency("package", node.first)
    node.hold(package(OTHER, name="app", artifacts=files(8), dependencies=[need]))
    node.release(fix(2, 3, replaces=[1, 2]))
    off = Withdrawal(node.catalogue, node.trust_store, enabled=False)
    assert off.withheld() == {}
    assert len(off.dependents()) == 1


async def test_releases_that_were_missed_are_read_back(node):
    """Only version 3 is heard of; that 2 was a security release counts all the same."""
    made = fix(2, 3, replaces=[1, 2], previous=node.first)
    second = node.fetcher.add(made)
    third = version(3, 4, replaces=[digest(3)], previous=second)
    node.dht.keep(
        record(
            package=bytes.fromhex(node.fetcher.add(third).removeprefix("sha256:")),
            version="3",
            sequence=3,
        )
    )
    await node.releases.refresh(root_key().publisher, "demo")
    await node.pipeline.withdraw(root_key().publisher, "demo")
    assert withheld(node) == {1, 2}


def test_what_was_released_again_is_not_ended_by_dropping_it_later(node):
    """2 was broken, 3 went back to the files of 1, and 4 drops one of them."""
    second = node.release(fix(2, 3, replaces=[1, 2], previous=node.first))
    third = node.release(version(3, 1, 2, replaces=[digest(3)], previous=second))
    node.release(version(4, 2, 4, replaces=[digest(1), digest(3)], previous=third))
    assert withheld(node) == set()


def test_a_security_release_after_that_ends_it_again(node):
    second = node.release(fix(2, 3, replaces=[1, 2], previous=node.first))
    third = node.release(version(3, 1, 2, previous=second))
    node.release(fix(4, 4, replaces=[1, 2], previous=third))
    assert withheld(node) == {1, 2}


def test_a_release_nobody_has_read_offers_nothing_again(node):
    """Its package file cannot be had: what is known of the line goes on counting."""
    node.release(fix(2, 3, replaces=[1, 2], previous=node.first))
    node.releases.learn(record(sequence=3, version="3"), confirmed=1)
    assert withheld(node) == {1, 2}


def test_a_followed_publisher_speaks_for_its_own_files(node):
    """The file of another publisher, which is known and not held, may be fetched."""
    theirs = package(OTHER, name="app", artifacts=files(8))
    node.catalogue.add_package(node.fetcher.add(theirs), theirs, held=False)
    node.release(fix(2, 3, replaces=[1, 8], previous=node.first))
    node.withdrawal.check(digest(8))
    assert withheld(node) == {1}


@pytest.mark.parametrize("seed", range(2, 7))
def test_another_name_that_replaced_a_file_keeps_nobody_from_replacing_it(node, seed):
    """A copy of the file in another's package, which that one has replaced as well."""
    other = root_key(seed)
    copy = node.hold(package(other, name="copy", artifacts=files(1)))
    node.release(fix(2, 3, replaces=[1, 2], previous=node.first))
    assert withheld(node) == {2}, "the copy is held and needs it"
    made = package(
        other,
        name="copy",
        version="2",
        sequence=2,
        artifacts=files(8),
        urgency="security",
        replaces=[digest(1)],
        previous=copy,
    )
    node.release(made, key=other)
    assert withheld(node) == {1, 2}


def test_a_package_that_was_replaced_itself_needs_nothing(node):
    need = Dependency("package", node.first, "demo", "1")
    app = node.hold(package(OTHER, name="app", artifacts=files(8), dependencies=[need]))
    node.release(fix(2, 3, replaces=[1, 2], previous=node.first))
    assert withheld(node) == set()
    fixed = package(
        OTHER,
        name="app",
        version="2",
        sequence=2,
        artifacts=files(9),
        urgency="security",
        replaces=[digest(8)],
        previous=app,
    )
    node.release(fixed, key=OTHER)
    assert withheld(node) == {1, 2, 8}
