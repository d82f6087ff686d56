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
    from transfer.digest import Digest
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
    from transfer.identity import Identity
    from transfer.index import Artifact
    from transfer.intake import Intake
    from transfer.leecher import Leecher, LeecherStats
    from transfer.limits import LeecherLimits, SeederLimits
    from transfer.manifest import Manifest
    from transfer.peers import Downloaded, Peer, Source
    from transfer.seeder import Seeder, SeederStats
    from transfer.store import Store

__all__ = [
    "Artifact",
    "ClosedError",
    "DamagedError",
    "Digest",
    "DigestError",
    "Downloaded",
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
    "Source",
    "Store",
    "StoreError",
    "TransferError",
    "WrongBytesError",
]

_MODULE_OF = {
    "Artifact": "index",
    "Digest": "digest",
    "Downloaded": "peers",
    "Identity": "identity",
    "Intake": "intake",
    "Leecher": "leecher",
    "LeecherLimits": "limits",
    "LeecherStats": "leecher",
    "Manifest": "manifest",
    "Peer": "peers",
    "Seeder": "seeder",
    "SeederLimits": "limits",
    "SeederStats": "seeder",
    "Source": "peers",
    "Store": "store",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"transfer.{_MODULE_OF.get(name, 'errors')}")
    return getattr(module, name)
