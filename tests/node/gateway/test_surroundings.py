"""What the machine says of proxies, passwords and certificates, as tools read it."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from node.gateway.cargo.configured import as_cargo_asks
from node.gateway.netrc_file import authorization_for, named_authorization
from node.gateway.npm.configured import registry
from node.gateway.proxies import (
    is_bypassed,
    proxies_of_environment,
    proxy_for,
    proxy_hosts,
)
from node.gateway.python.configured import as_pip_asks
from node.gateway.upstream import Proxies, Upstream
from node.web.gateway.certificates import tls_context

TOY = Upstream("pypi", "http://a.test/")
P = "http://p:1"
VARIABLES = (
    "http_proxy", "https_proxy", "no_proxy", "all_proxy", "PIP_PROXY", "PIP_CERT",
    "npm_config_proxy", "npm_config_https_proxy", "npm_config_noproxy",
    "CARGO_HTTP_PROXY", "CARGO_HTTP_CAINFO", "NETRC", "PIP_CONFIG_FILE",
    "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS",
    "PIP_CLIENT_CERT", "SSL_CLIENT_CERT",
)  # fmt: skip


@pytest.fixture(autouse=True)
def home(monkeypatch, tmp_path) -> Path:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CARGO_HOME", str(tmp_path / ".cargo"))
    return tmp_path


@pytest.mark.parametrize(
    ("environ", "url", "proxy"),
    [
        ({"http_proxy": P}, "http://a.test/", P),
        ({"HTTP_PROXY": P}, "http://a.test/", P),
        ({"https_proxy": P}, "https://a.test/", P),
        ({"https_proxy": P}, "http://a.test/", None),
        ({"all_proxy": P}, "https://a.test/", P),
        ({"http_proxy": "p:1"}, "http://a.test/", P),
        ({"http_proxy": "socks5://p:1"}, "http://a.test/", None),
        ({"http_proxy": P, "no_proxy": "a.test"}, "http://a.test/", None),
        ({"http_proxy": P, "no_proxy": ".test"}, "http://a.test/", None),
        ({"http_proxy": P, "no_proxy": "*"}, "http://a.test/", None),
        ({"http_proxy": P, "no_proxy": "10.0.0.0/8"}, "http://10.1.2.3/", None),
        ({}, "http://a.test/", None),
    ],
)
def test_proxies_of_the_environment_are_used(monkeypatch, environ, url, proxy):
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert proxy_for(url, TOY, proxies_of_environment()) == proxy


@pytest.mark.parametrize(
    ("words", "is_one"),
    [
        ("a.test", True),
        ("A.Test", True),
        ("b.example , a.test", True),
        (".a.test", True),
        ("*.test", True),
        ("test", True),
        ("a.test:8080", True),
        (".test:8080", True),
        ("a.test:80", False),
        ("b.a.test", False),
        (".st", False),
        ("", False),
        (",", False),
    ],
)
def test_which_names_need_no_proxy(words, is_one):
    assert is_bypassed("a.test", 8080, words) is is_one


@pytest.mark.parametrize(
    ("host", "words", "is_one"),
    [
        ("10.1.2.3", "10.0.0.0/8", True),
        ("10.1.2.3", "10.1.2.3", True),
        ("10.1.2.3", "10.1.2.3:80", False),
        ("11.1.2.3", "10.0.0.0/8", False),
        ("fd00::1", "fd00::/8", True),
        ("fd00::1", "[fd00::1]", True),
        ("fd00::1", "[fd00::1]:8080", True),
        ("fd00::1", "10.0.0.0/8", False),
    ],
)
def test_which_addresses_need_no_proxy(host, words, is_one):
    assert is_bypassed(host, 8080, words) is is_one


def test_a_configured_proxy_counts_over_the_environment(monkeypatch):
    monkeypatch.setenv("http_proxy", "http://other:1")
    upstream = Upstream("pypi", TOY.url, proxies=Proxies("PROXY.test:3128", "", "b.c"))
    environment = proxies_of_environment()
    assert (
        proxy_for("http://a.test/", upstream, environment) == "http://PROXY.test:3128"
    )
    assert proxy_for("http://b.c/", upstream, environment) is None
    assert proxy_hosts(upstream, {}) == {"proxy.test"}


def test_the_proxies_of_the_tools(home, monkeypatch):
    (home / "pip.conf").write_text("[global]\nproxy = pip:1\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(home / "pip.conf"))
    assert as_pip_asks(TOY).proxies == Proxies("pip:1", "pip:1")
    monkeypatch.setenv("PIP_PROXY", "pip:2")
    assert as_pip_asks(TOY).proxies.http == "pip:2"
    (home / ".npmrc").write_text("proxy=http://n:1\nhttps-proxy=null\nnoproxy=a,b\n")
    monkeypatch.setenv("NPM_CONFIG_CAFILE", "/ca.pem")
    found = registry(home, "https://a.test/")
    assert found.proxies == Proxies("http://n:1", "http://n:1", "a,b")
    assert found.ca_files == (Path("/ca.pem"),)
    (home / ".cargo").mkdir()
    (home / ".cargo/config.toml").write_text('[http]\nproxy="c:1"\ncainfo="ca.pem"\n')
    cargo = as_cargo_asks(TOY)
    assert cargo.proxies == Proxies("c:1", "c:1")
    assert cargo.ca_files == (home / "ca.pem",)
    monkeypatch.setenv("CARGO_HTTP_CAINFO", "/other.pem")
    assert as_cargo_asks(TOY).ca_files == (Path("/other.pem"),)


def test_netrc_is_found_and_read_as_curl_does(home, monkeypatch):
    (home / "rc").write_text(
        "machine Files.Test login a password b\ndefault login c password d\n"
    )
    monkeypatch.setenv("NETRC", "~/rc")
    named = "Basic " + base64.b64encode(b"a:b").decode()
    other = "Basic " + base64.b64encode(b"c:d").decode()
    assert authorization_for("http://FILES.test/") == named
    assert authorization_for("http://index.test/") == other
    assert named_authorization("files.test") == named
    assert named_authorization("index.test") == ""


def test_a_key_with_a_password_asks_nobody_for_it(tmp_path):
    pem = tmp_path / "client.pem"
    pem.write_text("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n")
    assert tls_context((), pem) is not True
