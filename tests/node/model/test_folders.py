"""A folder list has one encoding, and its names stay below the folder."""

from __future__ import annotations

import contextlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.errors import RefusedError
from node.model.folders import (
    FILES_MAX,
    FolderFile,
    is_folder_list,
    read_folder_list,
    write_folder_list,
)

DIGEST = f"sha256:{7:064x}"
CONTENT = write_folder_list(
    [FolderFile("b/c.txt", DIGEST, 3), FolderFile("a.txt", DIGEST, 3)]
)


def test_a_list_reads_back_sorted():
    files = read_folder_list(CONTENT)
    assert [one.name for one in files] == ["a.txt", "b/c.txt"]
    assert write_folder_list(files) == CONTENT
    assert is_folder_list(CONTENT)


@pytest.mark.parametrize(
    "names",
    [
        [],
        ["../x"],
        ["/etc/passwd"],
        ["a/../../x"],
        ["a//b"],
        ["a/./b"],
        [".bashrc"],
        ["a/.ssh"],
        ["a\\b"],
        ["nul"],
        ["x" * 300],
        ["/".join("a" * 17)],
        ["a", "A"],
        ["a", "a/b"],
        [f"f{number}" for number in range(FILES_MAX + 1)],
    ],
    ids=lambda names: (names or ["none"])[0][:20],
)
def test_a_name_that_is_not_safe_is_refused(names):
    with pytest.raises(RefusedError):
        write_folder_list([FolderFile(name, DIGEST, 1) for name in names])


@pytest.mark.parametrize(
    "content",
    [
        CONTENT.rstrip(b"\n"),
        CONTENT + b"\n",
        CONTENT.replace(b",", b", "),
        CONTENT.replace(b"}]", b',"x":1}]'),
        CONTENT.replace(b":1,", b":2,", 1),
        CONTENT.replace(b"a.txt", b"z.txt"),
        CONTENT.replace(b"a.txt", b"\\u0061.txt"),
    ],
)
def test_any_other_encoding_is_refused(content):
    assert content != CONTENT
    with pytest.raises(RefusedError):
        read_folder_list(content)


@given(
    rest=st.binary(max_size=200)
    | st.recursive(
        st.none() | st.integers() | st.text(max_size=9),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.text(max_size=6), inner, max_size=3)
        ),
    ).map(msgspec.json.encode)
)
def test_whatever_the_bytes_are_there_is_one_error(rest):
    for content in (rest, b'{"caravan-folder":' + rest):
        with contextlib.suppress(RefusedError):
            read_folder_list(content)
