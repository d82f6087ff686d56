"""The site door: package managers of another machine use this node."""

from __future__ import annotations

import base64
import hashlib
import socket
import ssl
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from node.demo.processes import NodeProcess
from tests.certificates import write_certificate
from tests.end_to_end.caravan import Caravan
from tests.end_to_end.clients import get, must, need, run_client
from tests.end_to_end.namespaces import HERE, Neighbour, neighbour
from tests.end_to_end.origin import Origin
from tests.end_to_end.packages import put_crate, put_npm, put_wheel

pytestmark = pytest.mark.timeout(180)

TOKEN = "the-token-of-this-lab-1234"


@pytest.fixture(scope="module")
def there() -> Iterator[Neighbour]:
    """Another machine, cabled to this one."""
    with neighbour() as other:
        yield other


def site_node(
    caravan: Caravan, origin: Origin, serve: str, config: str = "", name: str = "a"
) -> NodeProcess:
    """Start a node with a site door at `serve`, and `[site]` as in `config`."""
    node = caravan.node(
        name,
        CARAVAN_UPSTREAM_PYPI=f"{origin.url}/simple",
        CARAVAN_UPSTREAM_NPM=f"{origin.url}/npm/",
        CARAVAN_UPSTREAM_CARGO=f"sparse+{origin.url}/index/",
    )
    node.home.mkdir(parents=True)
    (node.home / "config.toml").write_text(f"[site]\n{config}\n")
    node.start("--serve", serve)
    node.wait_ready()
    return node


def door(node: NodeProcess, scheme: str = "http") -> str:
    return f"{scheme}://{node.ready['site']}"


def pip_over_there(
    there: Neighbour, folder: Path, index: str, package: str
) -> subprocess.CompletedProcess[str]:
    pip = there.command(sys.executable, "-m", "pip", "install", "--no-cache-dir")
    host = index.split("/")[2].rpartition("@")[2].rpartition(":")[0]
    return run_client(
        [*pip, "--retries", "0", "--trusted-host", host, "--index-url", index,
         "--target", folder / "site", package],
        folder,
    )  # fmt: skip


@pytest.mark.full
def test_package_managers_of_another_machine(
    caravan: Caravan, origin: Origin, there: Neighbour, tmp_path: Path
) -> None:
    """Each URL that they are given leads to this machine, never to loopback."""
    put_wheel(origin, "packed", "hello", needs=("needed>=1",))
    put_wheel(origin, "needed", "too")
    put_npm(origin, "toy", "hello from npm")
    put_crate(origin, "toycrate", "hello from a crate")
    node = site_node(caravan, origin, f"{HERE}:0")
    url = door(node)

    must(pip_over_there(there, tmp_path / "pip", f"{url}/pypi/simple/", "packed"))
    uv = there.command(need("uv"), "pip", "install", "--no-cache")
    must(
        run_client(
            [*uv, "--python", sys.executable, "--default-index", f"{url}/pypi/simple",
             "--target", tmp_path / "uv/site", "packed"],
            tmp_path / "uv",
        )
    )  # fmt: skip
    assert "hello" in (tmp_path / "uv/site/packed.py").read_text()

    project = tmp_path / "project"
    (project / "src").mkdir(parents=True)
    (project / "package.json").write_text('{"name": "main", "version": "1.0.0"}')
    npm = there.command(need("npm"), "install", "--no-audit", "--no-fund")
    must(run_client([*npm, f"--registry={url}/npm/", "toy"], project))
    assert (project / "node_modules/toy/package.json").exists()

    (project / "Cargo.toml").write_text(
        '[package]\nname = "main"\nversion = "0.1.0"\nedition = "2021"\n'
        '[dependencies]\ntoycrate = "1"\n'
    )
    (project / "src/main.rs").write_text(
        'fn main() { println!("{}", toycrate::word()); }\n'
    )
    (project / ".cargo").mkdir()
    (project / ".cargo/config.toml").write_text(
        '[source.crates-io]\nreplace-with = "caravan"\n[source.caravan]\n'
        f'registry = "sparse+{url}/cargo/index/"\n'
    )
    cargo = there.command(need("cargo"), "run", "--quiet")
    done = run_client(cargo, project, {"CARGO_HOME": str(tmp_path / "cargo")})
    assert must(done) == "hello from a crate\n"


