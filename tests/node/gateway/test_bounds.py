"""What foreign text and archives can cost: time that grows with their length, no more.

Every compiled pattern of the node is fed texts made from its own parts, a long run of
each and of each pair: a pattern that can give back what it took needs a time that
grows with the square of that.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import importlib
import inspect
import io
import lzma
import pkgutil
import re
import resource
import signal
import struct
import tarfile
import time
import zipfile
import zlib
from collections.abc import Iterator
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import node
from node.errors import UsageError
from node.gateway import ini, toml, zips
from node.gateway.archives import members_of
from node.gateway.cargo.index import read_crate
from node.gateway.debian.packages import read_packages, read_release
from node.gateway.lockfiles import read_lockfile
from node.gateway.npm.packument import read_packument
from node.gateway.opam import opam_file
from node.gateway.opam.index import read_index
from node.gateway.origin import OriginPage
from node.gateway.python import simple
from node.gateway.python.html_links import tags
from node.gateway.python.wheels import is_metadata, read_metadata
from node.web.gateway.ranges import UnsatisfiableError, parse_range
from tests.end_to_end.packages import tarball, wheel

LONG = 1_000_000
SHORT = 60_000  # of the many texts: the square of it is still some minutes
SECONDS_MAX = 4.0
_SCANNING = ("search", "finditer", "findall", "sub", "split", "subn")


def patterns() -> Iterator[tuple[str, re.Pattern[Any], list[str]]]:
    """Yield (name, pattern, the methods that its module calls)."""
    for info in pkgutil.walk_packages(node.__path__, "node."):
        if ".demo" in info.name:
            continue
        module = importlib.import_module(info.name)
        source = inspect.getsource(module)
        for name, value in vars(module).items():
            if isinstance(value, re.Pattern):
                used = set(re.findall(rf"\b{name}\.(\w+)\(", source))
                yield f"{info.name}.{name}", value, sorted(used | {"fullmatch"})


ALL = {name: (pattern, used) for name, pattern, used in patterns()}


def characters(tree: Any) -> set[str]:
    """Return one character for each thing that a pattern can match."""
    found: set[str] = set()
    waiting = list(tree)
    while waiting:
        one = waiting.pop()
        if isinstance(one, parser.SubPattern | list):
            waiting += list(one)
        elif isinstance(one, tuple):
            kind, value = (str(one[0]), one[1]) if len(one) == 2 else ("", one)
            if kind == "LITERAL":
                found.add(chr(value))
            elif kind == "RANGE":
                found |= {chr(value[0]), chr(value[1])}
            elif kind == "CATEGORY":
                found.add({"DIGIT": "0", "SPACE": " "}.get(str(value)[9:], "a"))
            elif kind in ("ANY", "NOT_LITERAL", "NEGATE"):
                found.add("x")
            else:
                waiting += list(value) if isinstance(value, tuple | list) else []
    return found


def texts(pattern: re.Pattern[Any]) -> Iterator[str]:
    """Yield texts that could cost a pattern much."""
    source = pattern.pattern
    text = source.decode("latin-1") if isinstance(source, bytes) else source
    letters = sorted(characters(parser.parse(text, pattern.flags & ~re.UNICODE)))[:14]
    for one in letters:
        yield one * LONG + "\0"
        for other in letters:
            yield (one + other) * (SHORT // 2) + "\0"
            yield one + other * SHORT + "\0"
            yield one + other * SHORT + one + "\0"


class TooSlowError(Exception):
    """A pattern took too long."""


def stop(*_: object) -> None:
    raise TooSlowError


@pytest.mark.parametrize("name", sorted(ALL))
@pytest.mark.timeout(120)
def test_every_pattern_takes_time_in_proportion_to_the_text(name):
    pattern, used = ALL[name]
    before = signal.signal(signal.SIGALRM, stop)
    try:
        for text in texts(pattern):
            subject: Any = text
            if isinstance(pattern.pattern, bytes):
                subject = text.encode("latin-1", "replace")
            for method in used:
                signal.setitimer(signal.ITIMER_REAL, SECONDS_MAX)
                called(pattern, method, subject)
                signal.setitimer(signal.ITIMER_REAL, 0)
    except TooSlowError:
        pytest.fail(f"{pattern.pattern!r} is slow on {text[:20]!r}...")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def called(pattern: re.Pattern[Any], method: str, subject: Any) -> None:
    if method in ("sub", "subn"):
        pattern.sub(subject[:0], subject)
    elif method == "finditer":
        for _ in pattern.finditer(subject):
            pass
    elif method in (*_SCANNING, "match", "fullmatch"):
        getattr(pattern, method)(subject)


def test_the_check_sees_a_quadratic_pattern():
    """It is the one that stopped a node of 0.1 for half a minute."""
    ALL["bad"] = (re.compile(r"a\s*\s*(?:\[[^]]*\])?\s*\s*=="), ["match"])
    with pytest.raises(pytest.fail.Exception):
        test_every_pattern_takes_time_in_proportion_to_the_text("bad")
    del ALL["bad"]


# --- parsers -------------------------------------------------------------------------

PAGE = "<!DOCTYPE html><html><body><a href='/f/a-1.zip#sha256=00'>a</a>"
WORST_HTML = [
    "<a " * 300_000,
    '<a "' * 300_000,
    "<a href='" * 200_000,
    "<!--" * 300_000,
    "<script>" * 200_000,
    "<a a=b " * 200_000 + ">",
    "&" * 1_000_000,
    "<a href='" + "&#" + "9" * 1_000_000 + ";'>",
    "<" * 1_000_000,
    "</title" * 200_000,
]


@pytest.mark.parametrize("text", WORST_HTML, ids=range(len(WORST_HTML)))
def test_html_takes_time_in_proportion_to_the_page(text):
    start = time.monotonic()
    list(tags(PAGE + text))
    assert time.monotonic() - start < 3.0


LOCKFILES = [
    "requirements.txt", "uv.lock", "poetry.lock", "pylock.toml", "Cargo.lock",
    "package-lock.json", "toy.opam", "pnpm-lock.yaml", "yarn.lock", "bun.lock",
]  # fmt: skip


@pytest.mark.parametrize("name", LOCKFILES)
@pytest.mark.parametrize(
    "content",
    [
        b"a" + b" " * LONG + b"x\nb==1 --hash=sha256:" + b"0" * 64,
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'"' * LONG,
        b'url { src: "' * 50_000,
        b"url {" * 100_000,
        b"(*" * 200_000,
        b"--hash" * 100_000 + b" " * 100_000,
        b"\\\n" * 300_000,
        b"a==" + b"1" * LONG,
        b'packages:\n  "' + b'\\"' * 200_000 + b"," * 200_000,
    ],
    ids=range(11),
)
def test_a_lockfile_is_read_or_refused_in_time(name, content):
    start = time.monotonic()
    with contextlib.suppress(UsageError):
        read_lockfile(name, content)
    assert time.monotonic() - start < 5.0


ANY = st.binary(max_size=2000)
TOKENS = st.lists(
    st.sampled_from(
        [
            "[[package]]\n", 'name = "a"\n', "version = 1\n", '"', "{", "}", "[", "]",
            "url {", "src:", "checksum:", "(*", "*)", "#", "\\", "\n", " ", "a==1",
            "--hash=sha256:00", "<a href=", ">", "'", "</a>", "<!--", "-->", "&#9;",
            "\x00", "\ud800", "Filename: x\n", "SHA256: 00\n", ":", ",", "null",
            "1e999",
        ]
    ),
    max_size=60,
).map("".join)  # fmt: skip


def foreign() -> st.SearchStrategy[bytes]:
    return ANY | TOKENS.map(lambda text: text.encode("utf-8", "surrogatepass"))


@pytest.mark.parametrize("name", LOCKFILES)
@given(content=foreign())
@settings(max_examples=60, deadline=1000)
def test_a_lockfile_is_read_or_refused_with_one_error(name, content):
    with contextlib.suppress(UsageError):
        read_lockfile(name, content)


PARSERS: dict[str, Any] = {
    "simple html": lambda data: simple.read_page(
        "pypi", "toy", OriginPage(data, "text/html", "", "https://a.test/")
    ),
    "simple json": lambda data: simple.read_page(
        "pypi", "toy", OriginPage(data, simple.JSON_TYPE, "", "https://a.test/")
    ),
    "packument": lambda data: read_packument(data, "npm", "toy"),
    "crate": lambda data: read_crate(data, "https://a.test", "cargo"),
    "opam index": lambda data: read_index(data, "opam"),
    "opam file": lambda data: list(opam_file.archives_in(data.decode("latin-1"))),
    "opam field": lambda data: opam_file.field_span(data.decode("latin-1"), "url"),
    "opam section": lambda data: opam_file.without_section(
        data.decode("latin-1"), "url"
    ),
    "packages": lambda data: read_packages(io.BytesIO(data), "debian", "https://a/"),
    "release": read_release,
    "zip": lambda data: zips.read_member(io.BytesIO(data), len(data), is_metadata),
    "tar": lambda data: [one for one, _ in members_of(io.BytesIO(data))],
    "ini": lambda data: list(
        ini.options(data.decode("latin-1"), delimiters="=:", continues=True)
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PARSERS)
@given(data=foreign())
@settings(max_examples=100, deadline=1000)
def test_parsers_raise_one_kind_of_error(name, data):
    with contextlib.suppress(ValueError):
        PARSERS[name](data)


@pytest.mark.parametrize(
    ("name", "whole"),
    [
        ("zip", wheel("toy", "1.0", "hello")),
        ("tar", tarball({"a": "b", "c/d": "e"})),
        ("opam index", tarball({"packages/a/a.1/opam": "url { src: 'x' }"})),
        ("packages", lzma.compress(b"Filename: a\nSHA256: " + b"0" * 64)),
        ("packages", bz2.compress(b"Filename: a\nSHA256: " + b"0" * 64)),
        ("packages", zlib.compress(b"Filename: a")),
    ],
)
@given(data=st.data())
@settings(max_examples=150, deadline=1000)
def test_damaged_archives_raise_one_kind_of_error(name, whole, data):
    damaged = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(damaged) - 1))
        damaged[place] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(damaged)))
    with contextlib.suppress(ValueError):
        PARSERS[name](bytes(damaged[cut // 2 :] if cut % 7 == 0 else damaged))


@given(text=st.text(max_size=60), size=st.integers(0, 10**12))
def test_a_range_lies_within_the_file(text, size):
    try:
        found = parse_range(text, size)
    except UnsatisfiableError:
        return
    assert found is None or 0 <= found[0] < found[1] <= size


# --- archives that are bombs ---------------------------------------------------------


def memory() -> int:
    """Return the most memory that this process has had, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def packed_member(method: int, data: bytes, said: int) -> bytes:
    """Return a zip archive of one METADATA that says it unpacks to `said` bytes."""
    name = b"x-1.dist-info/METADATA"
    head = (method, 0, 0x21, 0, len(data), said, len(name), 0)
    local = struct.pack("<4sHHHHHIIIHH", b"PK\3\4", 46, 0, *head) + name + data
    place = (0, 0, 0, 0, 0)
    central = struct.pack("<4sHHHHHHIIIHHHHHII", b"PK\1\2", 46, 46, 0, *head, *place)
    end = (0, 0, 1, 1, len(central) + len(name), len(local), 0)
    return local + central + name + struct.pack("<4sHHHHIIH", b"PK\5\6", *end)


