"""cargo and npm install through the network, as they are."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest

from node.demo.processes import NodeProcess
from tests.end_to_end.caravan import Caravan, wait_for_providers
from tests.end_to_end.clients import gateway, get, must, need, run_client
from tests.end_to_end.origin import Origin
from tests.end_to_end.packages import put_crate, put_npm

# A real package manager is needed, and it takes its time.
pytestmark = [pytest.mark.timeout(180), pytest.mark.full]


def start(caravan: Caravan, name: str, origin: Origin, *contacts: str) -> NodeProcess:
    """Start a node whose crates and npm packages are at `origin`."""
    return caravan.join(
        name,
        *contacts,
        CARAVAN_UPSTREAM_CARGO=f"sparse+{origin.url}/index/",
        CARAVAN_UPSTREAM_CARGO_SHARE="true",
        CARAVAN_UPSTREAM_NPM=f"{origin.url}/npm/",
        CARAVAN_UPSTREAM_NPM_SHARE="true",
    )


def cargo(
    node: NodeProcess, folder: Path, crate: str, verb: str = "run", needs: str = "1"
) -> subprocess.CompletedProcess[str]:
    """Have cargo build a program that prints what `crate` says."""
    program = need("cargo")
    (folder / "src").mkdir(parents=True, exist_ok=True)
    (folder / "Cargo.toml").write_text(
        f'[package]\nname = "main"\nversion = "0.1.0"\nedition = "2021"\n'
        f'[dependencies]\n{crate} = "{needs}"\n'
    )
    (folder / "src/main.rs").write_text(
        f'fn main() {{ println!("{{}}", {crate}::word()); }}\n'
    )
    (folder / ".cargo").mkdir(exist_ok=True)
    (folder / ".cargo/config.toml").write_text(
        '[source.crates-io]\nreplace-with = "caravan"\n[source.caravan]\n'
        f'registry = "sparse+{gateway(node)}/cargo/index/"\n[net]\nretry = 0\n'
    )
    return run_client(
        [program, verb, "--quiet"], folder, {"CARGO_HOME": str(folder / "cargo")}
    )


def npm(
    node: NodeProcess, folder: Path, package: str
) -> subprocess.CompletedProcess[str]:
    """Have npm install a package into `folder`."""
    program = need("npm")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "package.json").write_text('{"name": "main", "version": "1.0.0"}')
    flags = ["--no-audit", "--no-fund", "--fetch-retries=0"]
    registry = f"--registry={gateway(node)}/npm/"
    return run_client([program, "install", *flags, registry, package], folder)


def npm_word(folder: Path, package: str) -> str:
    """Return what an installed npm package exports."""
    program = f"console.log(require('{package}'))"
    return must(run_client([need("node"), "-e", program], folder)).strip()


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def test_cargo_builds_from_the_origin_and_then_from_a_peer(
    caravan: Caravan, origin: Origin, tmp_path: Path
) -> None:
    """The lockfile holds no address of the gateway."""
    need("cargo")
    data = put_crate(origin, "toycrate", "hello from a crate")
    first = start(caravan, "a", origin)
    second = start(caravan, "b", origin, first.address)
    said = must(cargo(first, tmp_path / "one", "toycrate"))
    assert said.strip() == "hello from a crate"
    assert "127.0.0.1" not in (tmp_path / "one/Cargo.lock").read_text()
    assert get(f"{gateway(second)}/cargo/index/to/yc/toycrate")[0] == 200
    wait_for_providers(second, digest_of(data), {first.address})
    origin.die()
    said = must(cargo(second, tmp_path / "two", "toycrate"))
    assert said.strip() == "hello from a crate"


def test_cargo_never_builds_what_a_hostile_peer_sends(
    caravan: Caravan, origin: Origin, tmp_path: Path
) -> None:
    need("cargo")
    node = start(caravan, "a", origin)
    for name in ("goodcrate", "deadcrate"):
        file = tmp_path / f"{name}.crate"
        file.write_bytes(put_crate(origin, name, "right"))
        liar = caravan.liar(f"liar-{name}", file, node.address)
        wait_for_providers(node, digest_of(file.read_bytes()), {liar.address})
    assert must(cargo(node, tmp_path / "one", "goodcrate")).strip() == "right"
    assert get(f"{gateway(node)}/cargo/index/de/ad/deadcrate")[0] == 200
    origin.die()
    assert cargo(node, tmp_path / "two", "deadcrate", "fetch").returncode != 0


def test_npm_installs_from_the_origin_and_then_from_a_peer(
    caravan: Caravan, origin: Origin, tmp_path: Path
) -> None:
    need("npm")
    data = put_npm(origin, "toy-package", "hello from npm")
    first = start(caravan, "a", origin)
    second = start(caravan, "b", origin, first.address)
    must(npm(first, tmp_path / "one", "toy-package"))
    assert npm_word(tmp_path / "one", "toy-package") == "hello from npm"
    assert get(f"{gateway(second)}/npm/toy-package")[0] == 200
    sha512 = f"sha512:{hashlib.sha512(data).hexdigest()}"
    wait_for_providers(second, sha512, {first.address})
    short = {"Accept": "application/vnd.npm.install-v1+json"}
    assert get(f"{gateway(second)}/npm/toy-package", short)[0] == 200
    origin.die()
    must(npm(second, tmp_path / "two", "toy-package"))
    assert npm_word(tmp_path / "two", "toy-package") == "hello from npm"


def test_npm_keeps_the_gateway_out_of_its_lockfile(
    caravan: Caravan, origin: Origin, tmp_path: Path
) -> None:
    """With the setting that `caravan connect npm` writes."""
    need("npm")
    put_npm(origin, "toy-package", "hello")
    node = start(caravan, "a", origin)
    folder = tmp_path / "one"
    folder.mkdir()
    (folder / ".npmrc").write_text("omit-lockfile-registry-resolved=true\n")
    must(npm(node, folder, "toy-package"))
    lockfile = (folder / "package-lock.json").read_text()
    assert "sha512-" in lockfile
    assert "127.0.0.1" not in lockfile


def test_npm_never_installs_what_a_hostile_peer_sends(
    caravan: Caravan, origin: Origin, tmp_path: Path
) -> None:
    need("npm")
    node = start(caravan, "a", origin)
    for name in ("good-package", "dead-package"):
        file = tmp_path / f"{name}.tgz"
        file.write_bytes(put_npm(origin, name, "right"))
        liar = caravan.liar(f"liar-{name}", file, node.address)
        sha512 = f"sha512:{hashlib.sha512(file.read_bytes()).hexdigest()}"
        wait_for_providers(node, sha512, {liar.address})
    must(npm(node, tmp_path / "one", "good-package"))
    assert npm_word(tmp_path / "one", "good-package") == "right"
    assert get(f"{gateway(node)}/npm/dead-package")[0] == 200
    short = {"Accept": "application/vnd.npm.install-v1+json"}
    assert get(f"{gateway(node)}/npm/dead-package", short)[0] == 200
    origin.die()
    assert npm(node, tmp_path / "two", "dead-package").returncode != 0
    assert not (tmp_path / "two/node_modules/dead-package/index.js").exists()
