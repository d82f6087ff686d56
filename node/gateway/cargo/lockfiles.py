"""Lockfiles of cargo: Cargo.lock, all versions."""

from __future__ import annotations

from typing import Any

from node.gateway import toml
from node.gateway.locked import Locked, LockEntry
from node.gateway.named_file import parse_digests


def read_cargo_lock(text: str) -> Locked:
    """Read Cargo.lock; version 1 keeps the checksums in [metadata]."""
    locked = Locked()
    document = toml.loads(text)
    old: dict[str, Any] = document.get("metadata", {})
    for package in document.get("package", []):
        name, version = str(package["name"]), str(package["version"])
        source = package.get("source", "")
        given = package.get("checksum") or old.get(
            f"checksum {name} {version} ({source})", ""
        )
        if digests := parse_digests([f"sha256:{given}"]):
            locked.add(
                LockEntry("cargo", name, version, digests, f"{name}-{version}.crate")
            )
        elif source:
            locked.skip(name, version, "it is locked without a checksum")
    return locked
