"""The HTTP client that asks upstreams and origins.

Each upstream has its own connections, credentials, certificates and proxies. Redirects
are followed by hand, so that every step passes the same rules (`node.gateway.origin`),
and request targets go out exactly as they were written: a signature in a query can
cover each of its characters.
"""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import logging
import re
import socket
import ssl
import time
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import quote, urljoin, urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from node.gateway import limits
from node.gateway.netrc_file import authorization_for, named_authorization
from node.gateway.origin import (
    BrokenOffError,
    BusyError,
    DownError,
    ForbiddenUrlError,
    MissingError,
    NoPartError,
    NotAllowedError,
    OriginError,
    OriginFile,
    OriginPage,
    OriginPart,
    OriginReply,
    Reach,
    RelayRequest,
    SlowError,
    check_url,
)
from node.gateway.proxies import (
    proxies_of_environment,
    proxy_for,
    proxy_hosts,
)
from node.gateway.retry import pause_before_retry
from node.gateway.upstream import Upstream, place_of, without_user
from node.gateway.upstreams import Upstreams, is_public
from node.web.gateway.certificates import tls_context
from node.web.gateway.page_body import PageBody
from transfer.single_flight import SingleFlight

CONNECT_SECONDS_MAX = 5.0
USER_AGENT = "caravan"
_REDIRECTS = (301, 302, 303, 307, 308)
_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18})")
_PRINTABLE = "".join(map(chr, range(33, 127)))
_IN_THE_MIDDLE = (BrokenOffError, SlowError)
_ABSOLUTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_NO_PART = (400, 403, 405, 416, 501)
_ARCHIVES = (".gz", ".tgz", ".xz", ".bz2", ".zst")
_PASSED_BACK = (
    "content-type", "content-encoding", "content-length", "content-range", "etag",
    "last-modified", "retry-after", "npm-notice", "accept-ranges",
)  # fmt: skip
_log = logging.getLogger(__name__)


class ForbiddenAddressError(OSError):
    """A name leads where the upstream's pages must not."""


