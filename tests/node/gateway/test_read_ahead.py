"""Reading ahead: what is asked of an upstream before a client asks for it."""

from __future__ import annotations

import asyncio
import json

import pytest
from packaging.specifiers import SpecifierSet

from node.background import Background
from node.gateway import limits
from node.gateway.named_files import NamedFiles, line
from node.gateway.npm import guesses as npm_guesses
from node.gateway.npm.index import FULL_TYPE, SHORT_TYPE
from node.gateway.python import simple
from node.gateway.python.guesses import likely_wheel, needs_in
from node.gateway.read_ahead import ReadAhead
from tests.node.gateway.door import opened_in
from tests.node.gateway.rig import INDEX, Rig, rig_in
from transfer import Digest

NPM = "https://registry.npmjs.org"
FILES = "https://files.test/"


def publish(rig: Rig, name: str, *needs: str) -> str:
    """Let the upstream have a project of one wheel; return its metadata's URL."""
    file = f"{name.replace('-', '_')}-1.0-py3-none-any.whl"
    lines = "".join(f"Requires-Dist: {need}\n" for need in needs)
    about = f"Metadata-Version: 2.1\nName: {name}\n{lines}\nRequires-Dist: no\n"
    entry = {
        "filename": file,
        "url": FILES + file,
        "hashes": {"sha256": Digest.of(file.encode()).hex},
        "core-metadata": {"sha256": Digest.of(about.encode()).hex},
    }
    page = {"meta": {"api-version": "1.0"}, "name": name, "files": [entry]}
    rig.origin.pages[f"{INDEX}/{name}/"] = json.dumps(page).encode()
    rig.origin.files[f"{FILES}{file}.metadata"] = about.encode()
    return f"{FILES}{file}.metadata"


async def asked(rig: Rig, count: int) -> list[str]:
    """Return what the origin was asked for, once that is so much."""
    async with asyncio.timeout(10):
        while len(rig.origin.asked) < count:
            rig.origin.was_asked.clear()
            await rig.origin.was_asked.wait()
    await asyncio.sleep(0.05)
    return rig.origin.asked


async def test_the_pages_of_all_dependencies_are_asked_for_at_once(tmp_path):
    async with rig_in(tmp_path) as rig:
        wanted = [
            f"{INDEX}/app/",
            publish(rig, "app", "lib>=1", "extra; extra == 'test'", "Other.Lib"),
            f"{INDEX}/lib/",
            f"{INDEX}/other-lib/",
            publish(rig, "lib", "deep"),
            publish(rig, "other-lib"),
            f"{INDEX}/deep/",
            publish(rig, "deep"),
        ]
        await rig.gateway.indexes["pypi"].project("app")
        assert sorted(await asked(rig, len(wanted))) == sorted(wanted)


async def test_a_name_that_a_publisher_may_own_is_not_asked_for(tmp_path):
    """Its page is asked for where a client wants it, under the rules for such names."""
    async with rig_in(tmp_path) as rig:
        context = rig.gateway.indexes["pypi"]._context
        context.winners["Lib_One"] = "network"
        metadata = publish(rig, "app", "lib-one", "lib-two")
        publish(rig, "lib-one")
        await rig.gateway.indexes["pypi"].project("app")
        assert await asked(rig, 3) == [f"{INDEX}/app/", metadata, f"{INDEX}/lib-two/"]


async def test_nothing_is_read_ahead_of_a_page_that_is_known(tmp_path):
    async with rig_in(tmp_path) as rig:
        publish(rig, "app")
        for _ in range(3):
            await rig.gateway.indexes["pypi"].project("app")
        assert len(await asked(rig, 2)) == 2


async def test_no_wheel_is_fetched_for_the_sake_of_its_metadata(tmp_path):
    """Not where its metadata apart is missing, either."""
    async with rig_in(tmp_path) as rig:
        metadata = publish(rig, "app")
        del rig.origin.files[metadata]
        rig.origin.sends_parts = True
        rig.origin.files[metadata.removesuffix(".metadata")] = b"a wheel"
        await rig.gateway.indexes["pypi"].project("app")
        assert await asked(rig, 2) == [f"{INDEX}/app/", metadata]
        assert rig.origin.parts == []


