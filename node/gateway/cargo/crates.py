"""A crate's line in the index, made from the Cargo.toml inside it.

`cargo package` writes a Cargo.toml in which nothing is inherited any more, so the line
follows from it: doc.rust-lang.org/cargo/reference/registry-index.html.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from node.gateway import toml
from node.gateway.archives import read_member

_KINDS = {
    "dependencies": "normal",
    "dev-dependencies": "dev",
    "dev_dependencies": "dev",
    "build-dependencies": "build",
    "build_dependencies": "build",
}
_CRATES_IO = re.compile(
    r"(sparse\+https://index\.crates\.io/?"
    r"|(registry\+)?https://github\.com/rust-lang/crates\.io-index/?)"
)


def read_line(crate: Path, name: str, version: str, *, checksum: str) -> bytes:
    """Return the index line of a crate; ValueError where it is not one. Blocks."""
    text = read_member(crate, f"{name}-{version}/Cargo.toml").decode("utf-8")
    return index_line(toml.loads(text), name, version, checksum=checksum)


def index_line(
    manifest: dict[str, Any], name: str, version: str, *, checksum: str
) -> bytes:
    """Return what an index says of the crate with this Cargo.toml; ValueError."""
    package = _table(manifest, "package")
    if (package.get("name"), package.get("version")) != (name, version):
        raise ValueError(f"its Cargo.toml is not that of {name} {version}")
    features, newer = _features(manifest)
    line: dict[str, Any] = {
        "name": name,
        "vers": version,
        "deps": list(_dependencies(manifest)),
        "cksum": checksum,
        "features": features,
        "yanked": False,
        "links": _text(package, "links"),
    }
    if newer:
        line |= {"v": 2, "features2": newer}
    if rust := _text(package, "rust-version"):
        line["rust_version"] = rust
    return msgspec.json.encode(line) + b"\n"


def _dependencies(manifest: dict[str, Any]) -> Iterator[dict[str, Any]]:
    tables: list[tuple[str | None, dict[str, Any]]] = [(None, manifest)]
    tables += [
        (target, table)
        for target, table in _table(manifest, "target").items()
        if isinstance(table, dict)
    ]
    for target, table in tables:
        for key, kind in _KINDS.items():
            for alias, said in _table(table, key).items():
                about = {"version": said} if isinstance(said, str) else dict(said)
                if kind == "dev" and "version" not in about:
                    continue  # cargo leaves it out as well: only its author has it
                yield _dependency(alias, about, kind=kind, target=target)


def _dependency(
    alias: str, about: dict[str, Any], *, kind: str, target: str | None
) -> dict[str, Any]:
    version = _text(about, "version")
    if version is None:
        raise ValueError(f"its dependency {alias} has no version")
    given = about.get("package", alias)
    defaults = about.get("default-features", about.get("default_features", True))
    registry = _text(about, "registry-index")
    return {
        "name": alias,
        "req": version,
        "features": [str(one) for one in about.get("features", [])],
        "optional": about.get("optional", False) is True,
        "default_features": defaults is not False,
        "target": target,
        "kind": kind,
        "registry": None if registry and _CRATES_IO.fullmatch(registry) else registry,
        "package": None if given == alias else str(given),
    }


def _features(
    manifest: dict[str, Any],
) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Return the features, and apart those that cargo before 1.60 cannot read."""
    old: dict[str, list[str]] = {}
    newer: dict[str, list[str]] = {}
    for name, enables in _table(manifest, "features").items():
        if not isinstance(enables, list):
            raise ValueError(f"its feature {name} is not a list")  # noqa: TRY004
        texts = [str(one) for one in enables]
        is_newer = any(one.startswith("dep:") or "?/" in one for one in texts)
        (newer if is_newer else old)[name] = texts
    return old, newer


def _table(table: dict[str, Any], key: str) -> dict[str, Any]:
    found = table.get(key, {})
    if not isinstance(found, dict):
        raise ValueError(f"its {key} is not a table")  # noqa: TRY004
    return found


def _text(table: dict[str, Any], key: str) -> str | None:
    found = table.get(key)
    return found if isinstance(found, str) else None
