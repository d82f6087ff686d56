"""Contacts as people write them: an address, or the key that is expected there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dht import Address, Contact
from node.errors import UsageError, clause

if TYPE_CHECKING:
    from collections.abc import Iterable


def read_addresses(texts: Iterable[str]) -> list[Address]:
    """Read HOST:PORT texts; UsageError says what is wrong with one."""
    addresses = []
    for text in texts:
        try:
            addresses.append(Address.parse(text))
        except ValueError as error:
            raise UsageError(clause(error)) from error
    return addresses


def is_named(text: str) -> bool:
    """Tell whether a contact is HOST:PORT with a host name that DNS has to resolve."""
    if "@" in text:
        return False
    try:
        Address.parse(text)
    except ValueError:
        return True
    return False


def read_contacts(texts: Iterable[str]) -> list[Address | Contact]:
    """Read contacts, each an address or KEY@ADDRESS, where that key must be found."""
    found: list[Address | Contact] = []
    for text in texts:
        key, at, address = text.rpartition("@")
        (read,) = read_addresses([address])
        found.append(Contact(bytes.fromhex(key), read) if at else read)
    return found