async def test_guesses_that_no_client_follows_are_bounded(monkeypatch):
    monkeypatch.setattr(limits, "READ_AHEAD_UNUSED_MAX", 3)
    background = Background()
    ahead = ReadAhead(background)
    begun: list[int] = []

    async def read(number: int) -> None:
        begun.append(number)

    for number in range(10):
        ahead.begin(("pypi", str(number)), lambda number=number: read(number))
    await asyncio.sleep(0.01)
    assert begun == [0, 1, 2]
    ahead.asked(("pypi", "1"))
    await asyncio.sleep(0.01)
    assert begun == [0, 1, 2, 3]
    ahead.asked(("pypi", "4"))  # the client was quicker
    ahead.asked(("pypi", "0"))
    await asyncio.sleep(0.01)
    assert begun == [0, 1, 2, 3, 5]
    monkeypatch.setattr(limits, "READ_AHEAD_SECONDS", 0.0)
    ahead.begin(("pypi", "11"), lambda: read(11))  # old guesses bar no others
    await asyncio.sleep(0.01)
    assert begun == [0, 1, 2, 3, 5, 6, 7, 8, 9, 11]
    await background.close()


async def test_few_pages_are_read_ahead_at_once(monkeypatch):
    """However many a package needs: a name server or a proxy may drop the rest."""
    monkeypatch.setattr(limits, "READ_AHEAD_AT_ONCE", 2)
    background = Background()
    ahead = ReadAhead(background)
    goes_on, under_way, most, done = asyncio.Event(), 0, 0, 0

    async def read() -> None:
        nonlocal under_way, most, done
        under_way += 1
        most = max(most, under_way)
        await goes_on.wait()
        under_way, done = under_way - 1, done + 1

    for number in range(9):
        ahead.begin(("npm", str(number)), read)
    await asyncio.sleep(0.01)
    assert under_way == 2
    goes_on.set()
    async with asyncio.timeout(5):
        while done < 9:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert most == 2
    await background.close()


async def test_an_error_of_what_is_read_ahead_is_nobodys(tmp_path, caplog):
    async with rig_in(tmp_path) as rig:
        publish(rig, "app", "gone", "broken")
        rig.origin.pages[f"{INDEX}/broken/"] = b"{"
        await rig.gateway.indexes["pypi"].project("app")
        await asked(rig, 4)
        assert "reading ahead" not in caplog.text


# --- guesses --------------------------------------------------------------------------


def page_of(*files: str) -> NamedFiles:
    lines = []
    for file in files:
        digest, url = str(Digest.of(file.encode())), FILES + file
        lines.append(line(file, size=1, digests=digest, origin=f"toy\t{url}"))
        name, apart = simple.metadata_name(digest), f"toy\t{url}.metadata"
        lines.append(line(name, size=None, digests=digest, origin=apart))
    return NamedFiles("pypi", "".join(["\n", *lines]).encode())


@pytest.mark.parametrize(
    ("specifier", "file"),
    [
        ("", "toy-2.0-py3-none-any.whl"),
        ("<2", "toy-1.5-py3-none-any.whl"),
        ("==3.0a1", "toy-3.0a1-py3-none-any.whl"),
        (">9", None),
    ],
)
def test_the_newest_release_that_fits_is_guessed(specifier, file):
    files = page_of(
        "toy-1.0-py3-none-any.whl",
        "toy-1.5-py3-none-any.whl",
        "toy-2.0-cp27-cp27m-win32.whl",
        "toy-2.0-py3-none-any.whl",
        "toy-2.0.tar.gz",
        "toy-3.0a1-py3-none-any.whl",
        "not a file",
    )
    found = likely_wheel(files, SpecifierSet(specifier))
    assert (found and found.file) == file
    if found is not None:
        assert found.digest == Digest.of(found.file.encode())


def test_a_wheel_that_does_not_fit_this_machine_is_no_guess():
    assert likely_wheel(page_of("toy-1.0-cp27-cp27m-win32.whl"), SpecifierSet()) is None
    assert likely_wheel(NamedFiles("pypi"), SpecifierSet()) is None