def bombs() -> dict[str, bytes]:
    zeros = bytes(64 << 20)
    raw = zlib.compressobj(9, zlib.DEFLATED, -15)
    deflated = raw.compress(zeros) + raw.flush()
    return {
        "bzip2": packed_member(12, bz2.compress(zeros), 1000),
        "lzma": packed_member(14, lzma.compress(zeros), 1000),
        "deflate that lies": packed_member(8, deflated, 1000),
        "deflate": packed_member(8, deflated, len(zeros)),
        "encrypted": packed_member(99, b"x", 1),
        "long directory": struct.pack(
            "<4sHHHHIIH", b"PK\5\6", 0, 0, 65535, 65535, 2**31, 0, 0
        ),
    }


@pytest.mark.parametrize("name", bombs())
def test_a_wheel_that_is_a_bomb_is_refused_cheaply(tmp_path, name):
    path = tmp_path / "x-1-py3-none-any.whl"
    path.write_bytes(bombs()[name])
    before = memory()
    assert read_metadata(path) is None
    assert memory() - before < 24 << 20


def test_a_stored_and_a_deflated_member_are_read(tmp_path):
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        path = tmp_path / "x-1-py3-none-any.whl"
        with zipfile.ZipFile(path, "w", method) as archive:
            archive.writestr("x-1.dist-info/METADATA", "Name: x\n")
        assert read_metadata(path) == b"Name: x\n"


