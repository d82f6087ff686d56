"""Aliases computed when nobody waits for them, many in one transaction."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from transfer.content.digest import ALIAS_ALGORITHMS
from transfer.content.hashing import digests_of
from transfer.errors import DamagedError, NotHeldError
from transfer.limits import EAGER_BYTES_MAX, GROUP_ARTIFACTS_MAX
from transfer.store.quiet import Pauses

if TYPE_CHECKING:
    import threading

    from transfer.content.digest import Digest
    from transfer.store.store import Store


def fill(store: Store, stop: threading.Event) -> None:
    """Compute all missing aliases; raise ClosedError once `stop` is set.

    While content moves it pauses: whoever waits for that needs the processor more.
    """
    pauses = Pauses(store.activity, stop)
    found: dict[Digest, dict[str, Digest]] = {}
    try:
        for name in store.lacking_aliases():
            pauses.pause(lambda: False)
            with contextlib.suppress(NotHeldError, DamagedError):
                if not _computed(store, name, stop=stop, found=found):
                    store.with_aliases(name, stop, pauses)
            if len(found) == GROUP_ARTIFACTS_MAX:
                _flush(store, found)
    finally:
        _flush(store, found)


def _computed(
    store: Store,
    name: Digest,
    *,
    stop: threading.Event,
    found: dict[Digest, dict[str, Digest]],
) -> bool:
    """Add the aliases of a small artifact to `found`; False for a large one."""
    artifact = store.find(name)
    if artifact is None or artifact.size > EAGER_BYTES_MAX:
        return artifact is None
    lacking = [one for one in ALIAS_ALGORITHMS if one not in artifact.aliases]
    descriptor = store.open_checked(artifact, stop)
    try:
        found[name] = digests_of(descriptor, artifact.size, lacking, stop=stop)
    finally:
        os.close(descriptor)
    return True


def _flush(store: Store, found: dict[Digest, dict[str, Digest]]) -> None:
    """Store aliases in one transaction, then report each artifact."""
    if not found:
        return
    store.index.set_aliases(found)
    names = list(found)
    found.clear()
    if store.on_aliases is not None:
        for name in names:
            if (complete := store.find(name)) is not None:
                store.on_aliases(complete)
