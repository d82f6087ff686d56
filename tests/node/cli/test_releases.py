"""Keys, package files and updates on the command line, by real processes."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import sys

from node.cli.tree import draw_tree
from node.results import HeldArtifact, HeldPackage, ListResult
from tests.node.cli.terminals import ROOT, Node, caravan, end, environment, running
from tests.node.publishers import package, root_key


async def with_passphrase(home, passphrase: str, *arguments: str):
    """Run `caravan` as a machine does that knows a passphrase."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "node.cli.main", *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**environment(home), "CARAVAN_PASSPHRASE": passphrase},
        cwd=home,
    )  # fmt: skip
    return await end(process)


async def test_a_release_key_is_delegated_exported_and_imported(tmp_path):
    """The root stays at home; what travels is a key with an end."""
    offline, online = tmp_path / "offline", tmp_path / "online"
    offline.mkdir()
    online.mkdir()
    root = (await caravan(offline, "key", "new", "root", "--json")).document
    made = (
        await caravan(
            offline,
            *("key", "delegate", "laptop", "--from", "root", "--days", "30", "--json"),
        )
    ).document
    assert (made["publisher"], made["epoch"]) == (root["publisher"], 1)
    assert made["stored"] is None
    exported = await caravan(offline, "key", "export", "laptop")
    file = tmp_path / "laptop.key"
    file.write_text(exported.out)
    imported = await caravan(online, "key", "import", "mine", str(file), "--json")
    assert imported.document["publisher"] == root["publisher"]
    shown = (await caravan(online, "key", "show", "mine", "--json")).document
    assert shown["keys"][0]["kind"] == "release"
    assert (
        "revoked"
        in (
            await caravan(
                offline, "key", "delegate", "second", "--from", "root", "--days", "1"
            )
        ).out
    )


async def test_a_delegation_is_made_known_by_the_running_node(tmp_path):
    """It is asked first which epochs the network knows."""
    node = Node({"stored": 7, "publisher": "p", "epoch": 1})
    async with running(tmp_path, node):
        await caravan(tmp_path, "key", "new", "root")
        made = await caravan(
            tmp_path,
            *("key", "delegate", "laptop", "--from", "root", "--days", "30", "--json"),
        )
    assert made.document["stored"] == 7
    assert made.document["epoch"] == 2  # the network knows of epoch 1
    assert [type(one).__name__ for one in node.asked] == [
        "EpochCommand",
        "DelegateCommand",
    ]


async def test_a_passphrase_is_needed_from_then_on(tmp_path):
    """A machine gives it in a variable; without one it is told so."""
    new = ("key", "new", "root", "--passphrase", "--json")
    made = await with_passphrase(tmp_path, "open sesame", *new)
    assert made.document["encrypted"]
    delegate = ("--from", "root", "--days", "1")
    right = await with_passphrase(
        tmp_path, "open sesame", "key", "delegate", "a", *delegate
    )
    assert right.code == 0
    wrong = await with_passphrase(tmp_path, "wrong", "key", "delegate", "b", *delegate)
    assert wrong.code == 1
    assert "not the passphrase" in wrong.err
    asked = await caravan(tmp_path, "key", "delegate", "b", *delegate)
    assert "CARAVAN_PASSPHRASE" in asked.err


async def test_publish_sends_the_passphrase_of_its_key(tmp_path):
    await with_passphrase(tmp_path, "open sesame", "key", "new", "work", "--passphrase")
    file = tmp_path / "f.bin"
    file.write_bytes(b"x")
    node = Node({"package": "x", "name": "n"})
    publish = ("publish", str(file), "--name", "n", "--version", "1", "--json")
    about = ("--license", "MIT", "--home-page", "https://example.org")
    async with running(tmp_path, node):
        secret = (tmp_path, "open sesame")
        await with_passphrase(*secret, *publish, "--key", "work", *about)
        await with_passphrase(*secret, *publish)
    first, second = node.asked
    assert (first.passphrase, second.passphrase) == ("open sesame", "")
    assert (first.license, first.home_page) == ("MIT", "https://example.org")


