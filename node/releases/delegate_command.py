"""Make a delegation known; what `key delegate` and `key import` ask the node for."""

from __future__ import annotations

import base64
import binascii

from dht import Delegation, Dht, RecordError
from node import commands, results
from node.commands import Progress
from node.errors import RefusedError
from node.model.keys import parse_publisher, publisher_text
from node.model.trust_store import TrustStore
from node.releases.newest import Releases
from node.releases.renewal import Renewal
from node.wallclock import Now


class DelegationPublisher:
    """Publishes a delegation, and signs own releases anew under it."""

    def __init__(
        self,
        *,
        dht: Dht,
        trust_store: TrustStore,
        releases: Releases,
        renewal: Renewal,
        now: Now,
    ) -> None:
        self._dht = dht
        self._trust_store = trust_store
        self._releases = releases
        self._renewal = renewal
        self._now = now

    async def epoch(
        self, command: commands.EpochCommand, _progress: Progress
    ) -> results.EpochResult:
        """Ask the network for the newest delegation of a publisher."""
        publisher = parse_publisher(command.publisher)
        await self._releases.read_delegation(publisher, fresh=True)
        return results.EpochResult(
            publisher=command.publisher, epoch=self._trust_store.epoch_of(publisher)
        )

    async def delegate(
        self, command: commands.DelegateCommand, _progress: Progress
    ) -> results.DelegateResult:
        """Store a delegation in the network; RefusedError for a wrong one.

        Own releases of the epochs that it ends are signed anew.
        """
        try:
            raw = base64.b64decode(command.delegation, validate=True)
            delegation = Delegation.verify(raw, self._now())
        except (RecordError, binascii.Error) as error:
            raise RefusedError(f"this is no delegation that counts: {error}") from error
        if delegation.epoch < self._trust_store.epoch_of(delegation.publisher):
            raise RefusedError("a newer delegation has revoked this one")
        self._releases.learn_delegation(delegation)
        report = await self._dht.store_record(delegation, keep=True)
        signed = await self._renewal.renew()
        return results.DelegateResult(
            publisher=publisher_text(delegation.publisher),
            epoch=delegation.epoch,
            stored=report.stored,
            signed_anew=[f"{one.name} {one.version}" for one in signed],
        )
