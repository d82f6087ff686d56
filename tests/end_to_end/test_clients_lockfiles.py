"""Lockfiles: prefetched, looked up, and shared from the caches of package managers."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import pytest

from tests.end_to_end.caravan import Caravan, held_digests, wait_for_providers
from tests.end_to_end.clients import gateway, must, run_client
from tests.end_to_end.origin import Origin
from tests.end_to_end.packages import put_crate, put_wheel, wheel_name

pytestmark = pytest.mark.timeout(120)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def requirements(folder: Path, *pinned: tuple[str, bytes]) -> str:
    """Write a requirements.txt with hashes; returns its path."""
    lines = [f"{name}==1.0 --hash=sha256:{sha256(data)}" for name, data in pinned]
    path = folder / "requirements.txt"
    path.write_text("\n".join(lines))
    return str(path)


def test_what_is_locked_is_prefetched_and_offered(
    caravan: Caravan, origin: Origin, tmp_path: Path
) -> None:
    """From the origin on one node, from it on another; then pip needs no origin."""
    data = put_wheel(origin, "packed", "hello")
    crate = put_crate(origin, "toycrate", "hello")
    upstreams = {
        "CARAVAN_UPSTREAM_PYPI": f"{origin.url}/simple",
        "CARAVAN_UPSTREAM_PYPI_SHARE": "true",
        "CARAVAN_UPSTREAM_CARGO": f"{origin.url}/index",
        "CARAVAN_UPSTREAM_CARGO_SHARE": "true",
    }
    first = caravan.join("a", **upstreams)
    second = caravan.join("b", first.address, **upstreams)
    lockfile = requirements(tmp_path, ("packed", data))
    (tmp_path / "Cargo.lock").write_text(
        f'[[package]]\nname = "toycrate"\nversion = "1.0.0"\n'
        f'checksum = "{sha256(crate)}"\n'
    )
    answer = first.ask("fetch", "--lockfile", lockfile, "-o", str(tmp_path / "wheels"))
    (artifact,) = answer["artifacts"]
    assert artifact["sources"][0]["address"] == "pypi"
    written = tmp_path / "wheels" / wheel_name("packed", "1.0")
    assert written.read_bytes() == data
    first.ask("fetch", "--lockfile", str(tmp_path / "Cargo.lock"))
    assert held_digests(first) == {f"sha256:{sha256(one)}" for one in (data, crate)}
    wait_for_providers(second, f"sha256:{sha256(data)}", {first.address})
    counts = second.ask("lookup", "--lockfile", lockfile)["counts"]
    assert counts == {"held": 0, "peers": 1, "origin": 0, "nowhere": 0}
    (artifact,) = second.ask("fetch", "--lockfile", lockfile)["artifacts"]
    assert artifact["sources"][0]["address"] == first.address
    origin.die()
    pip = [sys.executable, "-m", "pip", "install", "--no-cache-dir", "--target", "site"]
    index = f"{gateway(second)}/pypi/simple"
    must(run_client([*pip, "--index-url", index, "-r", lockfile], tmp_path))


def test_what_cannot_be_had_is_said(
    caravan: Caravan, origin: Origin, tmp_path: Path
) -> None:
    data = put_wheel(origin, "packed", "hello")
    node = caravan.join(
        "a",
        CARAVAN_UPSTREAM_PYPI=f"{origin.url}/simple",
        CARAVAN_UPSTREAM_PYPI_SHARE="true",
    )
    lockfile = requirements(tmp_path, ("packed", data), ("gone", b"nobody has this"))
    counts = node.ask("lookup", "--lockfile", lockfile, "--all")["counts"]
    assert counts == {"held": 0, "peers": 0, "origin": 1, "nowhere": 1}
    answer = node.run("fetch", "--lockfile", lockfile, "--all")
    assert answer.exit_code == 4
    assert len(answer.document["artifacts"]) == 1
    assert answer.document["missing"][0]["name"] == "gone"


def test_what_is_on_disk_is_shared_if_a_lockfile_names_it(
    caravan: Caravan, origin: Origin, tmp_path: Path
) -> None:
    """And nothing else of the cache is."""
    data, other = put_wheel(origin, "packed", "hello"), b"a private thing"
    folder = tmp_path / "pip-cache" / "http-v2" / "a"
    folder.mkdir(parents=True)
    (folder / "1.body").write_bytes(data)
    (folder / "2.body").write_bytes(other)
    node = caravan.join(
        "a",
        CARAVAN_UPSTREAM_PYPI=f"{origin.url}/simple",
        CARAVAN_UPSTREAM_PYPI_SHARE="true",
        PIP_CACHE_DIR=str(tmp_path / "pip-cache"),
        HOME=str(tmp_path),
    )
    lockfile = requirements(tmp_path, ("packed", data))
    shared = node.ask("share", "--lockfile", lockfile)["artifacts"]
    assert [one["file"] for one in shared] == [wheel_name("packed", "1.0")]
    assert held_digests(node) == {f"sha256:{sha256(data)}"}


def test_of_pips_cache_only_what_the_index_names_is_shared(
    caravan: Caravan, origin: Origin, tmp_path: Path
) -> None:
    data = put_wheel(origin, "packed", "hello")
    private = put_wheel(origin, "private", "ours alone")
    del origin.files["/simple/private/"]
    folder = tmp_path / "pip-cache" / "http"
    folder.mkdir(parents=True)
    (folder / "1").write_bytes(private)
    # The form of pip before 23.3: a map in which the body stands.
    head = b"cc=4,\x81\xa8response\x81\xa4body\xc5"
    (folder / "2").write_bytes(head + len(data).to_bytes(2, "big") + data)
    node = caravan.join(
        "a",
        CARAVAN_UPSTREAM_PYPI=f"{origin.url}/simple",
        CARAVAN_UPSTREAM_PYPI_SHARE="true",
        PIP_CACHE_DIR=str(tmp_path / "pip-cache"),
    )
    shared = node.ask("share", "--pip-cache")["artifacts"]
    assert [one["digest"] for one in shared] == [f"sha256:{sha256(data)}"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("fetch", "--lockfile", "nowhere.lock"),
        ("lookup", "--lockfile", "uv.lock", "sha256:00"),
        ("fetch",),
        ("lookup",),
        ("share",),
    ],
)
def test_mistakes_are_one_sentence(
    caravan: Caravan, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    node = caravan.join("a", CARAVAN_UPSTREAM_PYPI="none")
    answer = node.run(*arguments)
    assert answer.exit_code in (1, 2)
    assert len(answer.said.splitlines()) == 1
    assert "error" in json.loads(json.dumps(answer.document))