def test_lzma_gets_no_more_memory_than_it_may_have():
    """A header can ask for a dictionary of 4 GiB."""
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 30}]
    packed = lzma.compress(b"Filename: a\n", format=lzma.FORMAT_XZ, filters=filters)
    with pytest.raises(ValueError, match="cannot be unpacked"):
        read_packages(io.BytesIO(packed), "debian", "https://a/")


# --- texts and archives that cost more than their length -----------------------------


def tar_block(name: str, size: int, kind: bytes) -> bytes:
    """Return one header block of a tar archive."""
    member = tarfile.TarInfo(name)
    member.size = size
    block = bytearray(member.tobuf(tarfile.GNU_FORMAT))
    block[156:157] = kind
    block[148:156] = b" " * 8
    block[148:155] = b"%06o\0" % sum(block)
    return bytes(block)


def pax(*fields: bytes) -> bytes:
    """Return an extended header with fields like b"size=1"."""
    body = b""
    for one in fields:
        length = len(one) + 2
        while len(str(length)) + len(one) + 2 != length:
            length += 1
        body += b"%d %s\n" % (length, one)
    return tar_block("pax", len(body), b"x") + body + bytes(-len(body) % 512)


def sparse_map(count: int) -> bytes:
    """Return a member whose first bytes are a map of so many holes (GNU, 1.0)."""
    body = b"%d\n" % count + b"1\n" * (2 * count)
    head = pax(b"GNU.sparse.major=1", b"GNU.sparse.minor=0")
    return head + tar_block("f", len(body), b"0") + body + bytes(-len(body) % 512)


