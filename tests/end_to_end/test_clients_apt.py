"""apt takes packages through the network, with the origin as its next mirror."""

from __future__ import annotations

import gzip
import hashlib
import subprocess
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path

import pytest

from node.demo.processes import NodeProcess
from tests.end_to_end.caravan import Caravan, held_digests, wait_for_providers
from tests.end_to_end.clients import gateway, get, must, need, run_client
from tests.end_to_end.origin import Origin

# A real package manager is needed, and it takes its time.
pytestmark = [pytest.mark.timeout(180), pytest.mark.full]

SUITE, BINARY = "dists/stable", "main/binary-all"


def put_deb(origin: Origin, folder: Path, name: str) -> bytes:
    """Let an origin have a Debian archive with one package; returns the package."""
    root = folder / name
    (root / "DEBIAN").mkdir(parents=True)
    (root / "DEBIAN/control").write_text(
        f"Package: {name}\nVersion: 1.0\nArchitecture: all\n"
        "Maintainer: tests <tests@example.org>\nDescription: a toy\n"
    )
    file = folder / f"{name}_1.0_all.deb"
    must(run_client([need("dpkg-deb"), "--build", root, file], folder))
    data = file.read_bytes()
    path = f"pool/{file.name}"
    origin.put(f"/debian/{path}", data)
    stanza = (
        f"Package: {name}\nVersion: 1.0\nArchitecture: all\nFilename: {path}\n"
        f"Size: {len(data)}\nSHA256: {hashlib.sha256(data).hexdigest()}\n\n"
    )
    packages = gzip.compress(stanza.encode(), mtime=0)
    digest = hashlib.sha256(packages).hexdigest()
    origin.put(f"/debian/{SUITE}/{BINARY}/by-hash/SHA256/{digest}", packages)
    plain = hashlib.sha256(stanza.encode()).hexdigest()
    release = (
        "Suite: stable\nCodename: stable\nArchitectures: all amd64\nComponents: main\n"
        f"Date: {format_datetime(datetime.now(UTC), usegmt=True)}\n"
        "Acquire-By-Hash: yes\nSHA256:\n"
        f" {plain} {len(stanza)} {BINARY}/Packages\n"
        f" {digest} {len(packages)} {BINARY}/Packages.gz\n"
    )
    origin.put(f"/debian/{SUITE}/Release", release.encode(), "text/plain")
    return data


def apt(
    folder: Path, node: NodeProcess, *arguments: str
) -> subprocess.CompletedProcess[str]:
    """Run apt-get with all its state below `folder`, and the node as its mirror."""
    program = need("apt-get")
    for name in ("lists/partial", "cache/archives/partial", "etc", "parts"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    mirrors = folder / "mirrors.list"
    mirrors.write_text(f"{gateway(node)}/debian/\tpriority:1\n")
    (folder / "sources.list").write_text(
        f"deb [trusted=yes arch=all] mirror+file:{mirrors} stable main\n"
    )
    (folder / "status").touch()
    options = {
        "Dir::State::lists": folder / "lists",
        "Dir::State::status": folder / "status",
        "Dir::Cache": folder / "cache",
        "Dir::Etc::sourcelist": folder / "sources.list",
        "Dir::Etc::sourceparts": folder / "parts",
        "APT::Architecture": "all",
        "APT::Sandbox::User": "root",
        "Acquire::Retries": "0",
        "Acquire::Languages": "none",
    }
    flags = [f"-o{name}={value}" for name, value in options.items()]
    return run_client([program, *flags, *arguments], folder)


def start(caravan: Caravan, name: str, origin: Origin, *contacts: str) -> NodeProcess:
    upstream = f"{origin.url}/debian"
    return caravan.join(
        name,
        *contacts,
        CARAVAN_UPSTREAM_DEBIAN=upstream,
        CARAVAN_UPSTREAM_DEBIAN_SHARE="true",
    )


def test_apt_takes_a_package_from_the_origin_and_then_from_a_peer(
    caravan: Caravan, origin: Origin, tmp_path: Path
) -> None:
    need("apt-get")
    data = put_deb(origin, tmp_path, "toy")
    first = start(caravan, "a", origin)
    second = start(caravan, "b", origin, first.address)
    for folder, node in ((tmp_path / "one", first), (tmp_path / "two", second)):
        folder.mkdir()
        must(apt(folder, node, "update"))
    must(apt(tmp_path / "one", first, "download", "toy"))
    assert (tmp_path / "one" / "toy_1.0_all.deb").read_bytes() == data
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    wait_for_providers(second, digest, {first.address})
    origin.die()
    must(apt(tmp_path / "two", second, "download", "toy"))
    assert (tmp_path / "two" / "toy_1.0_all.deb").read_bytes() == data


def test_apt_never_takes_what_a_hostile_peer_sends(
    caravan: Caravan, origin: Origin, tmp_path: Path
) -> None:
    """With the origin alive it gets the right package; without it, none."""
    need("apt-get")
    file = tmp_path / "right.deb"
    file.write_bytes(put_deb(origin, tmp_path, "toy"))
    digest = f"sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}"
    node = start(caravan, "a", origin)
    liar = caravan.liar("liar", file, node.address)
    wait_for_providers(node, digest, {liar.address})
    other = start(caravan, "b", origin, node.address, liar.address)
    wait_for_providers(other, digest, {liar.address})
    for folder, one in ((tmp_path / "one", node), (tmp_path / "two", other)):
        folder.mkdir()
        must(apt(folder, one, "update"))
    must(apt(tmp_path / "one", node, "download", "toy"))
    assert (tmp_path / "one" / "toy_1.0_all.deb").read_bytes() == file.read_bytes()
    node.stop()
    origin.die()
    assert apt(tmp_path / "two", other, "download", "toy").returncode != 0
    assert not (tmp_path / "two" / "toy_1.0_all.deb").exists()
    assert digest not in held_digests(other)


def test_what_no_index_named_is_passed_on_and_not_kept(
    caravan: Caravan, origin: Origin
) -> None:
    """Apt verifies it; and what is not in the archive is never asked for."""
    origin.put("/debian/pool/toy_1.0_all.deb", b"in no Packages file")
    origin.put("/secret", b"not in the archive")
    node = start(caravan, "a", origin)
    url = f"{gateway(node)}/debian/pool/toy_1.0_all.deb"
    assert get(url) == (200, b"in no Packages file")
    assert held_digests(node) == set()
    for path in ("pool/../../secret", "..%2fsecret", "secret"):
        assert get(f"{gateway(node)}/debian/{path}")[0] == 404
    assert origin.asked_for("/secret") == origin.asked_for("/debian/secret")
