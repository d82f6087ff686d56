"""A purl is written only where the file's name leaves no doubt."""

import pytest

from node.model.ecosystems import describe_file, is_purl_of


@pytest.mark.parametrize(
    ("file", "name", "version", "purl"),
    [
        ("Foo_Bar-1.0-py3-none-any.whl", "foo-bar", "1.0", "pkg:pypi/foo-bar@1.0"),
        ("foo_bar-1.0.tar.gz", "Foo.Bar", "1.0.0", "pkg:pypi/foo-bar@1.0"),
        ("serde-1.0.1.crate", "serde", "1.0.1", "pkg:cargo/serde@1.0.1"),
        ("name-1.2.3.tgz", "@scope/name", "1.2.3", "pkg:npm/%40scope/name@1.2.3"),
        ("foo-1.0-py3-none-any.whl", "bar", "1.0", ""),
        ("foo-1.0-py3-none-any.whl", "foo", "2.0", ""),
        ("not a wheel.whl", "foo", "1.0", ""),
        ("zarith-1.13.tgz", "zarith", "1.13", ""),
        ("README.txt", "foo", "1.0", ""),
    ],
)
def test_a_file_and_its_purl(file, name, version, purl):
    """Real file names of the ecosystems, and names that fit none."""
    assert describe_file(file, name, version)[0] == purl
    if purl:
        assert is_purl_of(purl, name, version)


def test_the_tags_of_a_wheel():
    """A wheel's tags come out one by one."""
    _, tags = describe_file("a-1-cp311-abi3-manylinux_2_17_x86_64.whl", "a", "1")
    assert tags == ["cp311-abi3-manylinux_2_17_x86_64"]


@pytest.mark.parametrize("purl", ["", "pkg:", "http://x", "pkg:pypi/other@1.0"])
def test_a_purl_of_something_else_is_noticed(purl):
    """A package file may not claim another package's purl."""
    assert not is_purl_of(purl, "foo", "1.0")
