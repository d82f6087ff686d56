"""What the gateway's routes are asked and what they answer, without any HTTP server.

An index says which routes it has and answers each with one of the types below;
`node.web.gateway` turns requests and answers into HTTP.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from node.gateway.named_file import NamedFile
from node.gateway.origin import OriginPart, RelayRequest
from node.gateway.page_cache import StoredPage
from node.gateway.upstream import Upstream
from transfer import Digest


@dataclass(frozen=True, slots=True)
class GatewayRequest:
    """One request of a package manager."""

    parameters: Mapping[str, str]
    """What the route's path names in braces, unquoted."""
    tail: str
    """The last of them, as the client wrote it, with its query."""
    base: str
    """The URL of the door that was asked, without a slash at the end."""
    accept: str = ""
    method: str = "GET"
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PageAnswer:
    """A page; with `page` and `form`, its packed bytes are kept for the next time."""

    body: bytes
    content_type: str
    page: StoredPage | None = None
    form: str = ""


@dataclass(frozen=True, slots=True)
class FileAnswer:
    """A file by its digest; None where what was asked for is no digest."""

    digest: Digest | None
    named: tuple[NamedFile, ...] | None = None
    """Where its origins are; None to look them up."""
    moves: bool = False
    """Whether its URL says nothing of its bytes, so that they may be others later."""


@dataclass(frozen=True, slots=True)
class PartAnswer:
    """The end of a file, as its origin sent it: not verified, not kept."""

    file: FileAnswer
    part: OriginPart


@dataclass(frozen=True, slots=True)
class MovedAnswer:
    """Another path to ask."""

    path: str


@dataclass(frozen=True, slots=True)
class RelayAnswer:
    """What the upstream answers, passed on as it comes: not verified, not kept."""

    upstream: Upstream
    request: RelayRequest
    is_file: bool = False
    """Whether it is a package, for which a web page is no answer."""


_CONDITIONS = ("if-modified-since", "if-none-match", "range", "if-range")


def conditions(request: GatewayRequest) -> tuple[tuple[str, str], ...]:
    """Return the headers by which a client asks for a part, or for what changed."""
    return tuple(
        (name, text)
        for name, text in request.headers.items()
        if name.lower() in _CONDITIONS
    )


Answer = PageAnswer | FileAnswer | PartAnswer | MovedAnswer | RelayAnswer
Handler = Callable[[GatewayRequest], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Route:
    """A path with names in braces, and what answers it."""

    path: str
    handle: Handler
    methods: tuple[str, ...] = ("GET", "HEAD")
    is_mirror: bool = False
    """Whether clients know the origin themselves and ask it after a 404."""
    kind: Callable[[str], str] | None = None
    """The type of a page, by what a client accepts, if blanks may stand before it."""
