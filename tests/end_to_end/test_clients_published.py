"""cargo, npm and opam install what somebody published with `caravan publish`.

Python's packages are in test_clients_python. Everywhere the same rule holds: a name
that the upstream has, or may have, is refused and not shadowed.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from node.demo.processes import NodeProcess
from tests.end_to_end.caravan import Caravan
from tests.end_to_end.clients import gateway, get, must, need, run_client
from tests.end_to_end.origin import Origin
from tests.end_to_end.packages import (
    crate,
    npm_package,
    opam_text,
    put_crate,
    put_npm,
    put_opam,
    tarball,
)
from tests.end_to_end.test_clients_cargo_npm import cargo, npm, npm_word
from tests.end_to_end.test_clients_opam import install, prepare, share_of

pytestmark = pytest.mark.timeout(180)


def two_nodes(caravan: Caravan, origin: Origin) -> tuple[NodeProcess, NodeProcess]:
    """Start a publisher's node and a reader's, with all upstreams at `origin`."""
    upstreams = {
        "CARAVAN_UPSTREAM_PYPI": "none",
        "CARAVAN_UPSTREAM_CARGO": f"sparse+{origin.url}/index/",
        "CARAVAN_UPSTREAM_NPM": f"{origin.url}/npm/",
        "CARAVAN_UPSTREAM_OPAM": f"{origin.url}/opam",
    }
    publisher = caravan.join("publisher", **upstreams)
    return publisher, caravan.join("reader", publisher.address, **upstreams)


def release(
    publisher: NodeProcess, reader: NodeProcess, name: str, version: str, *files: Path
) -> None:
    """Publish files under a name, and have the reader follow it."""
    paths = [str(file) for file in files]
    done = publisher.ask("publish", *paths, "--name", name, "--version", version)
    reader.ask("follow", f"{done['publisher']}/{name}")


def test_cargo_builds_with_a_crate_that_was_published(
    caravan: Caravan, origin: Origin, tmp_path: Path
) -> None:
    """It needs another crate, which the upstream has."""
    need("cargo")
    put_crate(origin, "upstreamed", "from the upstream")
    publisher, reader = two_nodes(caravan, origin)
    file = tmp_path / "homemade-1.0.0.crate"
    file.write_bytes(crate("homemade", "from a friend", 'upstreamed = "1"'))
    release(publisher, reader, "homemade", "1.0.0", file)
    said = must(cargo(reader, tmp_path / "one", "homemade"))
    assert said.strip() == "from a friend"
    lockfile = (tmp_path / "one/Cargo.lock").read_text()
    assert "upstreamed" in lockfile
    assert "127.0.0.1" not in lockfile
    # What the upstream has differs by its spelling only, and so is the same crate.
    put_crate(origin, "late-crate", "the real one")
    late = tmp_path / "late_crate-1.0.0.crate"
    late.write_bytes(crate("late_crate", "a trap"))
    release(publisher, reader, "late_crate", "1.0.0", late)
    refused = cargo(reader, tmp_path / "two", "late_crate")
    assert refused.returncode != 0
    assert "[gateway.names]" in refused.stderr


def test_npm_installs_a_package_that_was_published(
    caravan: Caravan, origin: Origin, tmp_path: Path
) -> None:
    """In a scope, with a dependency that the upstream has; and its lockfile holds."""
    need("npm")
    put_npm(origin, "upstreamed", "from the upstream")
    publisher, reader = two_nodes(caravan, origin)
    file = tmp_path / "friend-homemade-1.0.0.tgz"
    needs = {"upstreamed": "^1.0.0"}
    file.write_bytes(
        npm_package("@friend/homemade", "from a friend", dependencies=needs)
    )
    release(publisher, reader, "@friend/homemade", "1.0.0", file)
    folder = tmp_path / "one"
    folder.mkdir()
    (folder / ".npmrc").write_text("omit-lockfile-registry-resolved=true\n")
    must(npm(reader, folder, "@friend/homemade"))
    assert npm_word(folder, "@friend/homemade") == "from a friend"
    assert npm_word(folder, "upstreamed") == "from the upstream"
    lockfile = (folder / "package-lock.json").read_text()
    assert "127.0.0.1" not in lockfile
    registry = f"--registry={gateway(reader)}/npm/"
    must(run_client([need("npm"), "ci", "--no-audit", registry], folder))
    put_npm(origin, "popular", "the real one")
    trap = tmp_path / "popular-9.0.0.tgz"
    trap.write_bytes(npm_package("popular", "a trap", version="9.0.0"))
    release(publisher, reader, "popular", "9.0.0", trap)
    refused = npm(reader, tmp_path / "two", "popular")
    assert refused.returncode != 0
    assert "[gateway.names]" in refused.stderr
    assert not (tmp_path / "two/node_modules/popular").exists()


def test_opam_installs_a_package_that_was_published(
    caravan: Caravan, origin: Origin, tmp_path: Path
) -> None:
    """From the node's own repository, whose refusals `opam update` shows."""
    opam = need("opam")
    put_opam(origin, "popular", "the real one")
    publisher, reader = two_nodes(caravan, origin)
    archive, text = tmp_path / "homemade-1.0.tar.gz", tmp_path / "homemade.opam"
    archive.write_bytes(tarball({"homemade-1.0/word.txt": "from a friend\n"}))
    text.write_text(opam_text("homemade", 'url { src: "https://nowhere.test/x" }'))
    release(publisher, reader, "homemade", "1.0", archive, text)
    trap = tmp_path / "opam"
    trap.write_text(opam_text("popular"))
    release(publisher, reader, "popular", "9.0", trap)
    root = prepare(reader, origin, tmp_path / "root")
    flags = ["--root", root, "--yes", "--switch", "x"]
    url = f"{gateway(reader)}/opam/published"
    where = ["published", url, "--rank=-1"]
    must(run_client([opam, "repository", "add", *flags, *where], tmp_path))
    must(install(root, "homemade"))
    assert share_of(root, "homemade").read_text().strip() == "from a friend"
    updated = run_client([opam, "update", *flags, "published"], tmp_path)
    assert "[gateway.names]" in updated.stdout + updated.stderr
    must(install(root, "popular"))
    assert share_of(root, "popular").read_text().strip() == "the real one"


@pytest.mark.parametrize(
    ("name", "file", "path"),
    [
        ("homemade", "homemade-1.0.0.crate", "/cargo/index/ho/me/homemade"),
        ("homemade", "homemade-1.0.0.tgz", "/npm/homemade"),
        ("@friend/homemade", "homemade-1.0.0.tgz", "/npm/@friend%2fhomemade"),
        ("homemade", "opam", "/opam/published/packages/homemade/homemade.1.0.0/opam"),
    ],
)
def test_nothing_is_served_while_the_upstream_cannot_be_asked(
    caravan: Caravan, origin: Origin, tmp_path: Path, name: str, file: str, path: str
) -> None:
    """It may have the name."""
    publisher, reader = two_nodes(caravan, origin)
    made = {"crate": crate, "tgz": npm_package}.get(file.rpartition(".")[2])
    content = made(name, "hello") if made else opam_text(name).encode()
    (tmp_path / file).write_bytes(content)
    release(publisher, reader, name, "1.0.0", tmp_path / file)
    origin.die()
    status, body = get(gateway(reader) + path)
    assert status == 409
    assert "cannot be asked" in json.loads(body)["error"]
