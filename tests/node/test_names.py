"""Names from a package file can be used as paths, lines and keys without fear."""

import pytest

from node.names import is_file_name, is_name, is_version

EVIL_FILE_NAMES = [
    "", ".", "..", "../x", "a/b", "a\\b", "/etc/passwd", "C:\\x", "C:x", ".hidden",
    "x.", "x ", "con", "CON.txt", "nul", "aux.whl", "com1.zip", "lpt9", "a\0b", "a\nb",
    "\x1b[31mred", "\u202egnp.exe", "na\u0131ve", "caf\u0065\u0301", "x" * 201, "~root",
    "-rf", "a:b", "a|b", "a?b", "a*b", "a<b", "a>b", 'a"b', "\u2215etc", "a\u0000",
]  # fmt: skip


@pytest.mark.parametrize("name", EVIL_FILE_NAMES)
def test_an_evil_file_name_is_refused(name):
    """No separator, device, control character or lookalike passes."""
    assert not is_file_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "cffi-1.16.0-cp311-cp311-manylinux_2_17_x86_64.whl",
        "zarith.1.13.tar.gz",
        "g++-12_12.2.0-14_amd64.deb",
        "left-pad-1.3.0.tgz",
        "A file (1).txt",
    ],
)
def test_a_real_file_name_is_allowed(name):
    """What package managers publish passes."""
    assert is_file_name(name)


@pytest.mark.parametrize("name", ["numpy", "@scope/name", "g++", "conf-gmp", "a.b_c"])
def test_a_real_package_name_is_allowed(name):
    """Names of all ecosystems pass."""
    assert is_name(name)


@pytest.mark.parametrize("name", ["", "../x", "a//b", "a/b/c", "@", "a b", "a@b", "-a"])
def test_an_evil_package_name_is_refused(name):
    """Nothing passes that could be read as a path or as NAME@VERSION."""
    assert not is_name(name)


def test_versions():
    """Versions of all ecosystems pass, spaces and paths do not."""
    assert all(map(is_version, ["1.0", "2.0rc1", "1:2.3-4", "1.0+local", "1!2", "dev"]))
    assert not any(map(is_version, ["", "1.0 ", "../1", "a/b", "v" * 65]))
