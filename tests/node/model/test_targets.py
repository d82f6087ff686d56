"""What people name is read into one kind of target, or refused in one sentence."""

from pathlib import Path

import pytest

from node.errors import UsageError
from node.model.catalogue import Catalogue
from node.model.database import open_database
from node.model.keys import publisher_text
from node.model.targets import (
    DigestTarget,
    FileTarget,
    NameTarget,
    parse_target,
)
from node.model.trust_store import TrustStore
from transfer import Digest

PUBLISHER = bytes(range(32))
TEXT = publisher_text(PUBLISHER)


@pytest.fixture
def read(tmp_path):
    database = open_database(tmp_path / "catalogue.sqlite")
    trust_store = TrustStore(database)
    trust_store.follow(PUBLISHER, "cffi", "never")
    trust_store.set_nickname("armin", PUBLISHER)
    yield lambda text: parse_target(text, Catalogue(database), trust_store)
    database.close()


def test_the_four_kinds(read):
    """A digest, a package file, a publisher's name and a followed name."""
    digest = "sha256:" + "ab" * 32
    assert isinstance(read(digest), DigestTarget)
    assert isinstance(read("ab" * 32), DigestTarget)
    assert read("/a/x.caravan") == FileTarget(Path("/a/x.caravan"))
    assert read(f"{TEXT}/cffi") == NameTarget(PUBLISHER, "cffi")
    assert read("cffi") == NameTarget(PUBLISHER, "cffi")
    assert read("cffi@1.0") == NameTarget(PUBLISHER, "cffi", "1.0")


def test_the_short_digest_of_a_table_is_read_where_it_is_unambiguous(read, tmp_path):
    database = open_database(tmp_path / "catalogue.sqlite")
    catalogue = Catalogue(database)
    one, two = "sha256:" + "ab" * 32, "sha256:" + "ab" * 31 + "cd"
    catalogue.add_direct(one, "")
    database.close()
    assert read(one[:19]) == DigestTarget(Digest.parse(one))
    assert read("ab" * 6) == DigestTarget(Digest.parse(one))
    database = open_database(tmp_path / "catalogue.sqlite")
    Catalogue(database).add_direct(two, "")
    database.close()
    with pytest.raises(UsageError, match="more digits"):
        read(one[:19])


def test_nicknames_scopes_and_versions(read):
    """The "@" of a scope is not the "@" of a version."""
    assert read("armin/cffi@2") == NameTarget(PUBLISHER, "cffi", "2")
    assert read("armin/@scope/name@1.0") == NameTarget(PUBLISHER, "@scope/name", "1.0")
    assert read("armin/@scope/name") == NameTarget(PUBLISHER, "@scope/name")


@pytest.mark.parametrize(
    "text", ["", "ab" * 20 + "zz", "sha256:abc", "sha256:", "z" * 64, "unknown", "a b"]
)
def test_a_mistyped_target_is_a_usage_error(read, text):
    """One sentence says what is read."""
    with pytest.raises(UsageError):
        read(text)


def test_a_malformed_digest_names_the_forms(read):
    """The message says which forms of a digest are read."""
    with pytest.raises(UsageError, match=r"sha256"):
        read("sha256:xyz")
