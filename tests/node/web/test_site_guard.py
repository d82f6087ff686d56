"""Who may use the site door: networks, host names and the token."""

from __future__ import annotations

import base64

import pytest

from node.settings.site import DEFAULT_NETWORKS
from node.web.guard import Refusal
from node.web.site_guard import SiteGuard, SiteRequest

TOKEN = "a-token-of-the-lab-0123"


def asking(**changes) -> SiteRequest:
    """Return a request from a machine of the same private network."""
    values = {"client": "10.1.2.3", "local": "10.0.0.1", "host": "10.0.0.1:4749"}
    return SiteRequest(**{**values, **changes})


def refusal(guard: SiteGuard, **changes) -> int:
    with pytest.raises(Refusal) as caught:
        guard.check(asking(**changes))
    return caught.value.status


@pytest.mark.parametrize(
    "client",
    [
        "127.0.0.1",
        "::1",
        "10.9.9.9",
        "172.31.0.1",
        "192.168.7.7",
        "fd00::5",
        "fe80::1%3",
    ],
)
def test_private_networks_are_clients_by_default(client):
    assert SiteGuard.of(DEFAULT_NETWORKS).is_client(client)


@pytest.mark.parametrize(
    "client", ["8.8.8.8", "172.32.0.1", "2001:db8::1", "::ffff:8.8.8.8", "", "no"]
)
def test_other_addresses_are_refused_by_default(client):
    guard = SiteGuard.of(DEFAULT_NETWORKS)
    assert refusal(guard, client=client) == 403


def test_an_ipv4_client_of_an_ipv6_socket_is_judged_by_its_ipv4_address():
    guard = SiteGuard.of(["10.0.0.0/8"])
    assert guard.is_client("::ffff:10.1.1.1")
    assert not guard.is_client("::ffff:192.168.1.1")


@pytest.mark.parametrize(
    "host", ["10.0.0.1:4749", "10.0.0.1", "cache.lab:4749", "CACHE.lab", "10.0.0.1:80"]
)
def test_own_addresses_and_named_hosts_are_answered(host):
    guard = SiteGuard.of(DEFAULT_NETWORKS, ["cache.lab"])
    guard.check(asking(host=host))


@pytest.mark.parametrize(
    "host",
    ["evil.test", "evil.test:4749", "", "10.0.0.2:4749", "localhost:4749",
     "cache.lab.evil.test", "10.0.0.1.evil.test", "[::1]:4749", "cache.lab:4749:1"],
)  # fmt: skip
def test_other_host_names_are_refused(host):
    guard = SiteGuard.of(DEFAULT_NETWORKS, ["cache.lab"])
    assert refusal(guard, host=host) == 403


def test_localhost_is_a_name_of_loopback_only():
    guard = SiteGuard.of(DEFAULT_NETWORKS)
    guard.check(asking(client="127.0.0.1", local="127.0.0.1", host="localhost:4749"))
    guard.check(asking(client="::1", local="::1", host="[::1]:4749"))


@pytest.mark.parametrize(
    "changes", [{"origin": "http://10.0.0.1:4749"}, {"fetch_site": "cross-site"},
                {"fetch_site": "same-site"}, {"origin": "null"}],
)  # fmt: skip
def test_web_pages_are_refused(changes):
    assert refusal(SiteGuard.of(DEFAULT_NETWORKS), **changes) == 403


def basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    "given", [f"Bearer {TOKEN}", f"bearer  {TOKEN}", basic(f"any:{TOKEN}"),
              basic(f":{TOKEN}")],
)  # fmt: skip
def test_the_token_is_taken_as_bearer_and_as_password(given):
    guard = SiteGuard.of(DEFAULT_NETWORKS, token=TOKEN)
    guard.check(asking(authorization=given))


@pytest.mark.parametrize(
    "given", ["", TOKEN, f"Bearer {TOKEN}x", "Bearer", basic(TOKEN), basic(f"{TOKEN}:"),
              "Basic !!!", "Basic /w==", f"Digest {TOKEN}", "Bearer ü"],
)  # fmt: skip
def test_without_the_token_the_answer_is_401(given):
    guard = SiteGuard.of(DEFAULT_NETWORKS, token=TOKEN)
    assert refusal(guard, authorization=given) == 401


def test_a_token_in_the_path_is_enough():
    guard = SiteGuard.of(DEFAULT_NETWORKS, token=TOKEN)
    guard.check(asking(in_path=True))
    assert refusal(guard, in_path=True, client="8.8.8.8") == 403


def test_the_token_is_not_shown():
    assert TOKEN not in repr(SiteGuard.of(DEFAULT_NETWORKS, token=TOKEN))
