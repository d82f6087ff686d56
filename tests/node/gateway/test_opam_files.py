"""opam files with all that their grammar allows around an archive's URL."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile

import pytest

from node.gateway.opam.index import read_index
from node.gateway.opam.opam_file import archives_in, unescaped
from transfer import Digest

SHA256 = hashlib.sha256(b"archive").hexdigest()
URL = "https://origin.test/a/one.tgz"
SUM = f'checksum: "sha256={SHA256}"'
PLAIN = f'url {{ src: "{URL}" {SUM} }}'


@pytest.mark.parametrize(
    "text",
    [
        PLAIN,
        f'url {{ src: "https://origin.test\\x2fa\\047one.tgz" {SUM} }}',
        f'url {{ src: "https://origin.test/a/\\\n     one.tgz" {SUM} }}',
        f'url {{ src: """{URL}""" checksum: ["""sha256={SHA256}"""] }}',
        f'(* a (* nested {{ *) still *) url {{ (* src: "no" *) src: "{URL}" {SUM} }}',
        f"""# it's "one {{ (*\nurl {{ src: "{URL}" # don"t }}\n {SUM} }}""",
        f'description: """ url {{ src: "no" }} \\""" {{ """ {PLAIN}',
        f'build: ["x" "url {{"] {{os != "url" & (arch = "{{")}} {PLAIN}',
        f'my-url {{ src: "no" {SUM} }} x-url: "no" {PLAIN}',
        f'extra-source """p""" {{ {SUM} src: "{URL}" }}',
        f"(* *) # (*\n{PLAIN}",
    ],
)
def test_an_archive_is_found_whatever_is_around_it(text):
    (archive,) = archives_in(text)
    assert (archive.url, archive.digests[0].hex) == (URL, SHA256)


def test_a_comment_without_an_end_is_refused():
    with pytest.raises(ValueError, match="has no end"):
        list(archives_in(f"{PLAIN} (* (* *)"))


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("plain", "plain"),
        (r"a\"b\\c\'d", "a\"b\\c'd"),
        (r"\n\t\r\b", "\n\t\r\b"),
        (r"\065\x42", "AB"),
        ("one \\\n    line", "one line"),
        ("one \\\r\n\tline", "one line"),
    ],
)
def test_escapes_of_strings(text, meant):
    assert unescaped(text) == meant


@pytest.mark.parametrize("folder", ["one.1.0", "one/one.1.0", "ocaml/x/one/one.1.0"])
def test_packages_may_be_in_any_folder(folder):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        member = tarfile.TarInfo(f"packages/{folder}/opam")
        member.size = len(PLAIN)
        archive.addfile(member, io.BytesIO(PLAIN.encode()))
    page = read_index(gzip.compress(stream.getvalue()), "opam")
    found = page.files.find(Digest.parse(f"sha256:{SHA256}"))
    assert found is not None
    assert found.url == URL
