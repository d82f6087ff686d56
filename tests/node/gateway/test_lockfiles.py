"""Lockfiles: every form that is read, and what of it this machine can use."""

from __future__ import annotations

import base64
import hashlib
import json

import pytest

from node.errors import UsageError
from node.gateway.lockfiles import read_lockfile, usable
from node.gateway.npm.platform import fits_here

SHA = hashlib.sha256(b"one").hexdigest()
OTHER = hashlib.sha256(b"two").hexdigest()
SRI = "sha512-" + base64.b64encode(hashlib.sha512(b"x").digest()).decode()
PURE, FOREIGN, SDIST = (
    "toy-1.0-py3-none-any.whl",
    "toy-1.0-cp311-cp311-win_arm64.whl",
    "toy-1.0.tar.gz",
)

REQUIREMENTS = f"""
# a comment
toy[extra]==1.0 ; python_version >= "3" \\
    --hash=sha256:{SHA} \\
    --hash=sha256:{OTHER}
-r more.txt
"""
UV = f"""
[[package]]
name = "Toy"
version = "1.0"
sdist = {{ url = "https://f.test/{SDIST}", hash = "sha256:{OTHER}", size = 9 }}
wheels = [{{ url = "https://f.test/{PURE}", hash = "sha256:{SHA}", size = 7 }}]
"""
POETRY = f"""
[[package]]
name = "toy"
version = "1.0"
files = [{{file = "{PURE}", hash = "sha256:{SHA}"}}]
"""
PYLOCK = f"""
lock-version = "1.0"
[[packages]]
name = "toy"
version = "1.0"
[[packages.wheels]]
name = "{PURE}"
url = "https://f.test/{PURE}"
hashes = {{ sha256 = "{SHA}", md5 = "{hashlib.md5(b"one").hexdigest()}" }}
"""
CARGO = f"""
[[package]]
name = "toy"
version = "1.0.0"
checksum = "{SHA}"
[[package]]
name = "here"
version = "0.1.0"
"""
NPM = json.dumps(
    {
        "lockfileVersion": 3,
        "packages": {
            "": {"name": "main"},
            "node_modules/@a/toy": {"version": "1.0.0", "integrity": SRI},
        },
    }
)
NPM_OLD = json.dumps(
    {"dependencies": {"toy": {"version": "1.0.0", "integrity": SRI, "requires": {}}}}
)
OPAM = f"""
opam-version: "2.0"
url {{
  src: "https://f.test/toy-1.0.tar.gz"
  checksum: ["md5={hashlib.md5(b"one").hexdigest()}" "sha256={SHA}"]
}}
"""


@pytest.mark.parametrize(
    ("name", "content", "ecosystem", "file"),
    [
        ("requirements.txt", REQUIREMENTS, "pypi", ""),
        ("uv.lock", UV, "pypi", PURE),
        ("poetry.lock", POETRY, "pypi", PURE),
        ("pdm.lock", POETRY, "pypi", PURE),
        ("pylock.toml", PYLOCK, "pypi", PURE),
        ("pylock.dev.toml", PYLOCK, "pypi", PURE),
        ("Cargo.lock", CARGO, "cargo", "toy-1.0.0.crate"),
        ("package-lock.json", NPM, "npm", "toy-1.0.0.tgz"),
        ("npm-shrinkwrap.json", NPM_OLD, "npm", "toy-1.0.0.tgz"),
        ("toy.opam.locked", OPAM, "opam", "toy-1.0.tar.gz"),
    ],
)
def test_every_form_is_read(name, content, ecosystem, file):
    first = read_lockfile(name, content.encode()).files[0]
    assert (first.ecosystem, first.file) == (ecosystem, file)
    assert first.digest.algorithm == ("sha512" if ecosystem == "npm" else "sha256")


def test_a_requirement_has_all_its_digests():
    entries = read_lockfile("requirements.txt", REQUIREMENTS.encode()).files
    assert [one.digest.hex for one in entries] == [SHA, OTHER]
    assert {one.version for one in entries} == {"1.0"}


def test_of_each_release_the_file_that_fits_best_is_chosen():
    wheels = [{"url": f"https://f.test/{FOREIGN}", "hash": f"sha256:{OTHER}"}]
    text = UV + "".join(
        f'\n[[package]]\nname = "more"\nversion = "1.0"\nwheels = '
        f'[{{url = "{one["url"]}", hash = "{one["hash"]}"}}]\n'
        for one in wheels
    )
    entries = read_lockfile("uv.lock", text.encode()).files
    assert [one.file for one in usable(entries)] == [PURE]


def test_a_source_archive_counts_where_no_wheel_fits():
    text = UV.replace(PURE, FOREIGN)
    entries = read_lockfile("uv.lock", text.encode()).files
    assert [one.file for one in usable(entries)] == [SDIST]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("requirements.txt", b"toy==1.0"),
        ("uv.lock", b"[[package]"),
        ("Cargo.lock", b"\xff\xfe"),
        ("package-lock.json", b"[]"),
        ("package-lock.json", b'{"packages": 5}'),
        ("go.sum", b"x"),
        ("flake.lock", b"{}"),
    ],
)
def test_what_cannot_be_read_says_so(name, content):
    with pytest.raises(UsageError) as raised:
        read_lockfile(name, content)
    assert name in str(raised.value)


def test_npm_packages_of_other_platforms_are_told():
    assert fits_here({})
    assert not fits_here({"os": ["plan9"]})
    assert not fits_here({"cpu": ["!x64", "!arm64", "!ia32"], "os": ["plan9"]})
    assert fits_here({"os": ["!plan9"]})
