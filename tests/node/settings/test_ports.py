"""A second node on one machine takes the next free ports, if none were named."""

from __future__ import annotations

import pytest

from node.doctor import Check
from node.settings import DEFAULT_LISTEN, Settings, ports
from node.settings.ports import on_free_ports


@pytest.fixture
def taken(monkeypatch):
    """Ports that are in use."""
    numbers: set[int] = set()

    def check(listen):
        return Check("ports", ok=not numbers & {port for _, port in listen}, hint="")

    monkeypatch.setattr(ports, "check_ports", check)
    return numbers


def test_free_defaults_stay(tmp_path, taken):
    settings = Settings(tmp_path)
    assert on_free_ports(settings) == (settings, {})


def test_the_next_free_pair_is_taken(tmp_path, taken):
    """All addresses move alike, so that the web port is always the next one."""
    taken |= {4747, 4758}
    moved, changed = on_free_ports(Settings(tmp_path))
    assert moved.listen == ("0.0.0.0:4767", "[::]:4767")
    assert moved.web == "127.0.0.1:4768"
    assert changed == {"listen": moved.listen, "web": moved.web}


def test_an_address_that_was_named_stays_also_where_it_is_taken(tmp_path, taken):
    taken |= {4748, 5000}
    named = Settings(tmp_path, listen=("127.0.0.1:5000",))
    moved, changed = on_free_ports(named)
    assert moved.listen == ("127.0.0.1:5000",)
    assert changed == {"web": "127.0.0.1:4758"}
    both = Settings(tmp_path, listen=("127.0.0.1:5000",), web="127.0.0.1:5000")
    assert on_free_ports(both) == (both, {})


def test_with_all_ports_taken_the_defaults_say_so(tmp_path, taken):
    taken |= set(range(4000, 6000))
    settings = Settings(tmp_path)
    assert on_free_ports(settings) == (settings, {})
    assert settings.listen == DEFAULT_LISTEN