def sparse_blocks(count: int) -> bytes:
    """Return a member of the old GNU kind, whose map goes on for so many blocks."""
    head = bytearray(tar_block("f", 10, b"S"))
    head[482] = 1
    head[148:156] = b" " * 8
    head[148:155] = b"%06o\0" % sum(head)
    block = bytearray(b"%011o\0%011o\0" % (7, 7) * 21).ljust(512, b"\0")
    block[504] = 1
    return bytes(head) + bytes(block) * count


HEADERS = {
    "a map of holes": sparse_map(2_000_000),
    "a map of holes in blocks": sparse_blocks(20_000),
    "a chain of long names": (tar_block("n", 5, b"L") + b"abcd".ljust(512, b"\0"))
    * 3000,
    "a chain of extended headers": pax(b"path=x") * 3000,
    "a map in a header": pax(b"GNU.sparse.map=" + b"1," * 20_000 + b"1")
    + tar_block("f", 0, b"0"),
    "a number that is none": pax(b"size=x") + tar_block("f", 0, b"0"),
    "fields for all": b"".join(
        tar_block("g", 512, b"g") + b"11 a%05d=x\n" % one + bytes(501)
        for one in range(200)
    )
    + tar_block("f", 0, b"0") * 3,
}


@pytest.mark.parametrize("name", HEADERS)
def test_headers_of_a_tar_cost_what_they_take(name):
    packed = gzip.compress(HEADERS[name], 1)
    before, start = memory(), time.monotonic()
    with contextlib.suppress(ValueError):
        for _ in members_of(io.BytesIO(packed)):
            pass
    assert time.monotonic() - start < 3.0
    assert memory() - before < 64 << 20


