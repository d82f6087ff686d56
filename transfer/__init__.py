"""The transfer layer: content named by its digest, from many peers at once.

    store = Store(folder)
    leecher = Leecher(store, Identity(node_key))
    downloaded = await leecher.download(Digest.parse(text), peers)

Names are imported when they are first used, so that reading a digest costs a
command-line tool neither cryptography nor asyncio.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transfer.connection.peer import Peer
    from transfer.connection.tls import Identity
    from transfer.content.artifact import Artifact
    from transfer.content.digest import Digest
    from transfer.content.manifest import Manifest
    from transfer.errors import (
        ClosedError,
        DamagedError,
        DigestError,
        ManifestError,
        NoPeerError,
        NotHeldError,
        PeerError,
        StoreError,
        TransferError,
        WrongBytesError,
    )
    from transfer.growing_file import GrowingFile, SizeEvidence
    from transfer.leeching.leecher import Leecher, LeecherStats
    from transfer.leeching.result import Downloaded, Source
    from transfer.leeching.wanted import Wanted
    from transfer.limits import LeecherLimits, SeederLimits
    from transfer.seeding.seeder import Seeder, SeederStats
    from transfer.store.intake import Intake
    from transfer.store.store import Store

__all__ = [
    "Artifact",
    "ClosedError",
    "DamagedError",
    "Digest",
    "DigestError",
    "Downloaded",
    "GrowingFile",
    "Identity",
    "Intake",
    "Leecher",
    "LeecherLimits",
    "LeecherStats",
    "Manifest",
    "ManifestError",
    "NoPeerError",
    "NotHeldError",
    "Peer",
    "PeerError",
    "Seeder",
    "SeederLimits",
    "SeederStats",
    "SizeEvidence",
    "Source",
    "Store",
    "StoreError",
    "TransferError",
    "Wanted",
    "WrongBytesError",
]

_MODULE_OF = {
    "Artifact": "content.artifact",
    "Digest": "content.digest",
    "Downloaded": "leeching.result",
    "GrowingFile": "growing_file",
    "Identity": "connection.tls",
    "Intake": "store.intake",
    "Leecher": "leeching.leecher",
    "LeecherLimits": "limits",
    "LeecherStats": "leeching.leecher",
    "Manifest": "content.manifest",
    "Peer": "connection.peer",
    "Seeder": "seeding.seeder",
    "SeederLimits": "limits",
    "SeederStats": "seeding.seeder",
    "SizeEvidence": "growing_file",
    "Source": "leeching.result",
    "Store": "store.store",
    "Wanted": "leeching.wanted",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"transfer.{_MODULE_OF.get(name, 'errors')}")
    return getattr(module, name)
