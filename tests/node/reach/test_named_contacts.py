"""A contact's name that DNS does not know yet is asked for again."""

from __future__ import annotations

import errno
import socket

import pytest

from dht import Address, Dht
from node import sockets
from node.reach.contacts import is_named
from node.reach.named_contacts import ALONE_SECONDS, JOINED_SECONDS, NamedContacts
from tests.dht.builders import private_key


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("seed.lab:4747", True),
        ("192.0.2.7:4747", False),
        ("[2001:db8::1]:4747", False),
        (f"{'ab' * 32}@192.0.2.7:4747", False),
    ],
)
def test_names_are_told_from_addresses(text, named):
    assert is_named(text) is named


async def test_a_name_that_is_known_later_is_joined(monkeypatch):
    seed, late = Dht(private_key(1)), Dht(private_key(2))
    try:
        await seed.start([Address("127.0.0.1", 0)])
        await late.start([Address("127.0.0.1", 0)])
        port = seed.addresses[0].port
        contacts = NamedContacts(late, [f"seed.lab:{port}"])
        known: dict[str, str] = {}

        def resolve(host, port, **_):
            if host not in known:
                raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
            return [(socket.AF_INET, socket.SOCK_DGRAM, 17, "", (known[host], port))]

        monkeypatch.setattr(socket, "getaddrinfo", resolve)
        assert await contacts.round() == ALONE_SECONDS
        assert late.contacts() == []
        known["seed.lab"] = "127.0.0.1"
        assert await contacts.round() == ALONE_SECONDS
        assert [str(one.contact.address) for one in late.contacts()] == [
            f"127.0.0.1:{port}"
        ]
        assert await contacts.round() == JOINED_SECONDS
    finally:
        await seed.close()
        await late.close()


def test_without_ipv6_the_default_address_of_ipv4_will_do(monkeypatch):
    real = sockets._listen_one

    def listen_one(address):
        if ":" in address.host:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported")
        return real(address)

    monkeypatch.setattr(sockets, "_listen_one", listen_one)
    bound = sockets.listen([Address("127.0.0.1", 0), Address("::", 0)])
    sockets.close_all(bound)
    assert len(bound) == 1
    with pytest.raises(OSError, match="not supported"):
        sockets.listen([Address("::1", 0)])
