"""What indexes say of published files: read out of crates, tarballs and opam files."""

from __future__ import annotations

import json

import pytest

from node.gateway.cargo.crates import index_line
from node.gateway.npm.published import read_manifest, write_packument
from node.gateway.opam import opam_file as opam_text
from node.gateway.opam.published import checked, with_archive
from node.model.packages import ArtifactEntry
from tests.end_to_end.packages import npm_package
from transfer import Digest

CHECKSUM = "00" * 32
PACKAGE = {"name": "toy", "version": "1.0.0"}


def line(**manifest: object) -> dict[str, object]:
    made = index_line(
        {"package": PACKAGE, **manifest}, "toy", "1.0.0", checksum=CHECKSUM
    )
    return json.loads(made)


def test_a_crate_without_anything():
    assert line() == {
        "name": "toy", "vers": "1.0.0", "deps": [], "cksum": CHECKSUM, "features": {},
        "yanked": False, "links": None,
    }  # fmt: skip


def test_the_dependencies_of_a_crate():
    """As cargo writes them: in tables, by kind, by target, and renamed."""
    found = line(
        dependencies={
            "serde": {"version": "1", "features": ["derive"], "optional": True},
            "short": "2",
            "alias": {"version": "3", "package": "real", "default-features": False},
            "away": {"version": "4", "registry-index": "sparse+https://r.test/"},
            "home": {
                "version": "5",
                "registry-index": "https://github.com/rust-lang/crates.io-index",
            },
        },
        **{
            "dev-dependencies": {"tested": "1", "beside": {"path": "../beside"}},
            "build-dependencies": {"cc": "1"},
            "target": {"cfg(unix)": {"dependencies": {"libc": "0.2"}}},
        },
    )["deps"]
    by_name = {one["name"]: one for one in found}
    assert set(by_name) == {
        "serde", "short", "alias", "away", "home", "tested", "cc", "libc",
    }  # fmt: skip
    assert by_name["serde"] == {
        "name": "serde", "req": "1", "features": ["derive"], "optional": True,
        "default_features": True, "target": None, "kind": "normal", "registry": None,
        "package": None,
    }  # fmt: skip
    assert by_name["alias"]["package"] == "real"
    assert by_name["alias"]["default_features"] is False
    assert by_name["away"]["registry"] == "sparse+https://r.test/"
    assert by_name["home"]["registry"] is None
    assert by_name["tested"]["kind"] == "dev"
    assert by_name["cc"]["kind"] == "build"
    assert by_name["libc"]["target"] == "cfg(unix)"


def test_features_that_old_cargo_cannot_read_stand_apart():
    found = line(features={"default": ["std"], "std": [], "x": ["dep:serde", "a?/b"]})
    assert found["features"] == {"default": ["std"], "std": []}
    assert found["features2"] == {"x": ["dep:serde", "a?/b"]}
    assert found["v"] == 2


@pytest.mark.parametrize(
    "manifest",
    [
        {"package": {"name": "other", "version": "1.0.0"}},
        {"package": {"name": "toy", "version": "2.0.0"}},
        {"package": []},
        {"dependencies": {"a": {"git": "https://r.test/a"}}},
        {"dependencies": ["a"]},
        {"features": {"a": "b"}},
    ],
)
def test_a_crate_that_is_not_what_it_is_called(manifest):
    with pytest.raises(ValueError, match=r"^its "):
        line(**manifest)


DIGESTS = {"sha512": Digest("sha512", bytes(64)), "sha1": Digest("sha1", bytes(20))}


def manifest_in(folder, **more: object) -> dict[str, object]:
    path = folder / "toy-1.0.0.tgz"
    path.write_bytes(npm_package("toy", "hello", **more))
    return read_manifest(path, "toy", "1.0.0")


def test_a_document_for_npm(tmp_path):
    manifest = manifest_in(
        tmp_path,
        bin={"toy": "index.js"},
        dependencies={"a": "1"},
        scripts={"postinstall": "true"},
        _private="x",
        dist={"tarball": "https://elsewhere.test/"},
    )
    url = "http://127.0.0.1:1/npm/toy/-/toy-1.0.0.tgz"
    short = json.loads(write_packument(manifest, url, DIGESTS, short=True))
    about = short["versions"]["1.0.0"]
    assert short["dist-tags"] == {"latest": "1.0.0"}
    assert about["dist"]["tarball"] == url
    assert about["dist"]["integrity"].startswith("sha512-AAAA")
    assert about["dependencies"] == {"a": "1"}
    assert about["hasInstallScript"] is True
    assert "scripts" not in about
    full = json.loads(write_packument(manifest, url, DIGESTS, short=False))
    about = full["versions"]["1.0.0"]
    assert about["scripts"] == {"postinstall": "true"}
    assert "_private" not in about
    assert about["dist"]["tarball"] == url


@pytest.mark.parametrize(("name", "version"), [("other", "1.0.0"), ("toy", "2.0.0")])
def test_a_tarball_that_is_not_what_it_is_called(tmp_path, name, version):
    path = tmp_path / "toy.tgz"
    path.write_bytes(npm_package("toy", "hello"))
    with pytest.raises(ValueError, match="is not that of"):
        read_manifest(path, name, version)


OPAM = '''opam-version: "2.0"
name: "toy"  # url { in a comment }
(* url { another } *)
description: """
url { in a long string } \\\\"""
build: [make {os = "linux"} "url {" "name: \\"x\\""]
depends: ["a" {>= "1"}]
url {
  src: "https://elsewhere.test/}" checksum: ["md5=0"]
}
extra-source "x" { src: "https://kept.test/" }
'''


def test_only_sections_of_that_name_are_taken_out():
    text = opam_text.without_section(OPAM, "url")
    assert "elsewhere" not in text
    assert text.count("url {") == 4
    assert "kept.test" in text
    assert opam_text.without_section(text, "url") == text


def test_fields_are_read_outside_sections_only():
    assert opam_text.field(OPAM, "name") == "toy"
    assert opam_text.field(OPAM, "version") is None
    assert opam_text.field(OPAM, "src") is None


@pytest.mark.parametrize("text", ['a: "', 'a: """x', "(* x", "url {", "}", "url { }}"])
def test_an_opam_file_that_does_not_end_well(text):
    with pytest.raises(ValueError, match="its opam file"):
        opam_text.without_section(text, "url")


def test_many_comments_that_do_not_end_cost_little():
    """No way to make it look at everything from every place again."""
    with pytest.raises(ValueError, match="no end"):
        opam_text.without_section("(* *)" * 50_000 + "(*" * 50_000, "url")


def test_the_archive_of_an_opam_package_is_at_this_node():
    entry = ArtifactEntry("toy-1.0.tar.gz", 1, f"sha256:{CHECKSUM}", "00" * 32)
    text = with_archive(OPAM, entry, "http://127.0.0.1:1")
    url = f"http://127.0.0.1:1/blob/sha256/{CHECKSUM}/toy-1.0.tar.gz"
    assert f'src: "{url}"' in text
    assert f'checksum: "sha256={CHECKSUM}"' in text


@pytest.mark.parametrize("said", ['name: "other"', 'version: "9"', ""])
def test_an_opam_file_that_is_not_what_it_is_called(said):
    head = 'opam-version: "2.0"\n' if said else ""
    with pytest.raises(ValueError, match=r"its|it has"):
        checked(f"{head}{said}\n", "toy", "1.0")
