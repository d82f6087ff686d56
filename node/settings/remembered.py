"""What a home remembers between starts: its network, and addresses that were given.

A home belongs to one network, as a browser's profile belongs to one person: files of a
private network would otherwise be announced in the public one by forgetting a flag. So
the network is remembered with the first start that succeeds, and joining another one
with the same home is refused. Addresses given as flags count until others are given.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from node.errors import NodeError

FILE = "remembered.json"
ADDRESSES = ("listen", "web", "site")
"""Settings that are remembered where a flag of `join` gave them."""


def read_remembered(home: Path) -> dict[str, object]:
    """Return what is remembered, by setting; NodeError for a damaged file."""
    path = home / FILE
    try:
        document = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise NodeError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise _damaged(path) from error
    if not isinstance(document, dict) or not isinstance(
        document.get("network", ""), str
    ):
        raise _damaged(path)
    return {
        name: document[name] for name in ("network", *ADDRESSES) if name in document
    }


def remember(home: Path, values: Mapping[str, object]) -> None:
    """Remember `values` as well as what was remembered before."""
    before = read_remembered(home)
    after = {**before, **values}
    if after == before:
        return
    fresh = home / f".{FILE}.{secrets.token_hex(8)}"
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(after, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(home / FILE)


def forget(home: Path) -> None:
    """Remember nothing any more."""
    (home / FILE).unlink(missing_ok=True)


def check_network(home: Path, network: str) -> None:
    """Raise NodeError where a home belongs to another network than this one."""
    own = read_remembered(home).get("network", network)
    if own != network:
        raise NodeError(
            f"the folder {home} belongs to the network {own!r}, and what it holds "
            f"would be offered in {network!r}: use another folder (--home), or give "
            "this one up with `caravan network leave --forget`"
        )


def _damaged(path: Path) -> NodeError:
    return NodeError(
        f"{path} is damaged: remove it, and name the network of this folder with "
        "--network, so that its files are not offered in another one"
    )
