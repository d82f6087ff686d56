"""What one release causes here, in the order that matters.

1. *Learn*: remember the record, if it is the newest of its name.
2. *Withdraw*: read its package file, so that what a security release replaces is
   known, and stop offering that before anybody asks for it.
3. *Sync*: announce what is offered now.
4. *Store*: keep the record (and the delegation that it rests on) at the nodes nearest
   to its key, so that those who ask find it before those who are alerted do.
5. *Alert*: notify those who hold what it replaces, and those who follow the name.

A publisher's new release takes all five steps, one that is signed anew the first four,
and an incoming alert all but the fourth.
"""

from __future__ import annotations

from dataclasses import dataclass

from dht import Dht, ReleaseRecord
from node.commands import Progress
from node.content.routing import Routing
from node.content.withdrawal import Withdrawal
from node.releases.alerts import Alerter, AlertReport, Audience, Effort
from node.releases.newest import Release, Releases

NOTE_PATIENCE_SECONDS = 5.0
"""How long a release's package file is waited for."""


@dataclass(frozen=True, slots=True)
class Released:
    """Who was found for a release, and how many of them were reached."""

    audience: Audience
    report: AlertReport


class ReleasePipeline:
    """Carries a verified release record through its steps."""

    def __init__(
        self,
        *,
        dht: Dht,
        releases: Releases,
        router: Routing,
        alerter: Alerter,
        withdrawal: Withdrawal | None,
    ) -> None:
        self._dht = dht
        self._releases = releases
        self._router = router
        self._alerter = alerter
        self._withdrawal = withdrawal

    async def release(
        self,
        record: ReleaseRecord,
        *,
        store: bool = True,
        effort: Effort | None = None,
        progress: Progress = lambda _event: None,
    ) -> Released | None:
        """Take `record` through the steps; None where it is not the newest.

        Without `effort`, nobody is alerted.
        """
        self._releases.learn(record, confirmed=0)
        known = self._releases.known(record.publisher, record.name)
        if known is None or known.record.raw != record.raw:
            return None
        await self.withdraw(known)
        await self._router.sync()
        if store:
            if record.delegation is not None:
                await self._dht.store_record(record.delegation, keep=True)
            await self._dht.store_record(record, keep=True)
        nobody = Released(Audience(frozenset(), frozenset()), AlertReport(0, 0))
        return nobody if effort is None else await self._alert(record, effort, progress)

    async def withdraw(self, release: Release) -> None:
        """Read what a release replaces, and stop offering what it withdraws."""
        await self._releases.row_of(release, NOTE_PATIENCE_SECONDS)
        if self._withdrawal and self._withdrawal.apply(str(release.package)):
            await self._router.sync()

    async def _alert(
        self, record: ReleaseRecord, effort: Effort, progress: Progress
    ) -> Released:
        audience = await self._alerter.audience(record, effort)
        count = len(audience.everybody)
        event = {"label": "alerting", "total": count, "unit": "nodes"}
        progress({**event, "done": 0})
        report = await self._alerter.alert(record, audience, effort)
        progress({**event, "done": count})
        return Released(audience, report)
