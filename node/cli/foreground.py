"""Runs the node in this process, from its start to its clean end."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
from importlib import import_module
from typing import TYPE_CHECKING, Any, Self, TypeVar

from node.cli.node_log import start_log
from node.cli.ready import print_ready
from node.commands import StatusCommand
from node.errors import INTERRUPTED
from node.results import ReadyResult
from node.service import Node
from node.settings.remembered import read_remembered, remember
from node.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping
    from types import TracebackType

    from node.cli.session import Session
    from node.settings import Settings

STOP_SECONDS_MAX = 4.0  # for the node's own parts
THREADS_SECONDS_MAX = 0.5  # after that, for what still runs in threads
_STOPPING = {signal.SIGINT: INTERRUPTED, signal.SIGTERM: 0}
_T = TypeVar("_T")
_log = logging.getLogger(__name__)


class Signals:
    """SIGINT and SIGTERM, taken as a wish to stop; a second one ends at once."""

    def __init__(self) -> None:
        self.exit_code = 0
        self.reason = ""
        self._loop = asyncio.get_running_loop()
        self._wish = asyncio.Event()

    def __enter__(self) -> Self:
        for number in _STOPPING:
            self._loop.add_signal_handler(number, self._on_signal, number)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number in _STOPPING:
            self._loop.remove_signal_handler(number)

    async def unless_stopped(self, work: Coroutine[Any, Any, _T]) -> _T | None:
        """Return what `work` returns; None if a signal came first, and ended it."""
        task = asyncio.create_task(work)
        wish = asyncio.create_task(self._wish.wait())
        await asyncio.wait({task, wish}, return_when=asyncio.FIRST_COMPLETED)
        wish.cancel()
        if task.done():
            return task.result()
        task.cancel()
        await asyncio.wait({task})
        if task.cancelled():
            return None
        if (error := task.exception()) is not None:
            _log.debug("failed while it was interrupted", exc_info=error)
            return None
        return task.result()

    def _on_signal(self, number: signal.Signals) -> None:
        if self._wish.is_set():
            os._exit(_STOPPING[number])
        self.exit_code = _STOPPING[number]
        self.reason = number.name
        self._wish.set()


def serve(
    session: Session,
    settings: Settings,
    *,
    given: Mapping[str, object],
    verbose: bool,
) -> int:
    """Run the node until `leave` or a signal; returns the exit code.

    The settings in `given` are remembered for the next start once the node is ready.
    """
    start_log(
        settings.home,
        level=settings.log_level,
        form=settings.log_format,
        verbose=verbose,
        is_detached=session.is_background,
    )
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(_serve(session, settings, given))


async def _serve(
    session: Session, settings: Settings, given: Mapping[str, object]
) -> int:
    with Signals() as signals:
        is_first = not read_remembered(settings.home)
        node = await signals.unless_stopped(Node.start(settings))
        if node is None:
            return signals.exit_code
        try:
            own, status = node.describe(), await node.run(StatusCommand())
            ready = ReadyResult(
                node_id=own.node_id,
                address=own.address,
                web=own.web,
                site=own.site,
                contacts=status.contacts,
                listen=list(settings.listen),
                network=settings.network,
                store_bytes=status.limits.store_bytes if is_first else None,
            )
            remember(settings.home, _as_bound(given, ready))
            session.answer(ready, print_ready)
            _log.info(
                "caravan %s: node %s of the network %r is ready at %s, web %s, pid %d",
                *(VERSION, own.node_id, settings.network, own.address, own.web),
                os.getpid(),
            )
            await signals.unless_stopped(node.stopped.wait())
            _log.info("the node stops: %s", signals.reason or "caravan leave")
        finally:
            _end_within(STOP_SECONDS_MAX, signals)
            await node.stop()
            _end_within(THREADS_SECONDS_MAX, signals)
        return signals.exit_code


def _as_bound(given: Mapping[str, object], ready: ReadyResult) -> dict[str, object]:
    """Return what was given, with the port that the web door took for port 0.

    Package managers are pointed at that address, also after the next start.
    """
    return {**given, "web": ready.web} if "web" in given else dict(given)


def _end_within(seconds: float, signals: Signals) -> None:
    """End the process even if a thread, say one that hashes a big file, goes on.

    Nothing is lost: what is on disk is whole at every moment.
    """

    def end() -> None:
        _log.info("not everything stopped within %s s; ended all the same", seconds)
        os._exit(signals.exit_code)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """Return what makes the fastest event loop there is here."""
    try:
        uvloop = import_module("uvloop")
    except ImportError:
        return asyncio.new_event_loop
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory
