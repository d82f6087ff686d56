"""Lockfiles of pnpm, yarn classic and bun, and older ones of poetry and pdm."""

from __future__ import annotations

import base64
import hashlib
import json

import pytest

from node.errors import UsageError
from node.gateway.locked import LeftOut
from node.gateway.lockfiles import read_lockfile

SHA512, SHA1 = hashlib.sha512(b"x"), hashlib.sha1(b"x").hexdigest()
SRI = "sha512-" + base64.b64encode(SHA512.digest()).decode()
SHA = hashlib.sha256(b"x").hexdigest()
BOTH = [
    ("toy", "1.0.0", "toy-1.0.0.tgz"),
    ("@s/box", "2.0.0-rc.1", "box-2.0.0-rc.1.tgz"),
]

PNPM = """lockfileVersion: '%s'

settings:
  autoInstallPeers: true

importers:

  .:
    dependencies:
      toy:
        specifier: ^1.0.0
        version: 1.0.0

packages:

  %s:
    resolution: {integrity: %s}
    engines: {node: '>=12'}
    deprecated: 'integrity: sha512-wrong'

  %s:
    resolution:
      integrity: %s
      tarball: https://registry.test/box.tgz
    os: [win32]
    cpu: ["!x64"]

  git@https://codeload.test/tar.gz/abc:
    resolution: {tarball: https://codeload.test/tar.gz/abc}
    version: 1.0.0

  part@file:packages/part:
    resolution: {directory: packages/part, type: directory}

snapshots:

  toy@1.0.0: {}
"""
YARN = f"""# yarn lockfile v1


"@s/box@^2.0.0-rc.1":
  version "2.0.0-rc.1"
  resolved "https://registry.test/@s/box/-/box-2.0.0-rc.1.tgz#{SHA1}"
  integrity {SRI}
  dependencies:
    toy "^1.0.0"

"alias@npm:toy@^1.0.0", toy@^1.0.0, toy@~1.0.0:
  version "1.0.0"
  resolved "https://registry.test/toy/-/toy-1.0.0.tgz#{SHA1}"

"git@https://github.test/x/git.git":
  version "0.1.0"
  resolved "https://github.test/x/git.git#{SHA1[:39]}"
"""
BUN = """{
  "lockfileVersion": 1,
  "workspaces": { "": { "name": "x,}", "dependencies": { "toy": "^1.0.0", }, }, },
  "packages": {
    "alias": ["toy@1.0.0", "", {}, "ONE"],
    "@s/box": ["@s/box@2.0.0-rc.1", "", { "os": "none", "cpu": "arm64" }, "TWO"],
    "part": ["part@workspace:packages/part"],
    "git": ["git@github:x/git#abc", {}, "x-git-abc"],
  }
}
"""


def read(name: str, content: str) -> tuple[list[tuple[str, str, str]], list[LeftOut]]:
    found = read_lockfile(name, content.encode())
    return [(one.name, one.version, one.file) for one in found.files], found.left_out


@pytest.mark.parametrize(
    ("version", "toy", "box"),
    [
        ("9.0", "toy@1.0.0", "'@s/box@2.0.0-rc.1'"),
        ("6.0", "/toy@1.0.0", "/@s/box@2.0.0-rc.1(react@18.0.0)"),
        ("5.4", "/toy/1.0.0", "/@s/box/2.0.0-rc.1_react@18.0.0"),
    ],
)
def test_pnpm(version, toy, box):
    other = "sha512-" + base64.b64encode(hashlib.sha512(b"y").digest()).decode()
    content = PNPM % (version, toy, SRI, box, other)
    files, left_out = read("pnpm-lock.yaml", content)
    assert files == BOTH
    assert [one.name for one in left_out] == ["git"]
    found = read_lockfile("pnpm-lock.yaml", content.encode()).files
    assert [one.here for one in found] == [True, False]
    assert found[0].digest.raw == SHA512.digest()


def test_yarn_classic():
    files, left_out = read("yarn.lock", YARN)
    assert sorted(files) == sorted(BOTH)
    assert [(one.name, one.version) for one in left_out] == [("git", "0.1.0")]


def test_a_lockfile_of_a_later_yarn_says_why_it_cannot_be_used():
    content = b'__metadata:\n  version: 8\n\n"toy@npm:^1":\n  checksum: 10c0/ab\n'
    with pytest.raises(UsageError, match="own archives"):
        read_lockfile("yarn.lock", content)


def test_bun():
    other = "sha512-" + base64.b64encode(hashlib.sha512(b"y").digest()).decode()
    content = BUN.replace("ONE", SRI).replace("TWO", other)
    files, left_out = read("bun.lock", content)
    assert files == BOTH
    assert [one.name for one in left_out] == ["git"]
    found = read_lockfile("bun.lock", content.encode()).files
    assert [one.here for one in found] == [True, False]


@pytest.mark.parametrize(
    ("name", "metadata"),
    [
        ("poetry.lock", f'[metadata.hashes]\n"To.y" = ["{SHA}"]'),
        (
            "poetry.lock",
            f'[metadata.files]\n"to.y" = [{{file="a", hash="sha256:{SHA}"}}]',
        ),
        (
            "pdm.lock",
            f'[metadata.files]\n"to-y 1.0" = [{{url="a", hash="sha256:{SHA}"}}]',
        ),
    ],
)
def test_files_that_older_lockfiles_keep_apart(name, metadata):
    content = f'[[package]]\nname = "to_y"\nversion = "1.0"\n\n{metadata}\n'
    (entry,) = read_lockfile(name, content.encode()).files
    assert (entry.name, entry.version, entry.digest.hex) == ("to-y", "1.0", SHA)


def test_a_folder_of_the_project_is_not_left_out():
    content = f"""
[[package]]
name = "toy"
version = "1.0"
files = [{{file = "a", hash = "sha256:{SHA}"}}]
[[package]]
name = "mine"
version = "1.0"
files = []
[package.source]
type = "directory"
url = "mine"
"""
    assert read_lockfile("poetry.lock", content.encode()).left_out == []


def test_a_lockfile_of_npm_is_read_as_before():
    document = {
        "packages": {"node_modules/toy": {"version": "1.0.0", "integrity": SRI}}
    }
    files, _ = read("package-lock.json", json.dumps(document))
    assert files == [("toy", "1.0.0", "toy-1.0.0.tgz")]
