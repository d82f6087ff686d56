"""What one release causes here, in the order that matters.

1. *Learn*: remember the record, if it is the newest of its name.
2. *Withdraw*: read its package file, and those before it that were missed. What a
   security release replaced follows from them (see `node.content.withdrawal`), and is
   no longer offered before anybody learns where to ask for it.
3. *Sync*: announce what is new.
4. *Store*: keep the record (and the delegation that it rests on) at the nodes nearest
   to its key, so that those who ask find it before those who are alerted do.
5. *Alert*: notify those who hold what it replaces, and those who follow the name.

A publisher's new release takes all five steps, one that is signed anew the first four;
an incoming alert leaves announcing and storing to others, so that nothing delays it.
"""

from __future__ import annotations

from dataclasses import dataclass

from dht import Dht, ReleaseRecord
from node.commands import Progress
from node.content.routing import Routing
from node.content.withdrawal import Withdrawal
from node.releases.alerts import Alerter, AlertReport, Audience, Effort
from node.releases.newest import Releases

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
        withdrawal: Withdrawal,
    ) -> None:
        self._dht = dht
        self._releases = releases
        self._router = router
        self._alerter = alerter
        self._withdrawal = withdrawal
        self._withheld = frozenset(withdrawal.withheld())

    async def release(
        self,
        record: ReleaseRecord,
        *,
        own: bool = True,
        effort: Effort | None = None,
        progress: Progress = lambda _event: None,
    ) -> Released | None:
        """Take `record` through the steps; None where it is not the newest.

        One that is not `own` is neither synced nor stored. Without `effort`, nobody is
        alerted.
        """
        self._releases.learn(record, confirmed=0)
        known = self._releases.known(record.publisher, record.name)
        if known is None or known.record.raw != record.raw:
            return None
        changed = await self.withdraw(record.publisher, record.name)
        if own:
            if not changed:
                await self._router.sync()
            if record.delegation is not None:
                await self._dht.store_record(record.delegation, keep=True)
            await self._dht.store_record(record, keep=True)
        nobody = Released(Audience(frozenset(), frozenset()), AlertReport(0, 0))
        return nobody if effort is None else await self._alert(record, effort, progress)

    async def withdraw(self, publisher: bytes, name: str) -> bool:
        """Read what the newest release of a name replaced, and no longer offer it.

        It goes both ways: what only a revoked release replaced is offered again. True
        if anything changed.
        """
        known = self._releases.known(publisher, name)
        if known is not None:
            await self._releases.read_line(known, NOTE_PATIENCE_SECONDS)
        withheld = frozenset(self._withdrawal.withheld())
        if withheld == self._withheld:
            return False
        self._withheld = withheld
        await self._router.sync()
        return True

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