async def test_a_passphrase_that_is_typed_is_not_shown(tmp_path):
    """On a terminal it is asked for twice, and never echoed."""
    parent, child = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "node.cli.main", "--home", str(tmp_path)),
        *("key", "new", "typed", "--passphrase"),
        stdin=child,
        stdout=child,
        stderr=child,
        cwd=ROOT,
        start_new_session=True,
        preexec_fn=lambda: os.close(os.open(os.ttyname(0), os.O_RDWR)),
    )
    os.close(child)
    loop = asyncio.get_running_loop()
    shown = b""
    typed = 0
    async with asyncio.timeout(40):
        while True:
            try:
                shown += await loop.run_in_executor(None, os.read, parent, 4096)
            except OSError:
                break
            if shown.count(b": ") > typed and typed < 2:
                typed += 1
                os.write(parent, b"hush now\n")
        assert await process.wait() == 0
    os.close(parent)
    assert b"hush" not in shown
    key = (tmp_path / "publishers" / "typed.key").read_bytes()
    assert b"ENCRYPTED" in key


async def test_updates_are_watched_line_by_line(tmp_path):
    """Each update and each doubt is one JSON document, printed once."""
    one = {"name": "a", "held": "1", "newest": "2", "urgency": "routine", "note": ""}
    news = [{**one, "digest": "d1"}, {**one, "digest": "d2"}]
    doubt = {"name": "a", "publisher": "p", "why": "old", "id": "p/a: old"}

    class Telling(Node):
        async def run(self, command, progress):
            self.asked.append(command)
            round_ = len(self.asked)
            if round_ == 3:
                await asyncio.Event().wait()
            return {"updates": news[:round_], "doubts": [doubt] if round_ == 2 else []}

    async with running(tmp_path, Telling()):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "node.cli.main", "--home", str(tmp_path)),
            *("updates", "--watch", "--json"),
            stdout=asyncio.subprocess.PIPE,
            cwd=ROOT,
        )
        assert process.stdout is not None
        async with asyncio.timeout(40):
            lines = [json.loads(await process.stdout.readline()) for _ in range(3)]
        process.terminate()
        await process.wait()
    assert [line.get("digest", line.get("id")) for line in lines] == [
        "d1",
        "d2",
        "p/a: old",
    ]


def test_a_tree_shows_what_needs_what(capsys):
    """Circles and shared dependencies are drawn once and named again."""

    def package(number, needs):
        return HeldPackage(
            digest=f"p{number}",
            publisher="p",
            name=f"n{number}",
            version="1",
            own=False,
            pinned=False,
            artifacts=[f"a{number}"],
            dependencies=[f"p{need}" for need in needs],
        )

    def artifact(digest, file, size):
        return HeldArtifact(
            digest=digest,
            size=size,
            file=file,
            kind="artifact",
            packages=[],
            pinned=False,
            added_at=0,
        )

    artifacts = [artifact(f"a{n}", f"f{n}", 5) for n in (1, 2, 3, 4)]
    draw_tree(
        ListResult(
            artifacts=[*artifacts, artifact("lone", "x", 1)],
            packages=[
                package(1, [2, 3]),
                package(2, [4]),
                package(3, [4]),
                package(4, [2]),
            ],
            count=5,
            bytes_held=21,
        )
    )
    out = capsys.readouterr().out
    assert out.splitlines()[0] == "n1 1"
    assert "│   └── n4 1" in out
    assert out.count("see above") == 2
    assert out.splitlines()[-1] == "x (1 B)"


async def test_a_package_file_is_verified_and_shown_without_a_node(tmp_path):
    """Exit code 5 for what is no package file, 6 for what is not its publisher's."""
    made = package(note="hello", license="MIT")
    good, forged = tmp_path / "good.caravan", tmp_path / "forged.caravan"
    good.write_bytes(made.raw)
    document = (await caravan(tmp_path, "show", str(good), "--json")).document
    assert (document["name"], document["version"]) == ("demo", "1.0")
    assert document["publisher"] == root_key().text
    assert document["signed_by"] == "root"
    assert "MIT" in (await caravan(tmp_path, "show", str(good))).out
    envelope = json.loads(made.raw)
    other = json.loads(package(root_key(7)).raw)
    forged.write_text(json.dumps({**envelope, "signatures": other["signatures"]}))
    assert (await caravan(tmp_path, "show", str(forged))).code == 6
    forged.write_text("{}")
    assert (await caravan(tmp_path, "show", str(forged))).code == 5
    assert (await caravan(tmp_path, "show", "missing.caravan")).code == 1
