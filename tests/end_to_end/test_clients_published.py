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

# A real package manager is needed, and it takes its time.
pytestmark = [pytest.mark.timeout(180), pytest.mark.full]


def two_nodes(caravan: Caravan, origin: Origin) -> tuple[NodeProcess, NodeProcess]:
    """Start a publisher's node and a reader's, with all upstreams at `origin`."""
    upstreams = {
        "CARAVAN_UPSTREAM_PYPI": "none",
        "CARAVAN_UPSTREAM_CARGO": f"sparse+{origin.url}/index/",
        "CARAVAN_UPSTREAM_CARGO_SHARE": "true",
        "CARAVAN_UPSTREAM_NPM": f"{origin.url}/npm/",
        "CARAVAN_UPSTREAM_NPM_SHARE": "true",
        "CARAVAN_UPSTREAM_OPAM": f"{origin.url}/opam",
        "CARAVAN_UPSTREAM_OPAM_SHARE": "true",
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


def test_what_the_tools_themselves_pack_is_what_is_published(
    caravan: Caravan, origin: Origin, tmp_path: Path
) -> None:
    """`cargo package` and `npm pack`, not archives made by hand."""
    put_crate(origin, "upstreamed", "from the upstream")
    publisher, reader = two_nodes(caravan, origin)
    folder = tmp_path / "crate"
    cargo(publisher, folder, "upstreamed", "fetch")  # its lockfile and configuration
    manifest = folder / "Cargo.toml"
    text = manifest.read_text().replace('"main"', '"packed_crate"')
    manifest.write_text(f'{text}[features]\nmore = []\n[lib]\npath = "src/lib.rs"\n')
    (folder / "src/lib.rs").write_text('pub fn word() -> &\'static str { "packed" }\n')
    pack = [need("cargo"), "package", "--no-verify", "--allow-dirty"]
    must(run_client(pack, folder, {"CARGO_HOME": str(folder / "cargo")}))
    crate_file = folder / "target/package/packed_crate-0.1.0.crate"
    release(publisher, reader, "packed_crate", "0.1.0", crate_file)
    said = must(cargo(reader, tmp_path / "two", "packed_crate", needs="0.1"))
    assert said.strip() == "packed"
    assert "upstreamed" in (tmp_path / "two/Cargo.lock").read_text()
    folder = tmp_path / "npm"
    folder.mkdir()
    about = {"name": "@friend/packed", "version": "1.2.3", "main": "index.js"}
    (folder / "package.json").write_text(json.dumps(about))
    (folder / "index.js").write_text("module.exports = 'packed';\n")
    must(run_client([need("npm"), "pack"], folder))
    tarball_file = folder / "friend-packed-1.2.3.tgz"
    release(publisher, reader, "@friend/packed", "1.2.3", tarball_file)
    must(npm(reader, tmp_path / "one", "@friend/packed"))
    assert npm_word(tmp_path / "one", "@friend/packed") == "packed"


def test_nothing_is_served_while_the_upstream_cannot_be_asked(
    caravan: Caravan, origin: Origin, tmp_path: Path
) -> None:
    """It may have the name. One release, for all three of them."""
    publisher, reader = two_nodes(caravan, origin)
    files = {
        "homemade-1.0.0.crate": crate("homemade", "hello"),
        "homemade-1.0.0.tgz": npm_package("homemade", "hello"),
        "opam": opam_text("homemade").encode(),
    }
    for file, content in files.items():
        (tmp_path / file).write_bytes(content)
    paths = [tmp_path / file for file in files]
    release(publisher, reader, "homemade", "1.0.0", *paths)
    origin.die()
    for path in (
        "/cargo/index/ho/me/homemade",
        "/npm/homemade",
        "/opam/published/packages/homemade/homemade.1.0.0/opam",
    ):
        status, body = get(gateway(reader) + path)
        assert status == 409
        assert "cannot be asked" in json.loads(body)["error"]
