"""Archives of strangers: read with bounds, and refused where they are hostile."""

from __future__ import annotations

import gzip
import io
import tarfile
import tracemalloc

import pytest

from node.gateway import limits
from node.gateway.archives import read_member
from tests.end_to_end.packages import tarball

WANTED = "package/package.json"


def packed(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for member, content in members:
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def read(folder, data: bytes) -> bytes:
    path = folder / "archive.tgz"
    path.write_bytes(data)
    return read_member(path, WANTED)


@pytest.mark.parametrize("name", [WANTED, f"./{WANTED}"])
def test_one_file_is_read(tmp_path, name):
    assert read(tmp_path, tarball({"a": "x" * 5000, name: "hello"})) == b"hello"


def test_a_file_that_is_there_twice_is_refused(tmp_path):
    """Which of them counts would depend on who unpacks it."""
    one = (tarfile.TarInfo(WANTED), b"1"), (tarfile.TarInfo(f"./{WANTED}"), b"2")
    with pytest.raises(ValueError, match="it has 2"):
        read(tmp_path, packed(*one))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_refused(tmp_path, kind):
    member = tarfile.TarInfo(WANTED)
    member.type, member.linkname = kind, "/etc/passwd"
    with pytest.raises(ValueError, match="not a plain file"):
        read(tmp_path, packed((member, b"")))


def test_a_giant_member_is_refused(tmp_path):
    size = limits.ARCHIVE_MEMBER_BYTES_MAX + 1
    with pytest.raises(ValueError, match="too long"):
        read(tmp_path, packed((tarfile.TarInfo(WANTED), bytes(size))))


def test_a_bomb_is_refused_at_the_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "ARCHIVE_BYTES_MAX", 1_000_000)
    bomb = packed(
        (tarfile.TarInfo("a"), bytes(50_000_000)), (tarfile.TarInfo(WANTED), b"x")
    )
    assert len(bomb) < 100_000
    with pytest.raises(ValueError, match="too much"):
        read(tmp_path, bomb)


def test_too_many_members_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "ARCHIVE_MEMBERS_MAX", 10)
    with pytest.raises(ValueError, match="too many"):
        read(tmp_path, tarball({f"{n}": "" for n in range(20)}))


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_giant_header_is_refused_before_it_is_in_memory(tmp_path, kind):
    member = tarfile.TarInfo("header")
    member.type = kind
    data = packed((member, bytes(30_000_000)), (tarfile.TarInfo(WANTED), b"x"))
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="header"):
            read(tmp_path, data)
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "data",
    [b"", b"no gzip", gzip.compress(b"no tar" * 500), tarball({"a": "b" * 9000})[:-20]],
    ids=["empty", "no gzip", "no tar", "cut short"],
)
def test_what_is_no_archive_is_refused(tmp_path, data):
    with pytest.raises(ValueError, match=r"it (is|has) no"):
        read(tmp_path, data)
