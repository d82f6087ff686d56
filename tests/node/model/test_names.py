"""Names from a package file can be used as paths, lines and keys without fear."""

import pytest

from node.errors import RefusedError
from node.model.names import is_file_name, is_name, is_version
from node.model.packages import ArtifactEntry, Package
from tests.node.evil_names import EVIL_FILE_NAMES
from tests.node.publishers import digest, package, root_key


@pytest.mark.parametrize("name", EVIL_FILE_NAMES)
def test_an_evil_file_name_is_refused(name):
    """No separator, device, control character or lookalike passes."""
    assert not is_file_name(name)


def test_the_corpus_has_two_hundred_names():
    """All of them different."""
    assert len(set(EVIL_FILE_NAMES)) == len(EVIL_FILE_NAMES) >= 200


def test_no_package_file_brings_an_evil_name():
    """Also not where its publisher signed it; nor two names that fall together."""
    key = root_key()
    good = package(key)
    assert Package.verify(good.raw).body == good.body
    for name in EVIL_FILE_NAMES:
        entry = ArtifactEntry(name, 1, digest(1), "ab" * 32)
        with pytest.raises(RefusedError):
            package(key, artifacts=[entry])
    for one, other in [("a.whl", "A.whl"), ("x", "x")]:
        entries = [
            ArtifactEntry(one, 1, digest(1), "ab" * 32),
            ArtifactEntry(other, 1, digest(2), "ab" * 32),
        ]
        with pytest.raises(RefusedError):
            package(key, artifacts=entries)


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
