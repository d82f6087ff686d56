"""`caravan network leave --forget`: a home that belongs to no network any more.

What was held in a private network is kept private then: it is neither announced nor
served in the network that is joined next, until its owner shares it again. The node
gets a new key, and forgets the contacts and follows that members of the old network
know.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

from node.errors import NodeError
from node.model.catalogue import Catalogue
from node.model.database import open_database
from node.model.trust_store import TrustStore
from node.settings import PUBLIC_NETWORK
from node.settings.home import Home
from node.settings.remembered import forget, read_remembered
from transfer import Store


@dataclass(frozen=True, slots=True)
class LeftNetwork:
    """What became of a home: how many files are kept private, or offered as before."""

    network: str
    kept_private: int
    offered: int


def leave_network(folder: Path) -> LeftNetwork:
    """Forget the network of a home on which no node runs; NodeError if there is none.

    The secret of a private network stays in `networks/`, so it can be joined again.
    """
    with Home(folder):
        network = read_remembered(folder).get("network")
        if network is None:
            raise NodeError(f"the folder {folder} belongs to no network")
        with contextlib.closing(open_database(folder / "catalogue.sqlite")) as database:
            catalogue, trust_store = Catalogue(database), TrustStore(database)
            store = Store(folder)
            try:
                held = [str(one.digest) for one in store.artifacts()]
            finally:
                store.close()
            catalogue.remember_contacts([], 0.0)
            is_private = network != PUBLIC_NETWORK
            if is_private:
                # First what must not leave, then what would let it.
                for digest in held:
                    catalogue.make_private(digest, catalogue.direct_file(digest))
                for row in trust_store.follows():
                    trust_store.unfollow(row.publisher, row.name)
                _put_aside(folder / "node.key")
        forget(folder)
    return LeftNetwork(
        network=str(network),
        kept_private=len(held) if is_private else 0,
        offered=0 if is_private else len(held),
    )


def _put_aside(key: Path) -> None:
    """Let the next start make a new node key; the old one would tell both apart."""
    with contextlib.suppress(FileNotFoundError):
        key.unlink()