class GuardedResolver(AbstractResolver):
    """Resolves names for one upstream; they must not lead where its pages must not."""

    def __init__(self, upstream: Upstream, upstreams: Upstreams) -> None:
        self._upstream = upstream
        self._upstreams = upstreams
        self._reach = Reach(upstream, upstreams)
        self._resolver = aiohttp.ThreadedResolver()
        self._asked: SingleFlight[
            tuple[str, int, socket.AddressFamily], list[ResolveResult]
        ] = SingleFlight()
        self._proxies = proxy_hosts(upstream, proxies_of_environment())

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return the addresses of `host` that may be connected to; OSError if none."""
        found = await self._resolver.resolve(host, port, family)
        if host.lower() in self._proxies:
            return found
        addresses = [one["host"] for one in found]
        if (host, port) == self._upstream.place:
            self._upstreams.found_at((host, port), addresses)
        elif not all(map(is_public, addresses)):
            await self._find_others()
        try:
            allowed = self._reach.allowed((host, port), addresses)
        except OriginError as error:
            raise ForbiddenAddressError(str(error)) from error
        return [one for one in found if one["host"] in allowed]

    async def _found(
        self, host: str, port: int, family: socket.AddressFamily
    ) -> list[ResolveResult]:
        """Ask once for all connections that are opened at the same moment.

        A name server drops questions that come by the dozen, which costs seconds.
        """
        key = (host, port, family)
        return await self._asked.run(
            key, lambda: self._resolver.resolve(host, port, family)
        )

    async def close(self) -> None:
        """Release what the resolver holds."""
        await self._asked.close()
        await self._resolver.close()

    async def _find_others(self) -> None:
        """Find out where all upstreams are: other ports of their hosts are refused."""
        for one in self._upstreams.all():
            if not self._upstreams.addresses_of(one.place):
                with contextlib.suppress(OSError):
                    found = await self._resolver.resolve(*one.place)
                    self._upstreams.found_at(one.place, [a["host"] for a in found])


class HttpOrigin:
    """An `OriginClient` over HTTP; make it inside a running loop and close it."""

    def __init__(self, upstreams: Upstreams) -> None:
        self._upstreams = upstreams
        self._sessions: dict[Upstream, aiohttp.ClientSession] = {}
        # Once: decoding the whole environment for each request costs its share.
        self._proxies = proxies_of_environment()
        # Pools of their own: without a network, names take seconds to fail.
        self._names = ThreadPoolExecutor(1, "gateway-names")
        self._readers = ThreadPoolExecutor(1, "gateway-tls")

    async def close(self) -> None:
        """Close every connection."""
        for session in self._sessions.values():
            await session.close()
        for pool in (self._names, self._readers):
            pool.shutdown(wait=False, cancel_futures=True)

    async def prepare(self, upstream: Upstream) -> None:
        """Resolve an upstream's host, so that `Upstreams` knows where it is.

        And read the certificates that it needs, so that no request waits for them.
        """
        host, port = upstream.place
        await self._tls_for(upstream.url, upstream)

        def find() -> list[str]:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            return [str(one[4][0]) for one in found]

        with contextlib.suppress(OSError, UnicodeError):
            loop = asyncio.get_running_loop()
            addresses = await loop.run_in_executor(self._names, find)
            self._upstreams.found_at((host, port), addresses)

    async def page(
        self, upstream: Upstream, url: str, *, accept: str, known: OriginPage | None
    ) -> OriginPage:
        """Fetch a page; `known` is what to compare with. Raises OriginError."""
        # Static servers label an archive as packed; it is wanted as it is sent.
        is_archive = urlsplit(url).path.endswith(_ARCHIVES)
        coding = "identity" if is_archive else "gzip"
        asked = {"Accept": accept, "Accept-Encoding": coding}
        headers = dict(asked)
        if known is not None and known.etag:
            headers["If-None-Match"] = known.etag
        if known is not None and known.modified:
            headers["If-Modified-Since"] = known.modified
        body = PageBody(as_sent=is_archive)
        fruitless = 0
        while True:
            had = body.received
            try:
                return await self._page(
                    upstream, url, headers=headers, body=body, known=known
                )
            except OriginError as error:
                rest = body.condition()
                wait: float | None = 0.0
                if body.received > had and isinstance(error, _IN_THE_MIDDLE):
                    fruitless = 0  # what makes progress goes on
                else:
                    fruitless += 1
                    wait = pause_before_retry(error, fruitless)
                if not rest or wait is None or fruitless > limits.PAGE_ATTEMPTS:
                    raise
                _log.info("a page of %s broke off and is resumed", upstream.name)
                await asyncio.sleep(wait)
                headers, known = {**asked, **rest}, None

    async def _page(
        self,
        upstream: Upstream,
        url: str,
        *,
        headers: Mapping[str, str],
        body: PageBody,
        known: OriginPage | None,
    ) -> OriginPage:
        """Ask once, for a page or for its rest; raises OriginError."""
        request = _Request(url, headers=headers, is_page=True)
        async with self._request(upstream, request) as response:
            final = str(response.url)
            if response.status == 304 and known is not None:
                return OriginPage(b"", "", known.etag, final, unchanged=True)
            _check_status(response)
            body.begin(response.headers, final, is_part=response.status == 206)
            text = await body.receive(_parts(response))
        said = body.headers
        return OriginPage(
            text,
            said.get("Content-Type", ""),
            said.get("ETag", ""),
            body.url,
            modified=said.get("Last-Modified", ""),
        )

    @contextlib.asynccontextmanager
    async def file(
        self, upstream: Upstream, url: str, start: int = 0
    ) -> AsyncIterator[OriginFile]:
        """Begin to fetch a file, from `start` on if it can; raises OriginError."""
        headers = {"Accept-Encoding": "identity", "Accept": "*/*"}
        if start:
            headers["Range"] = f"bytes={start}-"
        request = _Request(url, headers=headers)
        async with self._request(upstream, request) as response:
            if start and response.status in _NO_PART:
                raise NoPartError("it does not send the rest of a file")
            _check_status(response)
            found = HttpFile(response)
            if response.status == 206 and found.start != start:
                raise NoPartError("it sent another part than was asked for")
            yield found

    async def part(self, upstream: Upstream, url: str, wanted: str) -> OriginPart:
        """Fetch what a Range header names, PART_BYTES_MAX at most.

        Raises OriginError, also where the origin sends no parts.
        """
        headers = {"Accept-Encoding": "identity", "Accept": "*/*", "Range": wanted}
        async with self._request(upstream, _Request(url, headers=headers)) as response:
            _check_status(response)
            given = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
            if response.status != 206 or given is None:
                raise OriginError("it sends no parts of files")
            start, end, size = (int(one) for one in given.groups())
            count = end + 1 - start
            if not 0 < count <= limits.PART_BYTES_MAX or end >= size:
                raise OriginError("it sent another part than was asked for")
            data = b""
            async for block in _parts(response):
                data += block
                if len(data) > count:
                    break
        if len(data) != count:
            raise BrokenOffError("a part of a file ended early")
        return OriginPart(start, data, size)

    async def size(self, upstream: Upstream, url: str, seconds: float) -> int | None:
        """Ask how long a file is, without fetching it; None if that is unknown.

        Raises OriginError where it cannot be had. An origin that answers no HEAD, as
        one whose URLs are signed for GET, is asked with GET and cut off.
        """
        last = OriginError("it was not asked")
        try:
            async with asyncio.timeout(seconds):
                for attempt, method in enumerate(("HEAD", "GET", "GET"), 1):
                    try:
                        return await self._length(upstream, url, method)
                    except OriginError as error:
                        last = error
                        if not _is_about_head(error, method):
                            wait = pause_before_retry(error, attempt)
                            if wait is None:
                                break
                            await asyncio.sleep(wait)
        except TimeoutError:
            last = SlowError("it sent nothing for too long")
        raise last

    async def _length(self, upstream: Upstream, url: str, method: str) -> int | None:
        headers = {"Accept-Encoding": "identity", "Accept": "*/*"}
        request = _Request(url, method, headers)
        async with self._request(upstream, request) as response:
            _check_status(response)
            return response.content_length

    @contextlib.asynccontextmanager
    async def relay(
        self, upstream: Upstream, request: RelayRequest
    ) -> AsyncIterator[OriginReply]:
        """Pass a request on; raises OriginError.

        It is sent once more where the connection ended before any answer: a server may
        close one that was kept open just then, and nothing here changes its state.
        """
        headers = {"Accept-Encoding": "identity", **dict(request.headers)}
        asked = _Request(request.url, request.method, headers, body=request.body)
        async with contextlib.AsyncExitStack() as stack:
            try:
                response = await stack.enter_async_context(
                    self._request(upstream, asked)
                )
            except BrokenOffError:
                response = await stack.enter_async_context(
                    self._request(upstream, asked)
                )
            yield HttpReply(response)

    # --- one request -----------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def _request(
        self, upstream: Upstream, request: _Request
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Ask, following redirects; every error of the network is an OriginError."""
        try:
            session = self._session(upstream)
            url = request.url
            for _ in range(limits.REDIRECTS_MAX + 1):
                self._check(url, upstream, is_redirect=url is not request.url)
                own = {}
                if secret := await self._secret_for(url, upstream):
                    own["Authorization"] = secret
                async with session.request(
                    request.method,
                    _exact(without_user(url)),
                    ssl=await self._tls_for(url, upstream),
                    headers={**request.headers, **own},
                    data=request.body or None,
                    allow_redirects=False,
                    proxy=proxy_for(url, upstream, self._proxies),
                ) as response:
                    if response.status not in _REDIRECTS:
                        yield response
                        return
                    url = _next(url, response, is_page=request.is_page)
        except TimeoutError as error:
            raise SlowError("it sent nothing for too long") from error
        except aiohttp.ClientConnectorError as error:
            if isinstance(error.os_error, ForbiddenAddressError):
                raise ForbiddenUrlError(str(error.os_error)) from error
            raise DownError(_sentence(error)) from error
        except (aiohttp.ClientError, OSError) as error:
            raise BrokenOffError(_sentence(error)) from error
        except ValueError as error:
            raise OriginError("the URL is malformed") from error
        raise OriginError("it redirects too often")

    async def _tls_for(self, url: str, upstream: Upstream) -> ssl.SSLContext | bool:
        """Return the certificates for a URL; reading them takes a while, once."""
        if not url.startswith("https:"):
            return True
        loop = asyncio.get_running_loop()
        files = upstream.ca_files, upstream.client_certificate
        return await loop.run_in_executor(self._readers, tls_context, *files)

    async def _secret_for(self, url: str, upstream: Upstream) -> str:
        """Return the Authorization header for a URL, or "".

        An upstream that needs a credential may have its files at a host that netrc
        names; what comes for that credential is private like the upstream.
        """
        if urlsplit(url).username is not None:
            return authorization_for(url)  # a page or a redirect says it
        if not upstream.authorization:
            return ""
        if _is_at(url, upstream):
            return upstream.authorization
        host = place_of(url)[0]
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._readers, named_authorization, host)

    def _check(self, url: str, upstream: Upstream, *, is_redirect: bool) -> None:
        """Raise OriginError for a URL that must not be asked."""
        most = limits.URL_CHARACTERS_MAX
        if is_redirect:
            most = limits.REDIRECT_CHARACTERS_MAX
        check_url(url, upstream, characters_max=most)
        place = place_of(url)
        try:
            address = str(ip_address(place[0]))
        except ValueError:
            return  # a name, checked where it is resolved
        if proxy_for(url, upstream, self._proxies) is None or not is_public(address):
            Reach(upstream, self._upstreams).allowed(place, [address])

    def _session(self, upstream: Upstream) -> aiohttp.ClientSession:
        """Return the connections of one upstream, as it is configured now."""
        if upstream not in self._sessions:
            self._sessions[upstream] = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    resolver=GuardedResolver(upstream, self._upstreams),
                    limit=limits.CONNECTIONS_PER_UPSTREAM,
                    # An answer that was checked for one place is none for another.
                    use_dns_cache=False,
                ),
                headers={"User-Agent": USER_AGENT},
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                requote_redirect_url=False,
                max_line_size=limits.HEADER_BYTES_MAX,
                max_field_size=limits.HEADER_BYTES_MAX,
                timeout=aiohttp.ClientTimeout(
                    total=None,
                    sock_connect=CONNECT_SECONDS_MAX,
                    sock_read=limits.ORIGIN_FIRST_SECONDS_MAX,
                ),
            )
        return self._sessions[upstream]


