"""A home belongs to one network, and remembers the addresses that were given."""

from __future__ import annotations

import asyncio
import stat

import pytest

from node.errors import NodeError, UsageError
from node.leave_network import leave_network
from node.service import Node
from node.settings import Settings
from node.settings.load import load_settings, load_with_sources
from node.settings.networks import (
    load_secret,
    new_network,
    read_secret_text,
    save_secret,
    secret_path,
    secret_text,
)
from node.settings.remembered import FILE, read_remembered, remember
from tests.node.running import running
from transfer import Store

SECRET = bytes(range(32))


def private(home, **more) -> dict:
    return {"network": "lab", "secret_file": secret_path(home, "lab"), **more}


async def test_a_home_joins_the_network_that_it_was_in(tmp_path):
    """Forgetting a flag does not put a private network's files into the public one."""
    new_network(tmp_path, "lab")
    async with running(tmp_path, **private(tmp_path)):
        pass
    assert read_remembered(tmp_path) == {"network": "lab"}
    loaded = load_with_sources(tmp_path, {}, {})
    assert (loaded.settings.network, loaded.sources["network"]) == ("lab", "remembered")
    assert loaded.settings.secret_file == secret_path(tmp_path, "lab")


@pytest.mark.parametrize("how", ["flag", "environment", "file", "library"])
async def test_joining_another_network_is_refused_with_a_sentence(tmp_path, how):
    new_network(tmp_path, "lab")
    async with running(tmp_path, **private(tmp_path)):
        pass
    before = read_remembered(tmp_path)
    flags = {"network": "caravan"} if how == "flag" else {}
    variables = {"CARAVAN_NETWORK": "caravan"} if how == "environment" else {}
    if how == "file":
        (tmp_path / "config.toml").write_text('network = "caravan"')

    async def start() -> None:
        if how == "library":
            await Node.start(Settings(tmp_path, listen=("127.0.0.1:0",)))
        load_settings(tmp_path, flags, variables)

    with pytest.raises(NodeError, match="belongs to the network 'lab'") as refused:
        await start()
    assert "--home" in str(refused.value)
    assert "caravan network leave --forget" in str(refused.value)
    assert read_remembered(tmp_path) == before


async def test_a_public_home_does_not_become_a_private_one(tmp_path):
    async with running(tmp_path):
        pass
    new_network(tmp_path, "lab")
    with pytest.raises(NodeError, match="belongs to the network 'caravan'"):
        load_settings(tmp_path, {"network": "lab"}, {})


async def test_a_start_that_fails_binds_a_home_to_nothing(tmp_path):
    async with running(tmp_path / "first") as first:
        taken = str(first.address)
        with pytest.raises(NodeError, match="taken"):
            await Node.start(Settings(tmp_path / "second", listen=(taken,)))
    assert read_remembered(tmp_path / "second") == {}


async def test_the_secret_of_a_network_that_was_joined_is_kept(tmp_path):
    """The file that it came in may be gone at the next start."""
    brought = tmp_path / "brought"
    brought.write_text(secret_text("lab", SECRET) + "\n")
    home = tmp_path / "home"
    async with running(home, network="lab", secret_file=brought):
        pass
    brought.unlink()
    settings = load_settings(home, {}, {})
    kept = secret_path(home, "lab")
    assert settings.secret_file == kept
    assert kept.read_bytes() == SECRET
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    with pytest.raises(NodeError, match="another secret"):
        save_secret(home, "lab", bytes(32))


def test_a_secret_has_one_text_and_a_slip_is_found():
    text = secret_text("lab", SECRET)
    assert read_secret_text(f"  {text}\n") == ("lab", SECRET)
    assert "\n" not in text
    for position in range(len(text)):
        slip = text[:position] + ("b" if text[position] == "a" else "a")
        with pytest.raises(UsageError, match="copy the whole line"):
            read_secret_text(slip + text[position + 1 :])
    for other in ("", text[:-1], text + "A", text + "=", "caravan-secret-1-", "é"):
        with pytest.raises(UsageError):
            read_secret_text(other)


