"""What is offered follows from what is held: never a package without what it needs."""

import sqlite3

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from node.content.sharing_policy import SharingPolicy
from node.model.catalogue import Catalogue
from node.model.keys import PublisherKey
from node.model.packages import (
    ArtifactEntry,
    Dependency,
    Package,
    PackageBody,
    issued_now,
)

PRIVATE = Ed25519PrivateKey.from_private_bytes(bytes([1]) * 32)
KEY = PublisherKey(PRIVATE, PRIVATE.public_key().public_bytes_raw())
NUMBERS = st.integers(0, 7)
SHARING = st.sampled_from(["all", "published", "none"])


def artifact(number: int) -> str:
    return f"sha256:{number:064x}"


def package_digest(number: int) -> str:
    return f"sha256:{number + 100:064x}"


def package(number: int, files: set[int], needs: set[int]) -> Package:
    body = PackageBody(
        format=1,
        publisher=KEY.text,
        name=f"p{number}",
        version="1",
        epoch=0,
        sequence=1,
        issued=issued_now(1_800_000_000),
        artifacts=[ArtifactEntry(f"f{n}", 1, artifact(n), "ab" * 32) for n in files],
        dependencies=[Dependency("package", package_digest(n)) for n in sorted(needs)],
    )
    return Package.sign(body, KEY)


def number_of(digest: str) -> int:
    return int(digest.removeprefix("sha256:"), 16) - 100


class OfferingMachine(RuleBasedStateMachine):
    """Any sequence of commands, over packages that need each other in circles."""

    @initialize(
        sharing=SHARING,
        of=st.dictionaries(NUMBERS, SHARING, max_size=3),
    )
    def begin(self, sharing, of):
        self.catalogue = Catalogue(sqlite3.connect(":memory:", isolation_level=None))
        rules = {(KEY.publisher, f"p{number}"): rule for number, rule in of.items()}
        self.policy = SharingPolicy(self.catalogue, sharing, rules)
        self.of = of
        self.sharing = sharing
        self.held: set[str] = set()
        self.needs: dict[str, set[str]] = {}
        self.own: set[str] = set()
        self.files: dict[str, set[str]] = {}

    @rule(
        number=NUMBERS,
        files=st.sets(NUMBERS, min_size=1, max_size=3),
        needs=st.sets(NUMBERS, max_size=3),
        own=st.booleans(),
    )
    def fetch_package(self, number, files, needs, own):
        digest = package_digest(number)
        if digest not in self.needs:
            self.needs[digest] = {package_digest(n) for n in needs}
            self.files[digest] = {artifact(n) for n in files}
            self.catalogue.add_package(
                digest, package(number, files, needs), held=True, own=own
            )
            if own:
                self.own.add(digest)
        self.held |= self.files[digest] | {digest}

    @rule(number=NUMBERS)
    def share(self, number):
        self.held.add(artifact(number))
        self.catalogue.add_direct(artifact(number), "")

    @rule(number=NUMBERS)
    def remove(self, number):
        self.held.discard(artifact(number))

    @rule(number=NUMBERS, by=NUMBERS)
    def withdraw(self, number, by):
        self.catalogue.withdraw(artifact(number), package_digest(by))

    @rule(number=NUMBERS)
    def restore(self, number):
        self.catalogue.restore(artifact(number))

    @invariant()
    def nothing_is_offered_without_what_it_needs(self):
        if not hasattr(self, "policy"):
            return
        offered = self.policy.choose(self.held)
        withdrawn = self.catalogue.withdrawn().keys()
        assert offered <= self.held
        assert not offered & withdrawn
        for digest in offered & self.needs.keys():
            assert self.files[digest] <= offered | withdrawn
            assert self.needs[digest] <= offered

    @invariant()
    def what_is_kept_back_is_silent_and_silences(self):
        if not hasattr(self, "policy"):
            return
        offered = self.policy.choose(self.held)
        for number, rule_ in self.of.items():
            if rule_ == "none":
                mine = self.files.get(package_digest(number), set())
                assert not offered & {package_digest(number), *mine}

    @invariant()
    def the_owner_decides(self):
        if not hasattr(self, "policy"):
            return
        packages = self.policy.packages(self.held)
        offered = self.policy.choose(self.held)
        wished = {
            digest
            for digest in packages
            for rule_ in [self.of.get(number_of(digest), self.sharing)]
            if rule_ == "all" or (rule_ == "published" and digest in self.own)
        }
        reached, waiting = set(), list(wished)
        while waiting:
            digest = waiting.pop()
            if digest not in reached:
                reached.add(digest)
                waiting += self.needs[digest]
        assert packages == reached
        if self.sharing == "none" and not self.of:
            assert not offered
        if self.sharing == "all":
            direct = self.catalogue.directs() & self.held
            assert direct - self.policy.silenced() <= offered


OfferingMachine.TestCase.settings = settings(
    max_examples=60, stateful_step_count=25, deadline=None
)
TestOffering = OfferingMachine.TestCase
