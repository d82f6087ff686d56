"""Whom an invited machine is to ask: this node first, then nodes known for long."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from dht import Address, Contact
from node.reach.invitation import CONTACTS_MAX

if TYPE_CHECKING:
    from dht import Dht
    from node.reach.port_mapping import PortMapping


def invited_contacts(
    dht: Dht, *, port_mapping: PortMapping | None
) -> tuple[Contact, ...]:
    """Return whom an invited machine is to ask: this node first, then old contacts.

    This node stands there with its outer address, if others see one, and with those
    of its links. Others are taken from different networks.
    """
    own = [Contact(dht.public_key, one) for one in _own(dht, port_mapping)]
    found = own[: CONTACTS_MAX - 1]
    groups = {one.address.group for one in found}
    for status in sorted(dht.contacts(), key=lambda one: -one.age_seconds):
        contact = status.contact
        new = contact.address.group is None or contact.address.group not in groups
        if len(found) < CONTACTS_MAX and new:
            groups.add(contact.address.group)
            found.append(contact)
    return tuple(found)


def _own(dht: Dht, port_mapping: PortMapping | None) -> list[Address]:
    """Return the addresses of this node, the outer one first."""
    found = []
    if dht.observed is not None:
        mapped = port_mapping is not None and port_mapping.is_public
        port = port_mapping.udp_port if mapped and port_mapping else None
        found.append(Address(dht.observed.host, port or dht.observed.port))
    for bound in dht.addresses:
        if not ipaddress.ip_address(bound.host).is_unspecified:
            found.append(bound)
            continue
        from node.reach.links import links

        hosts = [host for link in links([bound.host]) for host in link.hosts]
        found += [Address(host, bound.port) for host in hosts[:2]]
    return list(dict.fromkeys(found))
