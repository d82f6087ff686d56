"""A private network is a name and 32 secret bytes that only their owner can read."""

from __future__ import annotations

import logging

import pytest

from node.errors import NodeError, UsageError
from node.settings import Settings
from node.settings.networks import (
    check_name,
    list_networks,
    load_network,
    load_secret,
    new_network,
)


def test_a_new_network_has_a_secret_for_its_owner_only(tmp_path):
    made = new_network(tmp_path, "lab")
    assert made.secret_file == tmp_path / "networks" / "lab.secret"
    assert made.secret_file.stat().st_mode & 0o777 == 0o600
    assert len(load_secret(made.secret_file)) == 32
    assert list_networks(tmp_path) == [made]


def test_an_existing_secret_is_never_replaced(tmp_path):
    made = new_network(tmp_path, "lab")
    before = load_secret(made.secret_file)
    with pytest.raises(NodeError, match="already"):
        new_network(tmp_path, "lab")
    assert load_secret(made.secret_file) == before


def test_two_networks_have_different_secrets(tmp_path):
    one, other = new_network(tmp_path, "a"), new_network(tmp_path, "b")
    assert load_secret(one.secret_file) != load_secret(other.secret_file)
    assert [network.name for network in list_networks(tmp_path)] == ["a", "b"]


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".a", "A", "a b", "x" * 65, "ä"])
def test_a_name_that_is_no_plain_file_name_is_refused(name):
    with pytest.raises(UsageError, match="cannot name a network"):
        check_name(name)


def test_the_public_network_cannot_be_made_private():
    with pytest.raises(UsageError, match="public network"):
        check_name("caravan")


@pytest.mark.parametrize("content", [b"", b"x" * 31, b"x" * 33, b"x" * 100_000])
def test_a_secret_of_another_length_is_refused(tmp_path, content):
    path = tmp_path / "secret"
    path.write_bytes(content)
    with pytest.raises(NodeError, match="exactly 32 bytes"):
        load_secret(path)


def test_a_secret_that_is_not_there_is_one_sentence(tmp_path):
    with pytest.raises(NodeError, match="cannot read the network's secret"):
        load_secret(tmp_path / "none")


def test_a_secret_that_others_can_read_is_used_with_a_warning(tmp_path, caplog):
    path = tmp_path / "secret"
    path.write_bytes(bytes(32))
    path.chmod(0o644)
    with caplog.at_level(logging.WARNING):
        load_secret(path)
    assert "chmod 600" in caplog.text


def test_settings_name_the_network_that_the_dht_speaks_in(tmp_path):
    public = load_network(Settings(home=tmp_path))
    assert public.secret is None
    made = new_network(tmp_path, "lab")
    private = load_network(
        Settings(home=tmp_path, network="lab", secret_file=made.secret_file)
    )
    assert private.name == "lab"
    assert private.secret == load_secret(made.secret_file)
    assert private.tag != public.tag
