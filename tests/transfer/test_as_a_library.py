"""Store, Seeder and Leecher as a program uses them: closed in the end, readable."""

from __future__ import annotations

import socket

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from transfer import ClosedError, Digest, Identity, Leecher, Peer, Seeder, Store

KEY = bytes(range(32))


def identity():
    return Identity(Ed25519PrivateKey.generate())


async def test_each_is_closed_at_the_end_of_its_block(tmp_path):
    with Store(tmp_path) as store:
        listener = socket.create_server(("127.0.0.1", 0))
        async with Seeder(store, identity()) as seeder:
            await seeder.start([listener])
            async with Leecher(store, identity()) as leecher:
                assert repr(leecher) == f"<Leecher into {store}, 0 under way>"
                assert repr(seeder) == f"<Seeder of {store}, 0 connections>"
            with pytest.raises(ClosedError):
                await leecher.download(Digest.of(b"x"), [])
            assert repr(leecher) == f"<Leecher into {store}, closed>"
        assert repr(seeder) == f"<Seeder of {store}, closed>"
        assert listener.fileno() == -1
    assert repr(store) == f"<Store in {tmp_path}>"


async def test_an_error_in_the_block_passes_through_and_closes(tmp_path):
    with pytest.raises(ZeroDivisionError):
        async with Leecher(Store(tmp_path), identity()) as leecher:
            raise ZeroDivisionError
    assert "closed" in repr(leecher)


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [("10.0.0.1:4747", "10.0.0.1", 4747), ("[2001:db8::1]:1", "2001:db8::1", 1)],
)
def test_a_peer_is_read_from_text(text, host, port):
    peer = Peer.at(text, KEY)
    assert peer == Peer(host, port, KEY)
    assert str(peer) == text


@pytest.mark.parametrize(
    "text",
    ["10.0.0.1", "10.0.0.1:", "10.0.0.1:x", "::1:80", "[::1]", "h:80", "1.2.3.4:0"],
)
def test_a_peer_is_not_read_from_other_text(text):
    with pytest.raises(ValueError, match="expected"):
        Peer.at(text)
