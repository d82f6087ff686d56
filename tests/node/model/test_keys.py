"""Publisher keys are files that are never lost, replaced or shown by accident."""

import stat

import pytest

from node.errors import NodeError, UsageError
from node.model.keys import PublisherKeys, parse_publisher, publisher_text


def test_a_publisher_is_52_characters_and_reads_back():
    """The text of a publisher is the inverse of reading it."""
    raw = bytes(range(32))
    text = publisher_text(raw)
    assert len(text) == 52
    assert text == text.lower()
    assert parse_publisher(text) == raw


@pytest.mark.parametrize(
    "text",
    ["", "x", "A" * 52, "1" * 52, "a" * 51, "a" * 53, "\u00e9" * 52, "a" * 51 + "b"],
)
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
    assert keys.show()[0]["publisher"] == publisher
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


def test_an_encrypted_key_needs_its_passphrase(tmp_path):
    """On wish a key is encrypted at rest; the wrong passphrase is told as such."""
    keys = PublisherKeys(tmp_path)
    publisher = keys.new("work", passphrase="open sesame")
    assert keys.is_encrypted("work")
    assert keys.load("work", "open sesame").text == publisher
    with pytest.raises(NodeError, match="passphrase is needed"):
        keys.load("work")
    with pytest.raises(NodeError, match="not the passphrase"):
        keys.load("work", "wrong")


def test_a_release_key_acts_for_its_root(tmp_path):
    """A delegation names the root; each new one has a higher epoch."""
    keys = PublisherKeys(tmp_path / "offline")
    publisher = keys.new("root")
    first = keys.delegate("laptop", "root", days=30)
    second = keys.delegate("server", "root", days=30)
    assert (first.text, second.text) == (publisher, publisher)
    assert first.delegation is not None
    assert second.delegation is not None
    assert (first.delegation.epoch, second.delegation.epoch) == (1, 2)
    with pytest.raises(NodeError, match="only a root key"):
        keys.delegate("third", "laptop", days=1)
    with pytest.raises(UsageError):
        keys.delegate("third", "root", days=1, epoch=0)


def test_a_release_key_travels_without_its_root(tmp_path):
    """What is exported on one machine is imported on another, delegation included."""
    offline, online = PublisherKeys(tmp_path / "a"), PublisherKeys(tmp_path / "b")
    publisher = offline.new("root")
    made = offline.delegate("release", "root", days=30)
    assert online.import_("mine", offline.export("release").encode()) == publisher
    assert online.load("mine").delegation == made.delegation
    with pytest.raises(NodeError):
        online.import_("other", b"garbage")
    assert online.names() == ["mine"]


def test_epochs_are_remembered_where_the_key_file_has_left(tmp_path):
    """The stolen laptop's key is revoked by the next one, and that is said."""
    keys = PublisherKeys(tmp_path)
    keys.new("root")
    first = keys.delegate("laptop", "root", days=90)
    (tmp_path / "publishers" / "laptop.key").unlink()
    second = keys.delegate("new-laptop", "root", days=90)
    assert first.delegation is not None
    assert second.delegation is not None
    assert second.delegation.epoch == first.delegation.epoch + 1
    (revoked,) = keys.revoked_by(second.delegation)
    assert (revoked.name, revoked.epoch) == ("laptop", 1)
    assert keys.revoked_by(first.delegation) == []
    assert [one["name"] for one in keys.show()] == ["new-laptop", "root"]
    memory = tmp_path / "publishers" / f"{first.text}.epochs"
    assert stat.S_IMODE(memory.stat().st_mode) == 0o600


def test_the_network_may_know_more_epochs_than_this_machine(tmp_path):
    """Two machines with one root key must not give one epoch twice."""
    keys = PublisherKeys(tmp_path)
    keys.new("root")
    made = keys.delegate("laptop", "root", days=90, known_epoch=6)
    assert made.delegation is not None
    assert made.delegation.epoch == 7
    with pytest.raises(NodeError, match="epoch 3 is revoked"):
        keys.delegate("other", "root", days=90, epoch=3, known_epoch=6)
    beside = keys.delegate("server", "root", days=90, epoch=7)
    assert beside.delegation is not None
    assert beside.delegation.epoch == 7


def test_a_damaged_memory_of_epochs_is_said(tmp_path):
    keys = PublisherKeys(tmp_path)
    publisher = keys.new("root")
    keys.delegate("laptop", "root", days=90)
    with (tmp_path / "publishers" / f"{publisher}.epochs").open("a") as file:
        file.write("2 17")
    with pytest.raises(NodeError, match="damaged line"):
        keys.delegate("other", "root", days=90)


def test_a_delegation_for_another_key_is_refused(tmp_path):
    """A delegation block that was moved to another key's file is noticed."""
    keys = PublisherKeys(tmp_path)
    keys.new("root")
    keys.delegate("release", "root", days=30)
    stolen = (
        keys.export("root") + keys.export("release").split("PRIVATE KEY-----\n")[-1]
    )
    with pytest.raises(NodeError, match="another key"):
        keys.import_("mixed", stolen.encode())
