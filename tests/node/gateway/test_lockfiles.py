"""Lockfiles: every form that is read, and what of it this machine can use."""

from __future__ import annotations

import base64
import hashlib
import json
import os

import pytest

from node.errors import UsageError
from node.gateway.lockfiles import content_of, read_lockfile, usable
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
PIPFILE = json.dumps(
    {
        "_meta": {"hash": {"sha256": OTHER}},
        "default": {"toy": {"hashes": [f"sha256:{SHA}"], "version": "==1.0"}},
        "develop": {},
    }
)
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
        ("Pipfile.lock", PIPFILE, "pypi", ""),
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


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_names_the_encoding(encoding):
    """PowerShell writes UTF-16."""
    content = f"toy==1.0 --hash=sha256:{SHA}\n".encode(encoding)
    assert read_lockfile("requirements.txt", content).files[0].digest.hex == SHA


@pytest.mark.parametrize(
    ("line", "name", "version", "file"),
    [
        (f"toy==1.0+cu118 --hash=sha256:{SHA}", "toy", "1.0+cu118", ""),
        (
            f"Toy_Box === 1.0;python_version>'3' --hash=sha256:{SHA}",
            "toy-box",
            "1.0",
            "",
        ),
        (
            f"toy @ https://f.test/toy-1.0%2Bcu118.tar.gz#sha256={SHA}",
            "toy",
            "1.0+cu118",
            "toy-1.0+cu118.tar.gz",
        ),
        (f"https://f.test/{PURE} --hash sha256:{SHA}", "toy", "1.0", PURE),
        (f"toy[a,b] @ https://f.test/{PURE} --hash=sha256:{SHA}", "toy", "1.0", PURE),
    ],
)
def test_forms_of_a_requirement(line, name, version, file):
    (found,) = read_lockfile("requirements.txt", line.encode()).files
    assert (found.name, found.version, found.file) == (name, version, file)


@pytest.mark.parametrize("name", ["latin-1", "iso-8859-15", "cp1252"])
def test_a_comment_names_the_encoding_as_pip_reads_it(name):
    text = f"# -*- coding: {name} -*-\n# caf\xe9\ntoy==1.0 --hash=sha256:{SHA}\n"
    (entry,) = read_lockfile("requirements.txt", text.encode(name)).files
    assert (entry.name, entry.digest.hex) == ("toy", SHA)


@pytest.mark.parametrize("name", ["punycode", "zip", "unicode_escape", "no-such"])
def test_an_encoding_that_is_more_than_letters_is_refused(name):
    text = f"# coding={name}\ntoy==1.0 --hash=sha256:{SHA}\n"
    with pytest.raises(UsageError, match="save it as UTF-8"):
        read_lockfile("requirements.txt", text.encode())


def test_what_is_no_regular_file_is_refused_at_once(tmp_path):
    pipe, link = tmp_path / "requirements.txt", tmp_path / "uv.lock"
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    for path in (pipe, link, tmp_path):
        with pytest.raises((UsageError, OSError)):
            content_of(path)
    with pytest.raises(FileNotFoundError):
        content_of(tmp_path / "gone")


def test_what_stands_in_a_comment_locks_nothing():
    text = f"toy==1.0 --hash=sha256:{SHA} # not --hash=sha256:{OTHER}\n# a==1 {SHA}\n"
    locked = read_lockfile("requirements.txt", text.encode())
    assert [one.digest.hex for one in locked.files] == [SHA]
    assert locked.left_out == []


@pytest.mark.parametrize(
    ("name", "content", "left_out"),
    [
        (
            "requirements.txt",
            f"a==1 --hash=sha256:{SHA}\nb==2\n-r c.txt\n",
            ["b", "-r c.txt"],
        ),
        (
            "uv.lock",
            UV + '[[package]]\nname = "b"\nversion = "2"\nsource = { git = "x" }\n'
            '[[package]]\nname = "me"\nversion = "0"\nsource = { editable = "." }\n',
            ["b"],
        ),
        ("Cargo.lock", CARGO + 'source = "git+https://x"\n', ["here"]),
        (
            "package-lock.json",
            json.dumps(
                {
                    "packages": {
                        "": {"name": "main"},
                        "node_modules/a": {"version": "1", "integrity": SRI},
                        "node_modules/b": {"version": "2"},
                        "node_modules/c": {"link": True, "resolved": "c"},
                        "c": {"version": "3"},
                    }
                }
            ),
            ["b"],
        ),
    ],
)
def test_what_is_locked_without_a_digest_is_left_out_and_said(name, content, left_out):
    """Not the project itself, nor parts of its workspace."""
    found = read_lockfile(name, content.encode())
    assert [one.name for one in found.left_out] == left_out


def test_a_cargo_lock_of_version_1():
    source = "registry+https://index.test/crates"
    text = (
        f'[[package]]\nname = "toy"\nversion = "1.0.0"\nsource = "{source}"\n'
        f'[metadata]\n"checksum toy 1.0.0 ({source})" = "{SHA}"\n'
    )
    (found,) = read_lockfile("Cargo.lock", text.encode()).files
    assert (found.name, found.version, found.digest.hex) == ("toy", "1.0.0", SHA)


@pytest.mark.parametrize(
    "document",
    [
        {
            "dependencies": {
                "a": {"version": "1", "integrity": SRI, "dependencies": {}},
                "alias": {"version": "npm:@s/toy@1.0.0", "integrity": SRI},
            }
        },
        {
            "packages": {
                "node_modules/alias": {
                    "name": "@s/toy",
                    "version": "1.0.0",
                    "integrity": SRI,
                }
            }
        },
        {
            "packages": {
                "node_modules/alias": {
                    "version": "1.0.0",
                    "resolved": "https://r.test/@s/toy/-/toy-1.0.0.tgz",
                    "integrity": SRI,
                }
            }
        },
    ],
)
def test_an_alias_of_npm_is_the_package_that_it_stands_for(document):
    content = json.dumps(document).encode()
    found = read_lockfile("package-lock.json", content).files[-1]
    assert (found.name, found.version, found.file) == (
        "@s/toy",
        "1.0.0",
        "toy-1.0.0.tgz",
    )
