"""opam installs through the network, as it is."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest

from node.demo.processes import NodeProcess
from tests.end_to_end.caravan import Caravan, wait_for_providers
from tests.end_to_end.clients import gateway, get, must, need, run_client
from tests.end_to_end.origin import Origin
from tests.end_to_end.packages import put_opam

# A real package manager is needed, and it takes its time.
pytestmark = [pytest.mark.timeout(180), pytest.mark.full]


def start(caravan: Caravan, name: str, origin: Origin, *contacts: str) -> NodeProcess:
    """Start a node that reads the opam repository at `origin`."""
    return caravan.join(
        name,
        *contacts,
        CARAVAN_UPSTREAM_OPAM=f"{origin.url}/opam",
        CARAVAN_UPSTREAM_OPAM_SHARE="true",
    )


def prepare(node: NodeProcess, origin: Origin, folder: Path) -> Path:
    """Make an opam root with an empty switch and this node as its mirror."""
    opam, root = need("opam"), folder / "root"
    flags = ["--root", root, "--yes"]
    init = ["init", "--bare", "--disable-sandboxing", "--no-setup"]
    must(run_client([opam, *init, *flags, "here", f"{origin.url}/opam"], folder))
    config = root / "config"
    mirror = f'archive-mirrors: ["{gateway(node)}/opam"]\n'
    config.write_text(config.read_text() + mirror)
    must(run_client([opam, "switch", "create", "x", "--empty", *flags], folder))
    return root


def install(root: Path, package: str) -> subprocess.CompletedProcess[str]:
    """Have opam install a package into its switch."""
    flags = ["--root", root, "--switch", "x", "--yes", "--assume-depexts"]
    return run_client([need("opam"), "install", *flags, package], root.parent)


def share_of(root: Path, name: str) -> Path:
    """Return the file that an installed package leaves."""
    return root / "x" / "share" / f"{name}.txt"


def test_opam_installs_from_the_origin_and_then_from_a_peer(
    caravan: Caravan, origin: Origin, tmp_path: Path
) -> None:
    """It asks by MD5; the repository's index says which SHA-512 belongs to it."""
    need("opam")
    data = put_opam(origin, "toy", "hello from opam")
    first = start(caravan, "a", origin)
    second = start(caravan, "b", origin, first.address)
    root, other = (
        prepare(first, origin, tmp_path / "one"),
        prepare(second, origin, tmp_path / "two"),
    )
    asked = origin.asked_for("/archives/")
    must(install(root, "toy"))
    assert share_of(root, "toy").read_text().strip() == "hello from opam"
    assert origin.asked_for("/archives/") == asked + 1
    assert get(f"{gateway(second)}/opam/md5/00/{'0' * 32}")[0] == 404
    sha512 = f"sha512:{hashlib.sha512(data).hexdigest()}"
    wait_for_providers(second, sha512, {first.address})
    origin.die()
    must(install(other, "toy"))
    assert share_of(other, "toy").read_text().strip() == "hello from opam"


def test_opam_never_installs_what_a_hostile_peer_sends(
    caravan: Caravan, origin: Origin, tmp_path: Path
) -> None:
    need("opam")
    file = tmp_path / "toy.tar.gz"
    file.write_bytes(put_opam(origin, "toy", "right"))
    node = start(caravan, "a", origin)
    liar = caravan.liar("liar", file, node.address)
    digest = f"sha512:{hashlib.sha512(file.read_bytes()).hexdigest()}"
    wait_for_providers(node, digest, {liar.address})
    root = prepare(node, origin, tmp_path / "one")
    must(install(root, "toy"))
    assert share_of(root, "toy").read_text().strip() == "right"
    other = start(caravan, "b", origin, node.address)
    dead = prepare(other, origin, tmp_path / "two")
    assert get(f"{gateway(other)}/opam/md5/00/{'0' * 32}")[0] == 404
    wait_for_providers(other, digest, {liar.address})
    node.stop()
    origin.die()
    assert install(dead, "toy").returncode != 0
    assert not share_of(dead, "toy").exists()
