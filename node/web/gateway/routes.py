"""The gateway's routes as HTTP: each index names its own, nothing is decided here."""

from __future__ import annotations

import asyncio
import contextlib
import math
import re
from collections.abc import Awaitable, Callable

from aiohttp import web

from node.errors import NodeError
from node.gateway import limits
from node.gateway.answers import (
    Answer,
    FileAnswer,
    GatewayRequest,
    MovedAnswer,
    PageAnswer,
    PartAnswer,
    RelayAnswer,
    Route,
)
from node.gateway.origin import (
    BusyError,
    ForbiddenUrlError,
    MissingError,
    NotAllowedError,
    NotKeptError,
    OriginError,
    OriginPart,
    OriginReply,
)
from node.gateway.pages import PageMissingError, UnreachableError
from node.gateway.published import ClashError
from node.gateway.resolver import MissError, StreamedFile
from node.gateway.retry import PASSING, pause_before_retry
from node.gateway.service import Gateway
from node.web.gateway.serving import (
    MOVES,
    PAGE_HEADERS,
    FileSender,
    abort,
    page_response,
    write,
)
from node.web.gateway.unkept import pass_on
from node.web.guard import Refusal
from node.web.headers import BASE, SOURCE

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_REASON_CHARACTERS_MAX = 300
_RELAY = re.compile(r"http://127\.0\.0\.1:[0-9]{1,5}")


