"""Which proxy a URL is asked through: as the tools of this machine would ask.

What an upstream's tools are configured with counts over the environment. NO_PROXY is
read as curl, Go and requests read it together: names with their subdomains, a leading
"." or "*.", ports, addresses, networks (CIDR), and "*".
"""

from __future__ import annotations

import urllib.request
from collections.abc import Mapping
from ipaddress import ip_address, ip_network
from urllib.parse import urlsplit

from node.gateway.upstream import Proxies, Upstream, place_of

_SCHEMES = ("http://", "https://")


def proxies_of_environment() -> Mapping[str, str]:
    """Return the proxies that variables name, by scheme, as `urllib.request` does."""
    return urllib.request.getproxies_environment()


def proxy_for(
    url: str, upstream: Upstream, environment: Mapping[str, str]
) -> str | None:
    """Return the URL of the proxy that a URL is asked through, or None.

    `environment` is what `proxies_of_environment` returned.
    """
    if not environment and upstream.proxies == Proxies():
        return None
    bypassed = f"{environment.get('no', '')},{upstream.proxies.bypassed}"
    host, port = place_of(url)
    if is_bypassed(host, port, bypassed):
        return None
    return _proxies(upstream, environment).get(urlsplit(url).scheme)


def proxy_hosts(upstream: Upstream, environment: Mapping[str, str]) -> frozenset[str]:
    """Return the hosts of all proxies that an upstream may be asked through."""
    hosts = {urlsplit(one).hostname for one in _proxies(upstream, environment).values()}
    return frozenset(host for host in hosts if host)


def is_bypassed(host: str, port: int, bypassed: str) -> bool:
    """Tell whether a host and port is among those that need no proxy."""
    for word in bypassed.replace(",", " ").split():
        one = word.lower()
        if one == "*":
            return True
        if _is_network_of(one, host):
            return True
        name, colon, given = one.rpartition(":")
        is_port = name.endswith("]") or ":" not in name
        if colon and given.isdecimal() and is_port:
            if int(given) != port:
                continue
            one = name
        one = one.removeprefix("*").lstrip(".").strip("[]")
        if one and (host == one or host.endswith(f".{one}")):
            return True
    return False


def _is_network_of(text: str, host: str) -> bool:
    """Tell whether a text is an address, or a network with a host that is one."""
    try:
        return ip_address(host.partition("%")[0]) in ip_network(text, strict=False)
    except (ValueError, TypeError):
        return False


def _proxies(upstream: Upstream, environment: Mapping[str, str]) -> dict[str, str]:
    """Return the proxy of each scheme; those that speak no HTTP are left out."""
    found = {}
    for scheme in ("http", "https"):
        said = getattr(upstream.proxies, scheme)
        proxy = said or environment.get(scheme) or environment.get("all", "")
        if proxy and "://" not in proxy:
            proxy = f"http://{proxy}"  # as curl and requests take it
        if proxy.lower().startswith(_SCHEMES):
            found[scheme] = proxy
    return found