@dataclass(frozen=True, slots=True)
class _Request:
    """What is asked, before any redirect."""

    url: str
    method: str = "GET"
    headers: Mapping[str, str] = None  # type: ignore[assignment] # always given
    body: bytes = b""
    is_page: bool = False


class HttpFile:
    """A file that an HTTP origin has begun to send; its body is taken as it is sent."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self.start = 0
        length = response.content_length
        self.size = length
        if response.status == 206:
            given = response.headers.get("Content-Range", "")
            first = given.removeprefix("bytes ").partition("-")[0]
            if not first.isdecimal() or len(first) > 18:
                raise OriginError("it sent a part and does not say which")
            self.start = int(first)
            whole = given.rpartition("/")[2]
            if whole.isdecimal() and len(whole) <= 18:
                self.size = int(whole)  # it may send less than was asked for
            elif length is not None:
                self.size = self.start + length

    def parts(self) -> AsyncIterator[bytes]:
        """Yield the bytes as they come; raises OriginError."""
        return _parts(self._response)


class HttpReply:
    """An answer that is passed on as it comes."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self.status = response.status
        self.headers = [
            (name, text)
            for name, text in response.headers.items()
            if name.lower() in _PASSED_BACK
        ]

    def parts(self) -> AsyncIterator[bytes]:
        """Yield the body as it was sent; raises OriginError."""
        return _parts(self._response)


