"""Groups of a sweep: neighbouring keys that share one lookup.

A lookup for 2k contacts around one key finds the k nearest of its neighbours too, as
long as these lie in the block of ids that holds about half of the k nearest nodes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from dht.limits import K
from dht.tokens import write_scope

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dht.contacts import Contact
    from dht.routing import Table

_GROUP_KEYS_MAX: Final = 256  # keys that share a lookup


def are_near(table: Table, own_id: bytes, first: bytes, *, second: bytes) -> bool:
    """Whether two keys probably share most of their k nearest nodes.

    The density of nodes is read off this node's own neighbourhood.
    """
    if write_scope(first) != write_scope(second):
        return False
    own = int.from_bytes(own_id, "big")
    near = table.nearest(own, K)
    if len(near) < K:
        return True
    apart = int.from_bytes(first, "big") ^ int.from_bytes(second, "big")
    return apart < (near[K // 2].long_id ^ own)


def group_of(
    keys: Sequence[bytes], position: int, found: Sequence[Contact], *, count: int
) -> list[bytes]:
    """Return the keys from `position` on that the found contacts serve.

    All of them lie in the block of ids that holds about half of the k nearest, so
    their own nearest nodes are among what was found; where the lookup found the
    whole network, every key is served. A write token covers one scope.
    """
    first = keys[position]
    scope = write_scope(first)
    target = int.from_bytes(first, "big")
    block = 1 << 256
    if len(found) >= count:
        if count == K:
            return [first]
        block = 1 << ((found[K // 2].long_id ^ target).bit_length() - 1)
    group = []
    for key in keys[position : position + _GROUP_KEYS_MAX]:
        apart = int.from_bytes(key, "big") ^ target
        if apart >= block or write_scope(key) != scope:
            break
        group.append(key)
    return group
