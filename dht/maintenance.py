"""Maintenance: expiry, bucket refresh, renewal, and probes of the own reach.

Each loop survives each of its rounds: a failure is logged, counted under `failed.`
in the statistics, and the next round comes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from typing import TYPE_CHECKING, Any

from dht.limits import (
    BUCKET_REFRESH_SECONDS,
    FORMER_CONTACTS_MAX,
    LOOK_BACK_SECONDS,
    RENEW_SECONDS,
    REPUBLISH_RETRY_SECONDS,
    REPUBLISH_SCARCE_SECONDS,
    REPUBLISH_SCARCE_SECONDS_MAX,
    TICK_SECONDS,
)
from dht.wire import Ping

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

    from dht.announcer import Announcer
    from dht.contacts import Contact
    from dht.core import Core
    from dht.dial_back import DialBackService
    from dht.in_flight import ProvenReply
    from dht.joining import Joining
    from dht.local_storage import LocalStorage
    from dht.record_client import RecordClient
    from dht.rpc_client import RpcClient
    from dht.tasks import Tasks

logger = logging.getLogger(__name__)


class Maintenance:
    """The timers of a node."""

    def __init__(
        self,
        *,
        core: Core,
        rpc_client: RpcClient,
        tasks: Tasks,
        joining: Joining,
        dial_back: DialBackService,
        local_storage: LocalStorage,
        announcer: Announcer,
        record_client: RecordClient,
    ) -> None:
        self._core = core
        self._rpc_client = rpc_client
        self._tasks = tasks
        self._local_storage = local_storage
        self._announcer = announcer
        self._record_client = record_client
        self._joining = joining
        self._dial_back = dial_back
        self._grown = asyncio.Event()
        self._questioned: set[Contact] = set()
        self._former: deque[Contact] = deque(maxlen=FORMER_CONTACTS_MAX)

    def start(self) -> None:
        """Begin; the tasks end with the node."""
        self._core.on_new_contact = self._on_new_contact
        self._core.on_lost_contact = self._former.append
        self._core.on_questionable = self._on_questionable
        self._tasks.start(self._tick(), "caravan-dht-tick")
        self._tasks.start(self._renew(), "caravan-dht-renew")
        self._tasks.start(self._republish_scarce(), "caravan-dht-republish-scarce")

    async def _tick(self) -> None:
        """Drop what has ended, refresh what is stale, learn whether we are reached."""
        core = self._core
        look_back_at = 0.0
        while True:
            await asyncio.sleep(TICK_SECONDS * core.rng.uniform(0.8, 1.2))
            now = core.clock.monotonic()
            for work in (
                self._local_storage.expire,
                core.peer_memory.expire,
                self._dial_back.tick,
            ):
                with self._surviving("tick"):
                    work(now)
            if now >= look_back_at:
                look_back_at = now + LOOK_BACK_SECONDS
                with self._surviving("look_back"):
                    self._look_back()
            for family in sorted(core.families):
                refreshing = self._joining.refresh(family, BUCKET_REFRESH_SECONDS)
                await self._survive(refreshing, "refresh")

    async def _renew(self) -> None:
        """Announce all offers and store all kept records again, every two hours."""
        while True:
            await asyncio.sleep(RENEW_SECONDS * self._core.rng.uniform(0.9, 1.0))
            await self._survive(self._announcer.renew(), "renew")
            await self._survive(self._record_client.renew(), "renew")

    async def _survive(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Do one round of a loop; a failure is logged and counted, and ends no loop."""
        with self._surviving(name):
            await work

    @contextlib.contextmanager
    def _surviving(self, name: str) -> Iterator[None]:
        try:
            yield
        except Exception:
            self._core.stats[f"failed.{name}"] += 1
            logger.exception("%s failed and is tried again in its next round", name)

    async def _republish_scarce(self) -> None:
        """Store what too few nodes hold again, soon after the table has grown.

        Without growth it is tried every minute: what was offered while this node was
        cut off has no keeper, and the contacts that come back are no new ones.
        A burst of newcomers is waited out, and while they keep coming the pauses
        grow, so that a young network is not busy with nothing else.
        """
        pause = REPUBLISH_SCARCE_SECONDS
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(REPUBLISH_RETRY_SECONDS):
                    await self._grown.wait()
            await asyncio.sleep(pause * self._core.rng.uniform(0.8, 1.2))
            self._grown.clear()
            await self._survive(self._announcer.republish_scarce(), "republish")
            await self._survive(self._record_client.republish_scarce(), "republish")
            pause = min(2 * pause, REPUBLISH_SCARCE_SECONDS_MAX)
            try:
                async with asyncio.timeout(REPUBLISH_SCARCE_SECONDS_MAX):
                    await self._grown.wait()
            except TimeoutError:
                pause = REPUBLISH_SCARCE_SECONDS

    def _look_back(self) -> None:
        """Ask one contact that was lost whether it is back.

        After a time apart, or without a network, this is how nodes meet again: one
        that is back leads to its neighbours. With no contact left, the
        addresses that the user named are asked.
        """
        if not any(len(table) for table in self._core.tables.values()):
            self._joining.retry()
        if not self._former:
            return
        contact = self._former.popleft()

        def done(answer: ProvenReply | None) -> None:
            if answer is not None:
                self._joining.look_up_self_soon()
            elif contact not in self._former:
                self._former.append(contact)

        self._rpc_client.ask(contact, Ping(), done, again=False, lost=True)

    def _on_new_contact(self, contact: Contact) -> None:
        del contact
        self._grown.set()

    def _on_questionable(self, contact: Contact) -> None:
        """Ping a contact that was silent for long while others want its place."""
        if contact in self._questioned:
            return
        self._questioned.add(contact)

        def done(answer: ProvenReply | None) -> None:
            self._questioned.discard(contact)
            if answer is None:
                self._core.table_of(contact.address).remove(contact)

        self._rpc_client.ask(contact, Ping(), done)


def _ignore(answer: ProvenReply | None) -> None:
    """Ignore an answer."""
