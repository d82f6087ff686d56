"""Who may speak to the door, decided before anything else is looked at.

A page in the owner's browser can send requests to loopback, and a name of its own can
be made to point there (DNS rebinding). So the `Host` must be one of ours, a request
that a page caused is refused (`Origin`, Fetch Metadata), nothing is allowed across
origins, and the API wants the token from `node.json`, which is readable by the owner
only.
"""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING

from dht import Address

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aiohttp import web

_FETCHED_BY_ITSELF = ("none", "same-origin")
_BEARER = "bearer "


class Refusal(Exception):  # noqa: N818 (an answer rather than a failure)
    """A request that gets an error: its HTTP status, sentence and exit code."""

    def __init__(
        self, status: int, sentence: str, exit_code: int = 1, **headers: str
    ) -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence
        self.exit_code = exit_code
        self.headers = {name.replace("_", "-"): text for name, text in headers.items()}


def host_names(addresses: Iterable[Address]) -> frozenset[str]:
    """Return the values of `Host` that mean this door."""
    names: set[str] = set()
    for address in addresses:
        for host in (address.host, "localhost"):
            name = f"[{host}]" if ":" in host else host
            names.add(f"{name}:{address.port}")
            if address.port == 80:
                names.add(name)
    return frozenset(names)


def check_source(
    request: web.BaseRequest, hosts: frozenset[str], *, is_owner: bool = False
) -> None:
    """Refuse a request for another host, or one that a web page caused.

    `is_owner` says that the browser is signed in; then our own page may ask.
    """
    named = request.headers.getall("Host", [])
    if len(named) != 1 or named[0].lower() not in hosts:
        raise Refusal(403, "this door answers for its own address only")
    origins = request.headers.getall("Origin", [])
    own_page = is_owner and origins == [f"http://{named[0]}"]
    if origins and not own_page:
        raise Refusal(403, "web pages may not speak to this node")
    site = request.headers.get("Sec-Fetch-Site", "none").strip().lower()
    if site not in _FETCHED_BY_ITSELF:
        raise Refusal(403, "web pages of other sites may not speak to this node")


def check_token(request: web.BaseRequest, token: str) -> None:
    """Refuse a request without the bearer token, in constant time (RFC 6750)."""
    given = request.headers.getall("Authorization", [])
    text = given[0] if len(given) == 1 else ""
    offered = text[len(_BEARER) :] if text.lower().startswith(_BEARER) else ""
    if not hmac.compare_digest(
        offered.strip().encode("utf-8", "surrogateescape"), token.encode()
    ):
        raise Refusal(
            401,
            "the token is missing or wrong; it is in node.json of the node's folder",
            3,
            WWW_Authenticate="Bearer",
        )
