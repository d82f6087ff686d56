"""What is offered follows from what is held: never a package without what it needs."""

import sqlite3

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from node.content.sharing_policy import SharingPolicy
from node.content.withdrawal import Withdrawal
from node.model.catalogue import Catalogue
from node.model.keys import PublisherKey
from node.model.packages import (
    ArtifactEntry,
    Dependency,
    Package,
    PackageBody,
    issued_now,
)
from node.model.trust_store import TrustStore
from tests.node.publishers import NOW, record, release_key, root_key

KEYS = (root_key(1), root_key(7))
NUMBERS = st.integers(0, 5)
VERSIONS = st.integers(1, 3)
FILES = st.sets(st.integers(0, 11), min_size=1, max_size=3)
SHARING = st.sampled_from(["all", "published", "none"])
PackageId = tuple[int, int]
"""A package of the machine: the number of its name, and its version."""


def artifact(number: int) -> str:
    return f"sha256:{number:064x}"


def package_digest(which: PackageId) -> str:
    number, version = which
    return f"sha256:{number * 10 + version + 1000:064x}"


def key_of(number: int) -> PublisherKey:
    """Return the publisher of a name: two share the names between them."""
    return KEYS[number % 2]


class OfferingMachine(RuleBasedStateMachine):
    """Any sequence of commands and news, over packages that need each other in circles.

    Six names of two publishers have three versions each. A version's content is drawn
    when it is first met, and may name any other version as a dependency.
    """

    @initialize(
        sharing=SHARING,
        of=st.dictionaries(NUMBERS, SHARING, max_size=3),
    )
    def begin(self, sharing, of):
        database = sqlite3.connect(":memory:", isolation_level=None)
        self.catalogue, self.trust_store = Catalogue(database), TrustStore(database)
        self.withdrawal = Withdrawal(self.catalogue, self.trust_store)
        rules = {(key_of(n).publisher, f"p{n}"): rule for n, rule in of.items()}
        self.rules = rules
        self.policy = SharingPolicy(
            self.catalogue, sharing, of=rules, withdrawal=self.withdrawal
        )
        self.of = of
        self.sharing = sharing
        self.held: set[str] = set()
        self.bodies: dict[str, PackageBody] = {}
        self.own: set[str] = set()

    def _known(self, which, content):
        """Return a version's body, made of `content` where it is met first."""
        digest = package_digest(which)
        if digest not in self.bodies:
            number, version = which
            files, needs, needed_files, replaces, security = content
            key = key_of(number)
            self.bodies[digest] = PackageBody(
                format=1,
                publisher=key.text,
                name=f"p{number}",
                version=str(version),
                epoch=0,
                sequence=version,
                issued=issued_now(NOW),
                artifacts=[
                    ArtifactEntry(f"f{n}", 1, artifact(n), "ab" * 32) for n in files
                ],
                dependencies=[
                    *(Dependency("package", package_digest(one)) for one in needs),
                    *(Dependency("artifact", artifact(n)) for n in needed_files),
                ],
                replaces=[artifact(n) for n in sorted(replaces)],
                previous=package_digest((number, version - 1)) if version > 1 else "",
                urgency="security" if security else "routine",
            )
        return self.bodies[digest]

    content = st.tuples(
        FILES,
        st.sets(st.tuples(NUMBERS, VERSIONS), max_size=2),
        st.sets(st.integers(0, 11), max_size=1),
        st.sets(st.integers(0, 11), max_size=4),
        st.booleans(),
    )

    @rule(which=st.tuples(NUMBERS, VERSIONS), content=content, own=st.booleans())
    def fetch_package(self, which, content, own):
        digest, body = package_digest(which), self._known(which, content)
        made = Package.sign(body, key_of(which[0]))
        self.catalogue.add_package(digest, made, held=True, own=own)
        if own:
            self.own.add(digest)
        self.held |= {digest, *(entry.digest for entry in body.artifacts)}
        self.held |= {one.digest for one in body.dependencies if one.kind == "artifact"}

    @rule(which=st.tuples(NUMBERS, VERSIONS), content=content)
    def hear_of_a_release(self, which, content):
        body, key = self._known(which, content), key_of(which[0])
        made = Package.sign(body, key)
        self.catalogue.add_package(package_digest(which), made, held=False)
        released = record(
            key,
            name=body.name,
            version=body.version,
            sequence=body.sequence,
            urgency=body.urgency,
            package=bytes.fromhex(package_digest(which).removeprefix("sha256:")),
        )
        self.trust_store.remember_release(released, 1, NOW)

    @rule(number=NUMBERS)
    def revoke(self, number):
        fresh = release_key(root=1 if number % 2 == 0 else 7).delegation
        assert fresh is not None
        self.trust_store.remember_delegation(fresh)

    @rule(number=st.integers(0, 11))
    def share(self, number):
        self.held.add(artifact(number))
        self.catalogue.add_direct(artifact(number), "")

    @rule(number=st.integers(0, 11))
    def remove(self, number):
        self.held.discard(artifact(number))
        self.catalogue.changes.mark([artifact(number)])

    @rule(number=st.integers(0, 11))
    def pin(self, number):
        self.catalogue.pin(artifact(number))

    @rule(number=st.integers(0, 11))
    def unpin(self, number):
        self.catalogue.unpin(artifact(number))

    @rule(number=st.integers(0, 11))
    def keep_private(self, number):
        self.catalogue.make_private(artifact(number), "")

    def _choose(self, policy: SharingPolicy) -> set[str]:
        """Let the policy take what changed, and return all that is offered then."""
        change = policy.drain_changes()
        policy.decide(change, change.asks & self.held)
        return {digest for digest in self.held if policy.is_offered(digest)}

    def _offered(self) -> set[str]:
        return self._choose(self.policy)

    def _files(self, digest: str) -> set[str]:
        return {entry.digest for entry in self.bodies[digest].artifacts}

    def _needs(self, digest: str, kind: str) -> set[str]:
        needs = self.bodies[digest].dependencies
        return {one.digest for one in needs if one.kind == kind}

    @invariant()
    def nothing_is_offered_without_what_it_needs(self):
        """Offer what a package needs at least as much as the package."""
        if not hasattr(self, "policy"):
            return
        offered = self._offered()
        withheld = self.withdrawal.withheld().keys()
        assert offered <= self.held
        assert not offered & withheld
        for digest in offered & self.bodies.keys():
            assert self._files(digest) <= offered | withheld
            needed = self._needs(digest, "package")
            assert needed <= offered
            if self._files(digest) <= offered:
                assert self._needs(digest, "artifact") <= offered
                assert all(self._files(one) <= offered for one in needed)

    @invariant()
    def only_what_a_release_that_counts_replaced_is_withheld(self):
        if not hasattr(self, "policy"):
            return
        for one, why in self.withdrawal.withheld().items():
            newest = self.trust_store.counting(*why.owner)
            assert newest is not None
            assert one not in self._files(newest.package)
            body = self.bodies[why.release.digest]
            assert body.urgency == "security"
            assert one in body.replaces
            assert one not in self.catalogue.directs() | self.catalogue.pinned()

    @invariant()
    def what_is_kept_back_is_silent_and_silences(self):
        if not hasattr(self, "policy"):
            return
        offered = self._offered()
        for digest, body in self.bodies.items():
            row = self.catalogue.package(digest)
            rule_ = self.of.get(int(body.name.removeprefix("p")))
            if rule_ == "none" and row is not None and row.held:
                assert not offered & {digest, *self._files(digest)}
        assert not offered & self.catalogue.privates()

    @invariant()
    def the_owner_decides(self):
        if not hasattr(self, "policy"):
            return
        offered = self._offered()
        packages = self.policy.packages
        wished = {
            digest
            for digest in packages
            for number in [int(self.bodies[digest].name.removeprefix("p"))]
            for rule_ in [self.of.get(number, self.sharing)]
            if rule_ == "all" or (rule_ == "published" and digest in self.own)
        }
        reached, waiting = set(), list(wished)
        while waiting:
            digest = waiting.pop()
            if digest not in reached:
                reached.add(digest)
                waiting += self._needs(digest, "package")
        assert packages == reached
        if self.sharing == "none" and not self.of:
            assert not offered
        if self.sharing == "all":
            direct = self.catalogue.directs() & self.held
            assert {d for d in direct if not self.policy.is_silenced(d)} <= offered

    @invariant()
    def what_changed_leads_where_a_fresh_start_does(self):
        if not hasattr(self, "policy"):
            return
        offered = self._offered()
        fresh = SharingPolicy(
            self.catalogue, self.sharing, of=self.rules, withdrawal=self.withdrawal
        )
        assert self._choose(fresh) == offered
        assert fresh.packages == self.policy.packages
        for number in range(6):
            name = (key_of(number).publisher, f"p{number}")
            assert fresh.is_name_offered(*name) == self.policy.is_name_offered(*name)


OfferingMachine.TestCase.settings = settings(
    max_examples=60, stateful_step_count=30, deadline=None
)
TestOffering = OfferingMachine.TestCase