def test_a_text_of_another_network_is_refused(tmp_path):
    path = tmp_path / "secret"
    path.write_text(secret_text("lab", SECRET))
    path.chmod(0o600)
    assert load_secret(path, "lab") == SECRET
    with pytest.raises(NodeError, match="'lab', not 'class'"):
        load_secret(path, "class")


async def test_leaving_a_private_network_keeps_what_was_held_to_oneself(tmp_path):
    """Neither announced nor served in the next network, under another node key."""
    home = tmp_path / "home"
    new_network(home, "lab")
    async with running(home, **private(home)) as node:
        node_id = node.describe().node_id
        exam = b"exam questions of next week"
        artifact = await asyncio.to_thread(node.layers.storage.store.add_bytes, exam)
        node.layers.storage.catalogue.add_direct(str(artifact.digest), "exam.txt")
        node.layers.storage.trust_store.follow(bytes(32), "exam", "never")
        await node.parts.content.router.sync()
        assert node.parts.content.router.is_offered(artifact)
        with pytest.raises(NodeError, match="another node is running"):
            await asyncio.to_thread(leave_network, home)
    left = await asyncio.to_thread(leave_network, home)
    assert (left.network, left.kept_private, left.offered) == ("lab", 1, 0)
    async with running(home) as node:
        assert node.settings.network == "caravan"
        assert node.describe().node_id != node_id
        await node.parts.content.router.sync()
        assert not node.parts.content.router.is_offered(artifact)
        assert not node.parts.content.router.may_serve(artifact.digest, whole=True)
        assert node.layers.storage.trust_store.follows() == []
        assert (
            await asyncio.to_thread(node.layers.storage.store.find, artifact.digest)
            == artifact
        )
    assert secret_path(home, "lab").exists()


async def test_leaving_the_public_network_says_that_files_are_offered_again(tmp_path):
    async with running(tmp_path):
        pass
    store = Store(tmp_path)
    store.add_bytes(b"public")
    store.close()
    left = await asyncio.to_thread(leave_network, tmp_path)
    assert (left.network, left.kept_private, left.offered) == ("caravan", 0, 1)
    with pytest.raises(NodeError, match="belongs to no network"):
        await asyncio.to_thread(leave_network, tmp_path)


def test_flags_environment_and_file_count_over_what_is_remembered(tmp_path):
    remember(tmp_path, {"listen": ["127.0.0.1:5001"], "web": "127.0.0.1:5002"})
    assert load_settings(tmp_path, {}, {}).listen == ("127.0.0.1:5001",)
    (tmp_path / "config.toml").write_text('listen = ["127.0.0.1:6001"]')
    loaded = load_with_sources(tmp_path, {}, {})
    assert loaded.settings.listen == ("127.0.0.1:6001",)
    assert loaded.settings.web == "127.0.0.1:5002"
    assert loaded.sources["web"] == "remembered"
    variables = {"CARAVAN_LISTEN": "127.0.0.1:7001"}
    assert load_settings(tmp_path, {}, variables).listen == ("127.0.0.1:7001",)
    flags = {"listen": ("127.0.0.1:8001",), "web": "127.0.0.1:8002"}
    settings = load_settings(tmp_path, flags, variables)
    assert (settings.listen, settings.web) == (("127.0.0.1:8001",), "127.0.0.1:8002")


@pytest.mark.parametrize("content", ["", "[]", "{", '{"network": 1}'])
def test_a_damaged_memory_is_refused_and_not_ignored(tmp_path, content):
    """It may have said that this home belongs to a private network."""
    (tmp_path / FILE).write_text(content)
    with pytest.raises(NodeError, match="--network"):
        load_settings(tmp_path, {}, {})
