"""What a node remembers for its next start: contacts, and totals of bytes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from dht import Dht
from node.model.catalogue import Catalogue
from node.model.totals import Totals
from node.wallclock import now
from transfer import Leecher, Seeder

FIRST_SECONDS = 1.0
SECONDS_MAX = 60.0


class NodeMemory:
    """Saves contacts and totals while the node runs, and when it stops."""

    def __init__(
        self,
        *,
        dht: Dht,
        catalogue: Catalogue,
        totals: Totals,
        seeder: Seeder,
        leecher: Leecher,
        gateway: Callable[[], Mapping[str, int]],
    ) -> None:
        """`gateway` returns what package managers were given, by names of totals."""
        self._dht = dht
        self._catalogue = catalogue
        self._totals = totals
        self._seeder = seeder
        self._leecher = leecher
        self._gateway = gateway
        self._pause = FIRST_SECONDS / 2

    async def round(self) -> float:
        """Save, and return the seconds until the next time.

        Often at first: a node that is killed early must find its network again.
        """
        self.save()
        self._pause = min(2 * self._pause, SECONDS_MAX)
        return self._pause

    def save(self) -> None:
        """Save once."""
        addresses = [str(one.contact.address) for one in self._dht.contacts()]
        if addresses:
            self._catalogue.remember_contacts(addresses, now())
        sent = self._seeder.stats.bytes_sent
        received = self._leecher.stats.bytes_received
        self._totals.save({"sent": sent, "received": received, **self._gateway()})