@pytest.mark.full
def test_another_machine_outside_the_networks_is_refused(
    caravan: Caravan, origin: Origin, there: Neighbour, tmp_path: Path
) -> None:
    put_wheel(origin, "packed", "hello")
    node = site_node(caravan, origin, f"{HERE}:0", 'networks = ["192.0.2.0/24"]')
    index = f"{door(node)}/pypi/simple/"
    done = pip_over_there(there, tmp_path / "pip", index, "packed")
    assert done.returncode != 0
    assert origin.asked == []


@pytest.mark.full
@pytest.mark.parametrize("form", ["password", "path"])
def test_a_site_with_a_token(
    caravan: Caravan, origin: Origin, there: Neighbour, tmp_path: Path, form: str
) -> None:
    """The token is a password, or stands in the path of every URL."""
    put_wheel(origin, "packed", "hello")
    (tmp_path / "token").write_text(TOKEN + "\n")
    node = site_node(
        caravan, origin, f"{HERE}:0", f'token_file = "{tmp_path / "token"}"'
    )
    place = str(node.ready["site"])
    index = {
        "password": f"http://ci:{TOKEN}@{place}/pypi/simple/",
        "path": f"http://{place}/token/{TOKEN}/pypi/simple/",
    }[form]
    without = pip_over_there(
        there, tmp_path / "no", f"http://ci:wrong@{place}/pypi/simple/", "packed"
    )
    assert without.returncode != 0
    must(pip_over_there(there, tmp_path / "pip", index, "packed"))


# What follows needs no other machine.


def ask(node: NodeProcess, path: str, **headers: str) -> tuple[int, bytes]:
    return get(door(node) + path, headers)


@pytest.fixture(scope="module")
def plain(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[NodeProcess, Origin]]:
    """Start a node with a site door on loopback and no token."""
    from tests.end_to_end.caravan import caravan_in

    folder = tmp_path_factory.mktemp("site")
    with caravan_in(folder) as caravan, Origin() as origin:
        put_wheel(origin, "packed", "hello")
        yield site_node(caravan, origin, "127.0.0.1:0", 'hosts = ["cache.lab"]'), origin


def test_the_door_says_that_it_is_well(plain: tuple[NodeProcess, Origin]) -> None:
    assert ask(plain[0], "/health") == (200, b'{"ok": true}')


@pytest.mark.parametrize(
    "path",
    ["/", "/api/status", "/api/leave", "/node.json", "/metrics", "/login/x",
     "/../api/status", "//api/status", "/pypi/../api/status", "/token/x/api/status"],
)  # fmt: skip
def test_nothing_of_the_owner_is_behind_it(
    plain: tuple[NodeProcess, Origin], path: str
) -> None:
    status, body = ask(plain[0], path)
    assert status in (403, 404)
    assert plain[0].ready["node_id"].encode() not in body


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_it_only_reads(plain: tuple[NodeProcess, Origin], method: str) -> None:
    request = urllib.request.Request(
        door(plain[0]) + "/pypi/simple/packed/", method=method, data=b"{}"
    )
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=10)
    refused.value.close()
    assert refused.value.code in (404, 405)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "cache.lab"}, 200),
        ({"Host": "evil.test"}, 403),
        ({"Host": "127.0.0.1.evil.test"}, 403),
        ({"Origin": "http://evil.test"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
    ],
)
def test_host_names_and_web_pages(
    plain: tuple[NodeProcess, Origin], headers: dict[str, str], status: int
) -> None:
    assert ask(plain[0], "/pypi/simple/packed/", **headers)[0] == status


def test_the_owners_token_opens_nothing_here(
    plain: tuple[NodeProcess, Origin],
) -> None:
    import json

    card = json.loads((plain[0].home / "node.json").read_text())
    headers = {"Authorization": f"Bearer {card['token']}"}
    assert ask(plain[0], "/api/status", **headers)[0] == 404


def test_an_index_leads_back_to_the_name_that_was_asked(
    plain: tuple[NodeProcess, Origin],
) -> None:
    _, body = ask(plain[0], "/cargo/index/config.json", Host="cache.lab:4749")
    assert b"http://cache.lab:4749/" in body
    _, body = ask(plain[0], "/pypi/simple/packed/")
    assert b"127.0.0.1" not in body, "its links are relative"