class GatewayRoutes:
    """Adds the gateway to the door."""

    def __init__(
        self, gateway: Gateway, sender: FileSender, *, with_credentials: bool = True
    ) -> None:
        """Serve what needs a credential of the owner's only `with_credentials`."""
        self._with_credentials = with_credentials
        self._gateway = gateway
        self._sender = sender

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Register every route."""
        for upstream, route in self._gateway.routes():
            handler = self._handler(upstream, route)
            for method in route.methods:
                router.add_route(method, route.path, handler)

    def _handler(self, upstream: str | None, route: Route) -> Handler:
        """Return what answers a route; its errors become answers of their own."""

        async def handle(request: web.Request) -> web.StreamResponse:
            with _refusals(is_mirror=route.is_mirror):
                try:
                    await self._gateway.ready(upstream)
                    await self._check_credentials(upstream)
                    asked = await _asked(request)
                    if route.kind is None or request.method != "GET":
                        answer = await route.handle(asked)
                        return await self._answer(request, answer, None)
                    answering = asyncio.ensure_future(route.handle(asked))
                    answering.add_done_callback(_seen)
                    kind = route.kind(asked.accept)
                    padded = await _padded(request, kind, answering)
                    return await self._answer(request, await answering, padded)
                except ClashError as error:
                    return web.json_response(
                        {"error": str(error), "exit_code": error.exit_code},
                        status=409,
                        reason=str(error)[:_REASON_CHARACTERS_MAX],
                    )

        return handle

    async def _check_credentials(self, upstream: str | None) -> None:
        """Refuse the pages of an upstream that is asked with a credential."""
        if self._with_credentials or upstream is None:
            return
        if await self._gateway.is_behind_credential(upstream):
            raise Refusal(403, f"{upstream} needs a credential of its owner", 6)

    async def _check_file(self, answer: FileAnswer) -> None:
        """Refuse a file that is to be had for a credential only."""
        if self._with_credentials:
            return
        if await self._gateway.is_behind_credential(answer):
            raise Refusal(403, "this file needs a credential of its owner", 6)

    async def _answer(
        self,
        request: web.Request,
        answer: Answer,
        padded: web.StreamResponse | None,
    ) -> web.StreamResponse:
        if isinstance(answer, PageAnswer):
            if padded is not None:
                await write(padded, answer.body)
                await padded.write_eof()
                return padded
            return await self._page(request, answer)
        if padded is not None:
            abort(request)  # its head promised a page
            return padded
        if isinstance(answer, MovedAnswer):
            return web.Response(status=301, headers={"Location": answer.path})
        if isinstance(answer, RelayAnswer):
            return await self._relay(request, answer)
        if isinstance(answer, PartAnswer):
            await self._check_file(answer.file)
            return _part(answer.part)
        return await self._file(request, answer)

    async def _page(
        self, request: web.Request, answer: PageAnswer
    ) -> web.StreamResponse:
        packed = None
        accepts = request.headers.get("Accept-Encoding", "")
        if "gzip" in accepts and len(answer.body) > 2000:
            packed = self._gateway.packed(answer)
        return page_response(request, answer, packed=packed)

    async def _file(
        self, request: web.Request, answer: FileAnswer
    ) -> web.StreamResponse:
        if answer.digest is None:
            raise Refusal(404, "this is not a digest that can be asked for here", 2)
        await self._check_file(answer)
        request[MOVES] = answer.moves
        if request.method == "HEAD":
            size = await self._gateway.size(answer)
            return self._sender.head(request, answer.digest, size)
        try:
            opened = await self._gateway.open(answer)
        except MissError as error:
            if not isinstance(error.cause, NotKeptError):
                raise
            return await pass_on(request, self._gateway.client, error.cause)
        found = opened.content
        request[SOURCE] = opened.source
        if isinstance(found, StreamedFile):
            try:
                response = await self._sender.stream(request, answer.digest, found)
            finally:
                found.close()
        else:
            response = await self._sender.send(request, answer.digest, found)
        if response.status in (200, 206):
            self._gateway.traffic.count(
                opened.source,
                response.content_length or 0,
                is_whole=response.status == 200,
            )
        return response

    async def _relay(
        self, request: web.Request, answer: RelayAnswer
    ) -> web.StreamResponse:
        """Pass on what the upstream answers, as it comes.

        A file is asked for again where the upstream failed for the moment.
        """
        for attempt in range(1, limits.PAGE_ATTEMPTS if answer.is_file else 1):
            async with self._gateway.client.relay(
                answer.upstream, answer.request
            ) as reply:
                wait = _pause_of(reply, attempt)
                if wait is None:
                    return await self._passed_on(request, answer, reply)
            await asyncio.sleep(wait)
        async with self._gateway.client.relay(answer.upstream, answer.request) as reply:
            return await self._passed_on(request, answer, reply)

    async def _passed_on(
        self, request: web.Request, answer: RelayAnswer, reply: OriginReply
    ) -> web.StreamResponse:
        headers = {**dict(reply.headers), "Cache-Control": "no-store"}
        if answer.is_file and _is_web_page(reply):
            raise OriginError("it sent a web page in the place of a file")
        response = web.StreamResponse(status=reply.status, headers=headers)
        await response.prepare(request)
        try:
            async for part in reply.parts():
                await write(response, part)
            await response.write_eof()
        except (OriginError, TimeoutError):
            abort(request)
        return response


def _pause_of(reply: OriginReply, attempt: int) -> float | None:
    """Return how long to wait before a file is asked for again; None to pass it on."""
    if reply.status not in PASSING:
        return None
    given = {name.lower(): text for name, text in reply.headers}.get("retry-after")
    if given is not None and not given.isdecimal():
        return None
    after = None if given is None else float(given)
    return pause_before_retry(BusyError(reply.status, after), attempt)


def _is_web_page(reply: OriginReply) -> bool:
    """Tell whether what came is a page, as a portal sends it for everything."""
    kinds = [text for name, text in reply.headers if name.lower() == "content-type"]
    return reply.status == 200 and any("text/html" in one.lower() for one in kinds)


def _part(part: OriginPart) -> web.Response:
    """Return the end of a file; without its entity tag, for it is not verified."""
    last = part.start + len(part.data) - 1
    return web.Response(
        status=206,
        body=part.data,
        headers={
            "Content-Type": "application/octet-stream",
            "Content-Range": f"bytes {part.start}-{last}/{part.size}",
            "Accept-Ranges": "bytes",
            "Cache-Control": "no-store",
        },
    )


@contextlib.contextmanager
def _refusals(*, is_mirror: bool):  # type: ignore[no-untyped-def] # a generator
    """Turn what the gateway raises into answers that keep their meaning.

    404 says that there is no such thing; where the upstream could not be asked, that
    is said, so that a client comes again. A mirror answers 404 for both: its clients
    then go on to the origin at once, where for others they would wait.
    """
    try:
        yield
    except PageMissingError as error:
        raise Refusal(404, "the upstream has no such page", 4) from error
    except UnreachableError as error:
        sentence = (
            f"the upstream index is unreachable and no cached page exists: {error}"
        )
        raise _failed(sentence, error.cause, is_mirror=is_mirror) from error
    except MissError as error:
        raise _failed(str(error), error.cause, is_mirror=is_mirror) from error
    except OriginError as error:
        raise _failed(f"the upstream: {error}", error, is_mirror=is_mirror) from error
    except NodeError as error:
        raise Refusal(404, str(error), error.exit_code) from error


def _failed(sentence: str, cause: OriginError | None, *, is_mirror: bool) -> Refusal:
    """Return the refusal for what an origin could not do."""
    if is_mirror or isinstance(cause, MissingError | ForbiddenUrlError):
        return Refusal(404, sentence, 4)
    if isinstance(cause, NotAllowedError):
        return Refusal(403, sentence, 4)
    if isinstance(cause, BusyError):
        seconds = 5 if cause.retry_after is None else math.ceil(cause.retry_after)
        status = 429 if cause.status == 429 else 503
        return Refusal(status, sentence, 4, Retry_After=str(seconds))
    return Refusal(404 if cause is None else 502, sentence, 4)


async def _padded(
    request: web.Request, kind: str, answering: asyncio.Future[Answer]
) -> web.StreamResponse | None:
    """Keep a client waiting for a page with bytes that it skips.

    Clients give up where nothing comes for 15 seconds. Returns the answer that was
    begun, or None where the page came in time.
    """
    await asyncio.wait({answering}, timeout=limits.PADDING_AFTER_SECONDS)
    if answering.done():
        return None
    response = web.StreamResponse(headers={**PAGE_HEADERS, "Content-Type": kind})
    await response.prepare(request)
    while not answering.done():
        await write(response, b"\n")
        await asyncio.wait({answering}, timeout=limits.PADDING_EVERY_SECONDS)
    if answering.cancelled() or answering.exception() is not None:
        abort(request)
    return response


def _seen(answering: asyncio.Future[Answer]) -> None:
    """See the error of an answer that no client waits for any more."""
    if not answering.cancelled():
        answering.exception()


def _base(request: web.Request) -> str:
    """Return where the client asked: the start of every URL in the answer.

    The site door says it by itself; a relay before the owner's door names its own
    address on loopback. Else it is this door, whose host has been checked.
    """
    if (base := request.get(BASE)) is not None:
        return str(base)
    given = request.headers.get("Caravan-Base", "")
    return given if _RELAY.fullmatch(given) else f"http://{request.host}"


async def _asked(request: web.Request) -> GatewayRequest:
    """Return a request as the indexes read it."""
    raw = request.rel_url.raw_path_qs
    # The last parameter, as it was written: what stands before it has no slashes more.
    known = request.match_info.route.resource
    start = known.canonical.partition("{")[0] if known is not None else ""
    return GatewayRequest(
        parameters=request.match_info,
        tail=raw.removeprefix(start),
        base=_base(request),
        accept=request.headers.get("Accept", ""),
        method=request.method,
        body=await request.read() if request.method == "POST" else b"",
        headers=request.headers,
    )