async def _parts(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    try:
        async for part in response.content.iter_any():
            yield part
    except TimeoutError as error:
        raise SlowError("it sent nothing for too long") from error
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise BrokenOffError(_sentence(error)) from error


def _exact(url: str) -> URL:
    """Return a URL whose target goes out as it was written."""
    return URL(quote(url.partition("#")[0], safe=_PRINTABLE), encoded=True)


def _is_at(url: str, upstream: Upstream) -> bool:
    """Tell whether a URL is at an upstream itself, and no less protected."""
    schemes = urlsplit(url).scheme, urlsplit(upstream.url).scheme
    return place_of(url) == upstream.place and schemes[0] == schemes[1]


def _next(url: str, response: aiohttp.ClientResponse, *, is_page: bool) -> str:
    given = response.headers.get("Location", "").strip()
    target = given if _ABSOLUTE.match(given) else urljoin(url, given)
    if is_page and (urlsplit(url).scheme, urlsplit(target).scheme) == ("https", "http"):
        raise OriginError("it redirects a page from https to http")
    return target


def _check_status(response: aiohttp.ClientResponse) -> None:
    status = response.status
    if status in (404, 410):
        raise MissingError("the origin has no such thing")
    if status == 429 or status >= 500 or status in (408, 425):
        raise BusyError(status, _retry_after(response.headers.get("Retry-After", "")))
    if status in (402, 403, 451):
        raise NotAllowedError(f"it answered with HTTP status {status}")
    if status not in (200, 206):
        raise OriginError(f"it answered with HTTP status {status}")


def _is_about_head(error: OriginError, method: str) -> bool:
    """Tell whether an origin may answer to GET what it does not to HEAD."""
    if method != "HEAD" or isinstance(error, MissingError):
        return False
    is_unknown = isinstance(error, BusyError) and error.status == 501
    return is_unknown or type(error) in (OriginError, NotAllowedError)


def _retry_after(text: str) -> float | None:
    """Return the seconds that a Retry-After names (RFC 9110, 10.2.3)."""
    if text.strip().isdecimal() and len(text) < 10:
        return float(text)
    try:
        return max(
            0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time()
        )
    except (TypeError, ValueError, OverflowError):
        return None


def _sentence(error: BaseException) -> str:
    """Say what went wrong, without a URL, which may hold a password."""
    if isinstance(error, aiohttp.ClientConnectorError):
        reason = error.os_error.strerror or str(error.os_error)
        return f"no connection: {reason}"
    return f"the connection failed ({type(error).__name__})"
