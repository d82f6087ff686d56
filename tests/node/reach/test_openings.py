"""A dial-back over TCP: the nonce arrives, and the connection ends."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from node.background import Background
from node.reach.openings import Openings
from transfer import Identity, Seeder, Store
from transfer.connection import wire

NONCE = b"12345678"


@contextlib.asynccontextmanager
async def listening(tmp_path, on_opening):
    """Run a seeder that hands on what is not for it; yields its address."""
    store = Store(tmp_path)
    identity = Identity(Ed25519PrivateKey.generate())
    seeder = Seeder(store, identity, on_opening=on_opening)
    listener = socket.create_server(("127.0.0.1", 0))
    await seeder.start([listener])
    try:
        yield listener.getsockname(), seeder
    finally:
        await seeder.close()
        store.close()


async def test_a_dial_back_brings_the_nonce(tmp_path):
    background = Background()
    openings = Openings(background)
    came: asyncio.Queue[tuple[bytes, str]] = asyncio.Queue()
    openings.on_dial_back = lambda *what: came.put_nowait(what)
    async with listening(tmp_path, openings.received) as (address, _):
        openings.dial_back(*address, NONCE)
        async with asyncio.timeout(5):
            assert await came.get() == (NONCE, "127.0.0.1")
    await background.close()


async def test_nobody_at_the_port_is_no_error(tmp_path):
    background = Background()
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    Openings(background).dial_back("127.0.0.1", port, NONCE)
    await asyncio.sleep(0.1)
    await background.close()
    assert background.failing == []


@pytest.mark.parametrize("opening", [b"caravan\x09" + NONCE, b"GET / HTTP/1.1\r\n\r\n"])
async def test_other_openings_are_closed_and_hand_on_nothing(tmp_path, opening):
    handed = []
    async with listening(tmp_path, lambda *what: handed.append(what)) as (address, _):
        reader, writer = await asyncio.open_connection(*address)
        writer.write(opening)
        async with asyncio.timeout(10):
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read(100) == b""
        writer.close()
    assert handed == []


async def test_a_socket_that_this_end_opened_is_served_like_an_accepted_one(tmp_path):
    async with listening(tmp_path, lambda *_: None) as (_, seeder):
        with socket.create_server(("127.0.0.1", 0)) as server:
            server.setblocking(False)
            loop = asyncio.get_running_loop()
            accepting = loop.create_task(loop.sock_accept(server))
            sock = socket.socket()
            sock.setblocking(False)
            await loop.sock_connect(sock, server.getsockname())
            other, _ = await accepting
            assert seeder.adopt(sock, server.getsockname())
            await loop.sock_sendall(other, wire.MAGIC_PLAINTEXT)
            async with asyncio.timeout(5):
                said = await loop.sock_recv(other, 200)
            other.close()
        assert b"encryption is required" in said