def test_needs_are_read_by_their_markers():
    metadata = (
        b"Metadata-Version: 2.1\n"
        b"Requires-Dist: Some.Thing[fast,safe] (>=1,<2)\n"
        b"requires-dist: old; python_version < '3'\n"
        b"Requires-Dist: more; extra == 'fast'\n"
        b"Requires-Dist: there @ https://elsewhere.test/there.whl\n"
        b"Requires-Dist: " + b"(" * 300 + b"\n"
        b"Requires-Dist: no name; and no marker\n"
        b"\nRequires-Dist: of-the-text\n"
    )  # fmt: skip
    found = needs_in(metadata, ())
    assert [(one.name, str(one.specifier)) for one in found] == [
        ("some-thing", "<2,>=1")
    ]
    assert found[0].extras == {"fast", "safe"}
    assert [one.name for one in needs_in(metadata, ["fast"])] == ["some-thing", "more"]


@pytest.mark.parametrize(
    ("wanted", "version"),
    [
        ("", "5.0.1"),
        ("latest", "5.0.1"),
        ("*", "5.0.1"),
        (">=4 <5", "5.0.1"),
        ("^4.0.0", "4.21.0"),
        ("~4.9.1", "4.9.2"),
        ("4.9.x", "4.9.2"),
        ("4", "4.21.0"),
        ("4.9.1", "4.9.1"),
        ("^0.1.0", "0.1.9"),
        ("^7.0.0", "5.0.1"),
    ],
)
def test_a_version_of_npm_is_guessed_by_its_range(wanted, version):
    versions = ["0.1.9", "0.2.0", "4.9.1", "4.9.2", "4.21.0", "4.22.0-rc.1", "5.0.1"]
    assert npm_guesses.likely_version(versions, "5.0.1", wanted) == version


@pytest.mark.parametrize(
    ("document", "needs"),
    [
        (
            {
                "dist-tags": {"latest": "1.0.0"},
                "versions": {
                    "1.0.0": {
                        "dependencies": {"a": "^1.0.0", "b": "npm:c@1", "d": "./d"},
                        "optionalDependencies": {"e": "*"},
                        "peerDependencies": {"a": "^2.0.0"},
                    }
                },
            },
            {"a": "^1.0.0", "e": "*"},
        ),
        ({"dist-tags": {"latest": "2.0.0"}, "versions": {}}, {}),
        ({"dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": []}}, {}),
        ({"dist-tags": [], "versions": {"1.0.0": {}}}, {}),
        ([], {}),
    ],
)
def test_what_a_package_of_npm_needs(document, needs):
    assert npm_guesses.needs_in(json.dumps(document).encode(), "") == needs


# --- npm ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [SHORT_TYPE, FULL_TYPE])
async def test_the_documents_of_npms_needs_are_asked_for_in_the_same_form(
    tmp_path, kind
):
    async with opened_in(tmp_path) as door:
        origin = door.rig.origin
        for name, needs in (
            ("app", ["@a/lib", "other"]),
            ("@a/lib", []),
            ("other", []),
        ):
            about = {"dependencies": dict.fromkeys(needs, "^1.0.0")}
            tags = {"latest": "1.0.0"}
            document = {"name": name, "versions": {"1.0.0": about}, "dist-tags": tags}
            path = name.replace("/", "%2F")
            origin.pages[f"{NPM}/{path}"] = json.dumps(document).encode()
        await door.ask("/npm/app", Accept=kind, npm_command="view")
        assert await asked(door.rig, 1) == [f"{NPM}/app"]
        kept = await door.rig.gateway.pages.paths("npm", "")
        assert kept == [f"app {'short' if kind == SHORT_TYPE else 'full'}"]
    (tmp_path / "another").mkdir()
    async with opened_in(tmp_path / "another") as door:
        door.rig.origin.pages = origin.pages
        await door.ask("/npm/app", Accept=kind, npm_command="install")
        assert sorted(await asked(door.rig, 3)) == sorted(origin.pages)
        # One for each, in the form that the client will ask for.
        await door.ask("/npm/@a%2Flib", Accept=kind)
        await door.ask("/npm/other", Accept=kind)
        assert len(door.rig.origin.asked) == 3