def test_many_silent_connections_leave_room_for_others(
    plain: tuple[NodeProcess, Origin],
) -> None:
    host, _, port = str(plain[0].ready["site"]).rpartition(":")
    silent = [socket.create_connection((host, int(port))) for _ in range(300)]
    try:
        assert ask(plain[0], "/pypi/simple/packed/")[0] == 200
    finally:
        for one in silent:
            one.close()


def test_what_an_upstream_gives_for_a_password_stays_here(
    caravan: Caravan, origin: Origin
) -> None:
    data = put_wheel(origin, "secret", "hello")
    private = origin.url.replace("http://", "http://user:word@")
    for config, status in [("private = false", 403), ("private = true", 200)]:
        node = caravan.node(f"node-{status}")
        node.home.mkdir(parents=True)
        (node.home / "config.toml").write_text(
            f'[upstreams]\npypi = {{url = "{private}/simple", share = false}}\n'
            f"[site]\n{config}\n"
        )
        node.start("--serve", "127.0.0.1:0")
        node.wait_ready()
        own = f"http://{node.ready['web']}"
        name = hashlib.sha256(data).hexdigest()
        assert get(f"{own}/pypi/simple/secret/")[0] == 200
        assert get(f"{own}/blob/sha256/{name}")[0] == 200
        assert ask(node, "/pypi/simple/secret/")[0] == status
        assert ask(node, f"/blob/sha256/{name}")[0] == status
        assert ask(node, f"/pypi/files/sha256/{name}/secret.whl")[0] == status


def test_a_site_door_with_tls(caravan: Caravan, origin: Origin, tmp_path: Path) -> None:
    put_wheel(origin, "packed", "hello")
    certificate, key = tmp_path / "door.pem", tmp_path / "door.key"
    write_certificate(certificate, key)
    node = site_node(
        caravan, origin, "127.0.0.1:0",
        f'certificate = "{certificate}"\nkey = "{key}"',
    )  # fmt: skip
    context = ssl.create_default_context(cafile=str(certificate))
    with urllib.request.urlopen(
        door(node, "https") + "/cargo/index/config.json", context=context, timeout=10
    ) as answer:
        assert b"https://127.0.0.1:" in answer.read()


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ("networks = ['10.0.0.0/33']", "networks"),
        ("colour = 'red'", "unknown setting 'colour'"),
        ("certificate = 'a.pem'", "certificate and key belong together"),
        ("token_file = 'short'", "expected a token of 16 to 256"),
    ],
)
def test_settings_that_cannot_work(
    caravan: Caravan, origin: Origin, config: str, sentence: str
) -> None:
    node = caravan.node("a")
    node.home.mkdir(parents=True)
    (node.home / "short").write_text("abc")
    (node.home / "config.toml").write_text(f"[site]\n{config}\n")
    answer = node.run("join", "--serve", "127.0.0.1:0", "--listen", "127.0.0.1:0")
    assert answer.exit_code in (1, 2)
    assert sentence in answer.document["error"]


def basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


def test_metrics_are_shown_on_wish(caravan: Caravan, origin: Origin) -> None:
    node = site_node(caravan, origin, "127.0.0.1:0", "metrics = true")
    status, body = ask(node, "/metrics")
    assert status == 200
    assert b"caravan_contacts 0.0" in body


def test_a_token_is_asked_for_at_every_route(
    caravan: Caravan, origin: Origin, tmp_path: Path
) -> None:
    put_wheel(origin, "packed", "hello")
    (tmp_path / "token").write_text(TOKEN)
    node = site_node(
        caravan, origin, "127.0.0.1:0", f'token_file = "{tmp_path / "token"}"'
    )
    assert ask(node, "/pypi/simple/packed/")[0] == 401
    assert ask(node, "/health")[0] == 401
    assert ask(node, f"/token/{TOKEN[:-1]}/pypi/simple/packed/")[0] == 401
    assert ask(node, f"/token/{TOKEN}/pypi/simple/packed/")[0] == 200
    assert ask(node, "/health", Authorization=f"Bearer {TOKEN}")[0] == 200
    assert ask(node, "/health", Authorization=basic(f"ci:{TOKEN}"))[0] == 200
    _, body = ask(node, f"/token/{TOKEN}/cargo/index/config.json")
    assert f"/token/{TOKEN}/".encode() in body, "cargo has no other way to send it"
