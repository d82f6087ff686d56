"""Who wins a name, which URLs are fetched, what a range means, what settings say."""

from __future__ import annotations

import contextlib
from ipaddress import ip_address

import pytest

from node.errors import UsageError
from node.gateway.origin import OriginError, Reach, check_url, without_credentials
from node.gateway.published import choose, refusal
from node.gateway.python.configured import is_gateway
from node.gateway.upstream import Upstream, place_of
from node.gateway.upstreams import Upstreams, is_public
from node.settings import UpstreamSettings
from node.settings.gateway import (
    merge_upstreams,
    read_gateway,
    read_upstreams,
    upstreams_in,
)
from node.settings.source import SettingSource
from node.web.gateway.ranges import UnsatisfiableError, matches, parse_range

ORIGIN = SettingSource("a test", UsageError)


@pytest.mark.parametrize(
    ("says", "is_published", "winner", "choice"),
    [
        ("has it", False, None, "upstream"),
        ("has it not", False, None, "neither"),
        ("nothing", False, None, "unknown"),
        ("has it not", True, None, "network"),
        ("has it", True, None, "clash"),
        ("nothing", True, None, "unknown"),
        ("has it", True, "network", "network"),
        ("nothing", True, "network", "network"),
        ("has it", False, "network", "neither"),
        ("has it", True, "upstream", "upstream"),
        ("has it not", True, "upstream", "neither"),
    ],
)
def test_who_a_name_means(says, is_published, winner, choice):
    """A followed publisher never takes a name that the upstream may have."""
    assert choose(says, is_published=is_published, winner=winner) == choice


def test_a_refusal_says_what_to_do():
    words = str(refusal("toy", "clash", [bytes(32)]))
    assert '[gateway.names] toy = "network" or "upstream"' in words
    scoped = str(refusal("@scope/toy", "clash", [bytes(32)]))
    assert '[gateway.names] "@scope/toy" = "network"' in scoped
    assert "unfollow" in str(refusal("toy", "network", [bytes(32), bytes(32)]))


UPSTREAM = Upstream("pypi", "http://index.test:8080/simple/")


def reached(url: str, own: str = "1.1.1.1") -> None:
    """Raise OriginError for a URL to an address that must not be connected to."""
    upstreams = Upstreams({"pypi": UpstreamSettings(UPSTREAM.url)})
    upstreams.found_at(UPSTREAM.place, [own])
    check_url(url, UPSTREAM)
    with contextlib.suppress(ValueError):
        address = str(ip_address(place_of(url)[0]))
        Reach(UPSTREAM, upstreams).allowed(place_of(url), [address])


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/x",
        "http://127.0.0.1:4748/api/leave",
        "http://169.254.169.254/latest/meta-data",
        "http://[::1]/x",
        "http://[::ffff:10.0.0.1]/x",
        "http://10.0.0.1/x",
        "http://192.168.1.1/admin",
        "file:///etc/passwd",
        "ftp://host.test/x",
        "gopher://host.test/x",
        "https://host.test:22/x",
        "https://host.test:99999/x",
        "https://host.test/\nx",
        "http:///x",
        "",
        "https://host.test/" + "x" * 3000,
    ],
)
def test_urls_that_are_never_fetched(url):
    with pytest.raises(OriginError):
        reached(url)


@pytest.mark.parametrize(
    "url",
    ["https://host.test/x", "http://index.test:8080/x", "http://1.2.3.4:8080/simple/"],
)
def test_urls_that_are_fetched(url):
    """Names are checked when they are resolved."""
    reached(url)


@pytest.mark.parametrize(
    ("own", "url", "is_reached"),
    [
        ("10.0.0.5", "http://10.0.0.6/x", True),
        ("10.0.0.5", "http://10.0.0.6:9000/x", True),
        ("10.0.0.5", "http://10.0.0.5:9000/x", False),
        ("10.0.0.5", "http://10.0.0.5:8080/x", True),
        ("10.0.0.5", "http://127.0.0.1:631/x", False),
        ("10.0.0.5", "http://169.254.169.254/x", False),
        ("127.0.0.1", "http://127.0.0.2:1234/x", True),
        ("127.0.0.1", "http://127.0.0.1:4748/x", False),
        ("1.1.1.1", "http://10.0.0.6/x", False),
        ("1.1.1.1", "http://1.1.1.1:9000/x", False),
    ],
)
def test_where_the_pages_of_an_upstream_may_lead(own, url, is_reached):
    if is_reached:
        reached(url, own)
    else:
        with pytest.raises(OriginError):
            reached(url, own)


def test_addresses_of_private_networks():
    assert not any(map(is_public, ["10.0.0.1", "fe80::1", "224.0.0.1", "0.0.0.0"]))
    assert is_public("1.1.1.1")


@pytest.mark.parametrize(
    "wrapped",
    [
        "::ffff:10.0.0.1", "::ffff:0:10.0.0.1", "::10.0.0.1", "64:ff9b::a00:1",
        "2002:a00:1::7", "64:ff9b:1::1", "fec0::1", "fd00::1",
    ],
)  # fmt: skip
def test_an_address_is_public_only_if_what_it_wraps_is(wrapped):
    assert not is_public(wrapped)


