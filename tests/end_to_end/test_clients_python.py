"""pip and uv install through the network, as they are."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from node.demo.processes import NodeProcess
from tests.end_to_end.caravan import Caravan, wait_for_providers
from tests.end_to_end.clients import gateway, get, must, need, run_client
from tests.end_to_end.origin import Origin
from tests.end_to_end.packages import put_wheel, wheel, wheel_name

pytestmark = pytest.mark.timeout(180)

Install = Callable[[str, Path, str], subprocess.CompletedProcess[str]]


def with_pip(
    index: str, target: Path, requirement: str
) -> subprocess.CompletedProcess[str]:
    """Install into the folder `target` with pip."""
    pip = [sys.executable, "-m", "pip", "install", "--no-cache-dir", "--retries", "0"]
    return run_client(
        [*pip, "--index-url", index, "--target", target / "site", requirement], target
    )


def with_uv(
    index: str, target: Path, requirement: str
) -> subprocess.CompletedProcess[str]:
    """Install into the folder `target` with uv."""
    uv = [need("uv"), "pip", "install", "--no-cache", "--python", sys.executable]
    return run_client(
        [*uv, "--default-index", index, "--target", target / "site", requirement],
        target,
        {"UV_HTTP_RETRIES": "0"},
    )


CLIENTS = pytest.mark.parametrize("install", [with_pip, with_uv], ids=["pip", "uv"])


def index_of(node: NodeProcess) -> str:
    """Return the URL of a node's Python index."""
    return f"{gateway(node)}/pypi/simple"


def word_in(target: Path, module: str) -> str:
    """Return what an installed module says."""
    text = (target / "site" / f"{module}.py").read_text("utf-8")
    return text.removeprefix("WORD = ").strip().strip("'")


def start(caravan: Caravan, name: str, origin: Origin, *contacts: str) -> NodeProcess:
    """Start a node whose Python index is at `origin`."""
    upstream = f"{origin.url}/simple"
    return caravan.join(
        name,
        *contacts,
        CARAVAN_UPSTREAM_PYPI=upstream,
        CARAVAN_UPSTREAM_PYPI_SHARE="true",
    )


@CLIENTS
def test_it_installs_from_the_origin_through_a_node(
    caravan: Caravan, origin: Origin, tmp_path: Path, install: Install
) -> None:
    """With a dependency; the second time nothing is asked of the origin's files."""
    put_wheel(origin, "packed", "hello", needs=("needed>=1",))
    put_wheel(origin, "needed", "too")
    node = start(caravan, "a", origin)
    must(install(index_of(node), tmp_path / "one", "packed"))
    assert word_in(tmp_path / "one", "packed") == "hello"
    assert word_in(tmp_path / "one", "needed") == "too"
    asked = origin.asked_for("/files/")
    must(install(index_of(node), tmp_path / "two", "packed"))
    assert origin.asked_for("/files/") == asked


@CLIENTS
def test_it_installs_from_a_peer_when_the_origin_is_dead(
    caravan: Caravan, origin: Origin, tmp_path: Path, install: Install
) -> None:
    data = put_wheel(origin, "packed", "hello")
    first = start(caravan, "a", origin)
    second = start(caravan, "b", origin, first.address)
    must(install(index_of(first), tmp_path / "one", "packed"))
    assert get(f"{index_of(second)}/packed/")[0] == 200
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    wait_for_providers(second, digest, {first.address})
    origin.die()
    must(install(index_of(second), tmp_path / "two", "packed"))
    assert word_in(tmp_path / "two", "packed") == "hello"


@CLIENTS
def test_a_hostile_peer_never_gets_its_bytes_installed(
    caravan: Caravan, origin: Origin, tmp_path: Path, install: Install
) -> None:
    """With the origin alive the install succeeds; without it, it fails cleanly."""
    good, doomed = (
        tmp_path / wheel_name("packed", "1.0"),
        tmp_path / wheel_name("doomed", "1.0"),
    )
    good.write_bytes(put_wheel(origin, "packed", "hello"))
    doomed.write_bytes(put_wheel(origin, "doomed", "never"))
    node = start(caravan, "a", origin)
    for name, file in {"liar": good, "other": doomed}.items():
        liar = caravan.liar(name, file, node.address)
        digest = f"sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}"
        wait_for_providers(node, digest, {liar.address})
    must(install(index_of(node), tmp_path / "one", "packed"))
    assert word_in(tmp_path / "one", "packed") == "hello"
    assert get(f"{index_of(node)}/doomed/")[0] == 200
    origin.die()
    assert install(index_of(node), tmp_path / "two", "doomed").returncode != 0
    assert not (tmp_path / "two" / "site" / "doomed.py").exists()


@CLIENTS
def test_a_wheel_that_was_published_installs_by_its_name(
    caravan: Caravan, origin: Origin, tmp_path: Path, install: Install
) -> None:
    """The upstream has said that it has no such name."""
    file = tmp_path / wheel_name("homemade", "2.0")
    file.write_bytes(wheel("homemade", "2.0", "from a friend"))
    publisher = start(caravan, "publisher", origin)
    reader = start(caravan, "reader", origin, publisher.address)
    released = publisher.ask(
        "publish", str(file), "--name", "homemade", "--version", "2.0"
    )
    reader.ask("follow", f"{released['publisher']}/homemade")
    must(install(index_of(reader), tmp_path / "site", "homemade"))
    assert word_in(tmp_path / "site", "homemade") == "from a friend"


@CLIENTS
def test_a_published_name_never_shadows_one_of_the_upstream(
    caravan: Caravan, origin: Origin, tmp_path: Path, install: Install
) -> None:
    """It is refused, and so is one that an unreachable upstream might have."""
    put_wheel(origin, "popular", "the real one", "1.0")
    file = tmp_path / wheel_name("popular", "9.0")
    file.write_bytes(wheel("popular", "9.0", "a trap"))
    node = start(caravan, "a", origin)
    released = node.ask("publish", str(file), "--name", "popular", "--version", "9.0")
    node.ask("follow", f"{released['publisher']}/popular")
    status, body = get(f"{index_of(node)}/popular/")
    assert status == 409
    assert b"[gateway.names]" in body
    assert install(index_of(node), tmp_path / "one", "popular").returncode != 0
    assert not (tmp_path / "one" / "site" / "popular.py").exists()


def test_pip_takes_a_file_by_its_digest_alone(
    caravan: Caravan, origin: Origin, tmp_path: Path
) -> None:
    """As a direct reference, without an index."""
    data = put_wheel(origin, "packed", "hello")
    node = start(caravan, "a", origin)
    file = tmp_path / wheel_name("packed", "1.0")
    file.write_bytes(data)
    node.ask("share", str(file))
    digest = hashlib.sha256(data).hexdigest()
    url = f"{gateway(node)}/blob/sha256/{digest}/{file.name}#sha256={digest}"
    must(with_pip(index_of(node), tmp_path / "one", f"packed @ {url}"))
    assert word_in(tmp_path / "one", "packed") == "hello"
