"""A machine that has Debian and Python, and nothing else; and an image of it.

`caravan run` installs there with two commands; the build of docs/site.md uses a site.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.end_to_end.caravan import Caravan
from tests.end_to_end.clients import CLIENTS, must, need, run_client
from tests.end_to_end.foreign import Place, put_packages, upstreams
from tests.end_to_end.origin import Origin

pytestmark = [pytest.mark.full, pytest.mark.timeout(300)]

SOURCE = Path(__file__).parents[2]
PAGE = (SOURCE / "docs/site.md").read_text()
IMAGE = CLIENTS.parent / "debian"
WHEELS = CLIENTS.parent / "wheels"
FIRST_WHEEL_SECONDS_MAX = 10.0
# A mount namespace, so that nothing of it is left; no network but this machine's.
ENTER = 'mount -t proc proc "$0/proc" && exec chroot "$0" "$@"'


@dataclass(frozen=True, slots=True)
class Machine:
    """The root of a machine of its own, in a folder."""

    root: Path

    def run(
        self, *command: str, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command there as root, with an environment of its own."""
        return subprocess.run(
            ["unshare", "--mount", "sh", "-c", ENTER, self.root, *command],
            env={
                "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
                "HOME": "/root",
                **environment,
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )


def missing(what: str) -> None:
    """Skip, with the reason; on CI that is a failure."""
    reason = f"{what}; ./scripts/clients --image makes it, as root on Debian"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """Return a machine as debootstrap makes it, with wheels at /wheels."""
    if not IMAGE.is_dir() or not WHEELS.is_dir():
        missing("there is no image of a clean machine")
    if os.geteuid() != 0:
        missing("only root can enter the image of a clean machine")
    root = tmp_path / "root"
    subprocess.run(["cp", "-a", "--reflink=auto", IMAGE, root], check=True)
    shutil.copytree(WHEELS, root / "wheels")
    shutil.copy(own_wheel(tmp_path), root / "wheels")
    return Machine(root)


def own_wheel(folder: Path) -> Path:
    """Build the wheel of this checkout."""
    source = folder / "source"
    source.mkdir()
    for name in ("caravan", "dht", "transfer", "node", "docs"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(SOURCE / name, source / name, ignore=ignored)
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(SOURCE / name, source)
    build: Sequence[str | Path] = (
        need("uv"), "build", "--quiet", "--wheel", "--no-index", "--python",
        sys.executable, "--find-links", WHEELS, "--out-dir", folder / "own", source,
    )  # fmt: skip
    done = subprocess.run(build, capture_output=True, text=True, check=False)
    must(done)
    (wheel,) = (folder / "own").glob("*.whl")
    return wheel


def page_block(kind: str) -> str:
    """Return the one block of this kind of docs/site.md."""
    pattern = rf"^```{kind}\n(.*?)^```$"
    (text,) = re.findall(pattern, PAGE, re.MULTILINE | re.DOTALL)
    return str(text)


def test_the_build_of_the_page_uses_the_site(
    caravan: Caravan, origin: Origin, tmp_path: Path
) -> None:
    """With buildah, which podman builds with, and this Debian in place of python:3."""
    if not IMAGE.is_dir():
        missing("there is no image of a clean machine")
    buildah = need("buildah")
    put_packages(origin)
    node = caravan.node("a", **upstreams(origin))
    node.start("--serve", "127.0.0.1:0")
    node.wait_ready()
    (command,) = re.findall(r"^podman (build .*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    here = command.replace("cache.lab:4749", str(node.ready["site"]))
    here = here.replace("cache.lab", "127.0.0.1")
    images = tmp_path / "images"
    options = f"--storage-driver vfs --root {images}/a --runroot {images}/b"
    build = f"{buildah} {options} build --isolation chroot"
    images.mkdir()
    context = tmp_path / "context"
    context.mkdir()
    (context / "Containerfile").write_text(page_block("dockerfile"))
    (context / "requirements.txt").write_text("caravantoy\n")
    try:
        base = images / "base"
        base.mkdir()
        (base / "Containerfile").write_text("FROM scratch\nADD root.tar /\n")
        tar = ["tar", "--exclude=EXTERNALLY-MANAGED", "-cf", base / "root.tar", "."]
        must(run_client(tar, IMAGE))
        must(run_client(["sh", "-c", f"{build} --tag python:3 {base}"], tmp_path))
        with Place(node, origin).passes(2):
            script = here.replace("build", build, 1)
            must(run_client(["sh", "-c", script], context))
    finally:
        shutil.rmtree(images)


def test_two_commands_and_the_first_wheel_is_there(
    machine: Machine, origin: Origin
) -> None:
    """The first installs Caravan; the second installs a package through a node."""
    put_packages(origin)
    pip = ("python3", "-m", "pip", "install", "--quiet", "--break-system-packages")
    must(machine.run(*pip, "--no-index", "--find-links", "/wheels", "caravan-node"))
    asked: list[float] = []
    origin.on_request = lambda path: (
        asked.append(time.monotonic()) if path.endswith(".whl") else None
    )
    started = time.monotonic()
    done = machine.run("caravan", "run", "--", *pip, "caravantoy", **upstreams(origin))
    must(done)
    seconds = asked[0] - started
    sys.stdout.write(f"the first wheel is asked for after {seconds:.1f} s\n")
    assert seconds <= FIRST_WHEEL_SECONDS_MAX
    assert origin.askers() == {"caravan"}
    assert "2 files" in done.stderr
    said = machine.run("python3", "-c", "import caravantoy; print(caravantoy.WORD)")
    assert must(said) == "hello\n"
    assert not list((machine.root / "tmp").iterdir()), "its node left nothing"