def test_a_wrapped_public_address_is_public():
    assert is_public("64:ff9b::101:101")
    assert is_public("2606:4700:4700::1111")


def test_a_log_holds_no_credentials():
    url = "https://user:secret@host.test:8443/a?token=secret#x"
    assert without_credentials(url) == "https://host.test:8443/a"


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("bytes=0-9", (0, 10)),
        ("bytes=90-", (90, 100)),
        ("bytes=-10", (90, 100)),
        ("bytes=-1000", (0, 100)),
        ("bytes=0-1000", (0, 100)),
        ("bytes=0-1,5-6", None),
        ("bytes=5-1", None),
        ("bytes=-", None),
        ("lines=0-1", None),
        ("bytes=" + "9" * 30 + "-", None),
        ("", None),
    ],
)
def test_ranges(text, part):
    assert parse_range(text, 100) == part


@pytest.mark.parametrize("text", ["bytes=100-", "bytes=200-300", "bytes=-0"])
def test_ranges_beyond_the_end(text):
    with pytest.raises(UnsatisfiableError):
        parse_range(text, 100)


def test_entity_tags():
    assert matches('"a", W/"b"', '"b"')
    assert matches("*", '"b"')
    assert not matches("", '"b"')


def test_upstreams_are_read():
    found = read_upstreams(
        {
            "pypi": "https://a.test/simple",
            "npm": {"url": "https://b.test", "share": False},
            "cargo": "sparse+https://c.test/",
            "opam": "none",
        },
        ORIGIN,
    )
    upstreams = Upstreams(found)
    assert upstreams.get("pypi").url == "https://a.test/simple/"
    assert upstreams.get("cargo").url == "https://c.test/"
    assert upstreams.get("opam") is None
    upstreams.found_at(("a.test", 443), ["1.1.1.1"])
    assert upstreams.are_private(["npm"])
    assert not upstreams.are_private(["npm", "pypi"])
    assert not upstreams.are_private([])


@pytest.mark.parametrize(
    ("url", "share", "addresses", "private"),
    [
        ("https://a.test/", None, ["1.1.1.1"], False),
        ("https://a.test/", None, ["10.0.0.1"], True),
        ("https://a.test/", None, ["1.1.1.1", "10.0.0.1"], True),
        ("https://a.test/", None, [], True),
        ("http://127.0.0.1:3141/", None, [], True),
        ("http://127.0.0.1:3141/", True, [], False),
        ("https://u:p@a.test/", None, ["1.1.1.1"], True),
        ("https://u:p@a.test/", True, ["1.1.1.1"], False),
        ("https://a.test/", False, ["1.1.1.1"], True),
    ],
)
def test_which_upstreams_are_private(url, share, addresses, private):
    """Until it is known where one is, it counts as private."""
    upstreams = Upstreams({"pypi": UpstreamSettings(url, share)})
    if addresses:
        upstreams.found_at(upstreams.get("pypi").place, addresses)
    assert upstreams.is_private("pypi") == private


@pytest.mark.parametrize(
    "value",
    [
        "https://a.test",
        {"maven": "https://a.test"},
        {"pypi": "file:///etc"},
        {"pypi": "https://"},
        {"pypi": 5},
        {"pypi": {"url": "https://a.test", "share": "perhaps"}},
        {"pypi": {"address": "https://a.test"}},
    ],
)
def test_upstreams_that_cannot_be_read(value):
    with pytest.raises(UsageError):
        read_upstreams(value, ORIGIN)


@pytest.mark.parametrize(
    "value", [5, {"strem": True}, {"stream": 1}, {"names": {"a": "me"}}, {"names": []}]
)
def test_gateway_settings_that_cannot_be_read(value):
    with pytest.raises(UsageError):
        read_gateway(value, ORIGIN)


def test_upstreams_come_from_the_environment():
    environ = {
        "CARAVAN_UPSTREAM_NPM": "https://n.test",
        "CARAVAN_UPSTREAM_PYPI_SHARE": "true",
        "CARAVAN_UPSTREAM_DEBIAN_SECURITY": "https://s.test",
        "CARAVAN_HOME": "x",
    }
    found = read_upstreams(upstreams_in(environ, "CARAVAN_"), ORIGIN)
    assert found == {
        "npm": UpstreamSettings("https://n.test"),
        "pypi": UpstreamSettings(None, True),
        "debian-security": UpstreamSettings("https://s.test"),
    }
    below = {"pypi": UpstreamSettings("https://a.test")}
    merged = merge_upstreams(below, found)
    assert merged["pypi"] == UpstreamSettings("https://a.test", True)


def test_an_upstream_that_is_switched_off_stays_so(tmp_path):
    upstreams = Upstreams({"pypi": UpstreamSettings("")})
    assert upstreams.setting("pypi").url == ""
    assert upstreams.get("pypi") is None
    assert upstreams.is_private("pypi")


def test_our_own_index_is_told_from_others():
    """Else the node would ask itself, once pip is connected to it."""
    assert is_gateway("http://127.0.0.1:4748/pypi/simple/")
    assert is_gateway("http://localhost:1/pypi/simple")
    assert not is_gateway("http://127.0.0.1:3141/root/pypi/+simple/")
    assert not is_gateway("https://index.test/pypi/simple")
