"""Publisher keys are files that are never lost, replaced or shown by accident."""

import stat

import pytest

from node.errors import NodeError, UsageError
from node.keys import PublisherKeys, parse_publisher, publisher_text


def test_a_publisher_is_52_characters_and_reads_back():
    """The text of a publisher is the inverse of reading it."""
    raw = bytes(range(32))
    text = publisher_text(raw)
    assert len(text) == 52
    assert text == text.lower()
    assert parse_publisher(text) == raw


@pytest.mark.parametrize("text", ["", "x", "A" * 52, "1" * 52, "a" * 51, "a" * 53])
def test_what_is_no_publisher_is_refused(text):
    """A mistyped publisher is a usage error."""
    with pytest.raises(UsageError):
        parse_publisher(text)


def test_a_key_is_made_once_and_kept_private(tmp_path):
    """Making a key again keeps the first; the file is its owner's alone."""
    keys = PublisherKeys(tmp_path)
    publisher = keys.new("work")
    with pytest.raises(NodeError, match="already"):
        keys.new("work")
    assert keys.load("work").text == publisher
    assert keys.show() == [{"name": "work", "publisher": publisher}]
    path = tmp_path / "publishers" / "work.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [one.name for one in path.parent.iterdir()] == ["work.key"]
    assert "PRIVATE KEY" in keys.export("work")


def test_only_the_default_key_is_made_by_itself(tmp_path):
    """A mistyped key name must not make a new publisher."""
    keys = PublisherKeys(tmp_path)
    assert keys.load_or_new("default").text == keys.load("default").text
    with pytest.raises(NodeError, match="key new typo"):
        keys.load_or_new("typo")


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".x", "x" * 65])
def test_a_key_name_is_not_a_path(tmp_path, name):
    """Key names cannot leave their folder."""
    with pytest.raises(UsageError):
        PublisherKeys(tmp_path).new(name)


def test_a_damaged_key_file_is_named(tmp_path):
    """The message says which file is broken."""
    keys = PublisherKeys(tmp_path)
    keys.new("work")
    (tmp_path / "publishers" / "work.key").write_text("garbage")
    with pytest.raises(NodeError, match=r"work\.key is not an Ed25519 private key"):
        keys.load("work")
