"""What people name is read into one kind of target, or refused in one sentence."""

from pathlib import Path

import pytest

from node.catalogue import Catalogue
from node.errors import UsageError
from node.keys import publisher_text
from node.targets import (
    DigestTarget,
    FileTarget,
    NameTarget,
    parse_followed,
    parse_target,
)

PUBLISHER = bytes(range(32))
TEXT = publisher_text(PUBLISHER)


@pytest.fixture
def catalogue(tmp_path):
    with_follows = Catalogue(tmp_path / "catalogue.sqlite")
    with_follows.follow(PUBLISHER, "cffi", "never")
    with_follows.set_nickname("armin", PUBLISHER)
    yield with_follows
    with_follows.close()


def test_the_four_kinds(catalogue):
    """A digest, a package file, a publisher's name and a followed name."""
    digest = "sha256:" + "ab" * 32
    assert isinstance(parse_target(digest, catalogue), DigestTarget)
    assert isinstance(parse_target("ab" * 32, catalogue), DigestTarget)
    assert parse_target("/a/x.caravan", catalogue) == FileTarget(Path("/a/x.caravan"))
    assert parse_target(f"{TEXT}/cffi", catalogue) == NameTarget(PUBLISHER, "cffi")
    assert parse_target("cffi", catalogue) == NameTarget(PUBLISHER, "cffi")
    assert parse_target("cffi@1.0", catalogue) == NameTarget(PUBLISHER, "cffi", "1.0")


def test_nicknames_scopes_and_versions(catalogue):
    """The "@" of a scope is not the "@" of a version."""
    assert parse_target("armin/cffi@2", catalogue) == NameTarget(PUBLISHER, "cffi", "2")
    assert parse_target("armin/@scope/name@1.0", catalogue) == NameTarget(
        PUBLISHER, "@scope/name", "1.0"
    )
    assert parse_followed("armin/@scope/name", catalogue) == (PUBLISHER, "@scope/name")


@pytest.mark.parametrize(
    "text", ["", "ab" * 20 + "zz", "sha256:abc", "sha256:", "z" * 64, "unknown", "a b"]
)
def test_a_mistyped_target_is_a_usage_error(catalogue, text):
    """One sentence says what is read."""
    with pytest.raises(UsageError):
        parse_target(text, catalogue)


def test_a_malformed_digest_names_the_forms(catalogue):
    """The message says which forms of a digest are read."""
    with pytest.raises(UsageError, match=r"sha256"):
        parse_target("sha256:xyz", catalogue)
