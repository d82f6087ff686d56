"""What tells one upstream from another."""

from __future__ import annotations

import pytest

from node.gateway.upstream import identity_of


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("https://x.test/simple", "https://X.Test:443/simple/"),
        ("http://x.test/s/", "HTTP://x.test:80/s"),
        ("https://bücher.test/s/", "https://xn--bcher-kva.test/s/"),
        ("https://me:secret@x.test/s/", "https://x.test./s/"),
        ("https://token@x.test/", "https://x.test"),
        ("https://[::1]/s/", "https://[0:0:0:0:0:0:0:1]:443/s/"),
        ("https://x.test:/s/", "https://x.test/s/"),
    ],
)
def test_spellings_of_one_upstream(one, other):
    assert identity_of(one) == identity_of(other)
    assert "secret" not in identity_of(one)


@pytest.mark.parametrize(
    "other",
    [
        "http://x.test/s/",
        "https://x.test:8443/s/",
        "https://x.test/S/",
        "https://y.test/s/",
        "https://x.test/s/?a",
    ],
)
def test_others_are_others(other):
    assert identity_of("https://x.test/s/") != identity_of(other)
