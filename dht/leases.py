"""Origin leases: who of a site asks the origin for something, as its keepers see it.

1. The first node that asks for the lease of a key holds it for `LEASE_SECONDS`; each
   time it asks again the lease is renewed. Everybody else is told the holder.
2. A node that got nothing from the holder names it and becomes the holder in its
   place. So a holder that dies or stalls loses its lease.
3. A node holds the lease of a key once: whoever lost it, or never had it and has
   taken it from another, does not get it back. After `LEASE_HOLDERS_MAX` holders
   nobody holds it until it ends, and each node asks the origin itself. So a liar
   costs the others a moment for each of its keys, and nothing else.
4. A lease is a hint. What a holder sends is verified like everything else.
5. Leases are bounded: of one node key, and of all. When there is no room, the
   largest prefix loses its oldest lease (`dht.prefix_tree`).

A plain object that gets the time, in monotonic seconds, as an argument.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from dht.limits import (
    LEASE_HOLDERS_MAX,
    LEASE_SECONDS,
    LEASES_MAX,
    LEASES_PER_NODE_MAX,
)
from dht.prefix_tree import Path, PrefixTree

if TYPE_CHECKING:
    from dht.contacts import Contact


class _Lease:
    """The lease of one key."""

    __slots__ = ("former", "holder", "path", "until")

    def __init__(self, holder: Contact, path: Path, until: float) -> None:
        self.holder: Contact | None = holder
        self.path = path
        self.until = until
        self.former: set[bytes] = set()
        """The keys of the nodes that held it before."""


class LeaseTable:
    """The leases that one keeper has granted."""

    def __init__(self) -> None:
        self._leases: dict[bytes, _Lease] = {}
        self._of_path: dict[Path, dict[bytes, None]] = {}  # oldest first
        self._of_node: Counter[bytes] = Counter()
        self._tree = PrefixTree()

    def __len__(self) -> int:
        return len(self._leases)

    def ask(
        self, key: bytes, asker: Contact, failed: bytes, *, path: Path, now: float
    ) -> Contact | None:
        """Return who holds the lease of a key now; None where nobody does.

        `failed` is the key of a holder from which the asker got nothing, or the
        asker's own. `path` holds the prefixes of the asker's source.
        """
        lease = self._leases.get(key)
        if lease is not None and lease.until <= now:
            self._drop(key)
            lease = None
        if lease is None:
            return self._grant(key, asker, path=path, now=now)
        holder = lease.holder
        if holder is None:
            return None
        if holder.public_key == asker.public_key:
            lease.holder, lease.until = asker, now + LEASE_SECONDS
            return asker
        if failed == holder.public_key:
            return self._pass_on(key, lease, asker, path=path, now=now)
        return holder

    def expire(self, now: float) -> None:
        """Forget the leases that have ended."""
        for key in [key for key, lease in self._leases.items() if lease.until <= now]:
            self._drop(key)

    def _grant(
        self, key: bytes, asker: Contact, *, path: Path, now: float
    ) -> Contact | None:
        if self._of_node[asker.public_key] >= LEASES_PER_NODE_MAX:
            return None
        self._add(key, _Lease(asker, path, now + LEASE_SECONDS))
        if self._tree.total > LEASES_MAX:
            loser = self._tree.largest(path)
            if loser == path:
                self._drop(key)
                return None
            self._drop(next(iter(self._of_path[loser])))
        return asker

    def _pass_on(
        self, key: bytes, lease: _Lease, asker: Contact, *, path: Path, now: float
    ) -> Contact | None:
        """Let the asker take the place of a holder that gave it nothing."""
        if asker.public_key in lease.former:
            return lease.holder
        if self._of_node[asker.public_key] >= LEASES_PER_NODE_MAX:
            return None  # the lease, with who held it before, is for others
        former = lease.former
        if lease.holder is not None:
            former.add(lease.holder.public_key)
        self._drop(key)
        if self._grant(key, asker, path=path, now=now) is None:
            return None
        fresh = self._leases[key]
        fresh.former = former
        if len(former) >= LEASE_HOLDERS_MAX:
            self._of_node[asker.public_key] -= 1
            fresh.holder = None
        return fresh.holder

    def _add(self, key: bytes, lease: _Lease) -> None:
        assert lease.holder is not None
        self._leases[key] = lease
        self._of_path.setdefault(lease.path, {})[key] = None
        self._of_node[lease.holder.public_key] += 1
        self._tree.add(lease.path, 1)

    def _drop(self, key: bytes) -> None:
        lease = self._leases.pop(key)
        keys = self._of_path[lease.path]
        del keys[key]
        if not keys:
            del self._of_path[lease.path]
        if lease.holder is not None:
            name = lease.holder.public_key
            self._of_node[name] -= 1
            if self._of_node[name] <= 0:
                del self._of_node[name]
        self._tree.add(lease.path, -1)