def test_an_archive_unpacks_to_a_multiple_of_its_size_at_most():
    packed = lzma.compress(b"\n" * (64 << 20), preset=0)
    with pytest.raises(ValueError, match="unpacks to too much"):
        read_packages(io.BytesIO(packed), "debian", "https://a/")
    zeros = tar_block("f", 64 << 20, b"0") + bytes(64 << 20)
    with pytest.raises(ValueError, match="unpacks to too much"):
        list(members_of(io.BytesIO(gzip.compress(zeros, 9))))


@pytest.mark.parametrize("character", ["a", "\U0001f600"])
def test_a_list_of_packages_is_read_in_pieces(character):
    """One character outside of the basic plane makes Python use four bytes for each."""
    stanza = f"Filename: a/b\nSHA256: {'0' * 64}\nSize: 1\n\n"
    whole = (character + "\n" + stanza * 200_000).encode()
    before = memory()
    found = read_packages(io.BytesIO(whole), "debian", "https://a/")
    assert found.text.count(b"\n") == 200_001
    assert memory() - before < 6 * len(whole)


def nested(depth: int, length: int) -> bytes:
    """Return a package-lock.json of version 1, nested, with names of this length."""
    levels = (b'{"%s":{"version":"1","dependencies":' % (b"x" * length),) * depth
    return b'{"dependencies":' + b"".join(levels) + b"{}" + b"}}" * depth + b"}"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("uv.lock", b"a." * 20_000 + b"a = 1\n"),
        ("poetry.lock", b"[" + b'"a" . ' * 20_000 + b"a]\n"),
        ("Cargo.lock", b"a = {" + b"a." * 20_000 + b"a = 1}\n"),
        ("requirements.txt", b"a\n" * 2_000_000),
        ("requirements.txt", b"\n" * 8_000_000),
        ("toy.opam", b'url { src: "a" }' * 300_000),
        ("package-lock.json", nested(300, 3000)),
    ],
    ids=range(7),
)
def test_a_lockfile_takes_memory_in_proportion_to_its_length(name, content):
    before, start = memory(), time.monotonic()
    with contextlib.suppress(UsageError):
        read_lockfile(name, content)
    assert time.monotonic() - start < 8.0
    assert memory() - before < 256 << 20


def test_a_long_key_within_a_text_is_no_key():
    assert toml.loads(f'a = "{"two words. " * 200}"')
    assert toml.loads("a.b.c.d = 1") == {"a": {"b": {"c": {"d": 1}}}}


def test_links_are_not_joined_to_a_long_base():
    page = (
        b"<html><title>Links for</title><base href='https://a.test/" + b"a/" * 500_000
    )
    page += b"'>" + b"<a href=a.zip>" * 20_000
    before, start = memory(), time.monotonic()
    simple.read_page(
        "pypi", "toy", OriginPage(page, "text/html", "", "https://a.test/")
    )
    assert time.monotonic() - start < 3.0
    assert memory() - before < 64 << 20


def test_a_template_of_downloads_is_no_longer_than_a_url():
    line = b'{"name":"toy","vers":"1.0","cksum":"%s"}\n' % (b"0" * 64)
    template = "https://a.test/{crate}"
    assert b"https://a.test/toy" in read_crate(line, template, "cargo").files.text
    with pytest.raises(ValueError, match="none of its lines"):
        read_crate(line, template + "{crate}" * 800, "cargo")


def test_sections_of_an_opam_file_are_cut_in_one_pass():
    start = time.monotonic()
    assert opam_file.without_section("url{}x:1 " * 50_000, "url") == "x:1 " * 50_000
    assert time.monotonic() - start < 3.0
