"""The gateway's routes: URLs and headers of package managers, nothing decided here."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import TypeVar

from aiohttp import web

from node.errors import NodeError
from node.gateway import limits, urls
from node.gateway.npm.index import SHORT_TYPE, split_path
from node.gateway.page_cache import NamedFile
from node.gateway.pages import PageMissingError, UnreachableError
from node.gateway.published import ClashError
from node.gateway.python import simple
from node.gateway.resolver import OnItsWay
from node.gateway.service import Gateway
from node.settings import UPSTREAM_NAMES
from node.web.gateway.serving import FileSender, page_response
from node.web.guard import Refusal
from transfer import Digest

T = TypeVar("T")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_REASON_CHARACTERS_MAX = 300
_RELAY = re.compile(r"http://127\.0\.0\.1:[0-9]{1,5}")


class GatewayRoutes:
    """Adds the gateway to the door."""

    def __init__(self, gateway: Gateway, *, with_credentials: bool = True) -> None:
        """Serve what needs a credential of the owner's only `with_credentials`."""
        self._gateway = gateway
        self._with_credentials = with_credentials
        self._sender = FileSender(gateway.store)

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Register every route; all of them only read."""
        routes: dict[str, Handler] = {
            "/blob/{algorithm}/{hex}": self._blob,
            "/blob/{algorithm}/{hex}/{name}": self._blob,
            "/.well-known/ni/{algorithm}/{text}": self._ni,
            "/opam/{algorithm}/{folder}/{hex}": self._opam,
            "/opam/published/index.tar.gz": self._opam_index,
            "/opam/published/{path:packages/.+}": self._opam_file,
            "/pypi/simple/{name}": self._project_without_slash,
            "/pypi/simple/{name}/": self._project,
            "/pypi/files/{algorithm}/{hex}/{name}": self._python_file,
            "/packages/{one}/{two}/{rest}/{name}": self._pool,
            "/cargo/index/config.json": self._crate_config,
            "/cargo/index/{path:.+}": self._crate,
            "/npm/{path:.+}": self._npm,
            "/debian/{path:.+}": self._debian,
        }
        for path, handler in routes.items():
            router.add_get(path, _told(self._gateway, self._guarded(handler)))

    def _guarded(self, handler: Handler) -> Handler:
        """Refuse the pages of an upstream that is asked with a credential."""
        if self._with_credentials:
            return handler

        async def handle(request: web.Request) -> web.StreamResponse:
            resource = request.match_info.route.resource
            path = "" if resource is None else resource.canonical
            for name in UPSTREAM_NAMES:
                if f"/{name}/" in path and self._gateway.upstreams.needs_credential(
                    name
                ):
                    raise Refusal(403, f"{name} needs a credential of its owner", 6)
            return await handler(request)

        return handle

    # --- files by digest -------------------------------------------------------------

    async def _blob(self, request: web.Request) -> web.StreamResponse:
        info = request.match_info
        digest = urls.blob_digest(info["algorithm"], info["hex"])
        return await self._file(request, digest)

    async def _ni(self, request: web.Request) -> web.StreamResponse:
        info = request.match_info
        return await self._file(
            request, urls.ni_digest(info["algorithm"], info["text"])
        )

    async def _opam(self, request: web.Request) -> web.StreamResponse:
        info = request.match_info
        digest = urls.opam_digest(info["algorithm"], info["folder"], info["hex"])
        if digest is not None and self._gateway.resolver.held(digest) is None:
            await self._gateway.opam.learn()
        return await self._file(request, digest)

    async def _opam_index(self, request: web.Request) -> web.StreamResponse:
        body = await self._gateway.opam_published.packed(_base(request))
        return page_response(request, body, "application/gzip")

    async def _opam_file(self, request: web.Request) -> web.StreamResponse:
        text = await self._gateway.opam_published.opam_file(
            request.match_info["path"], _base(request)
        )
        return page_response(request, text.encode(), "text/plain; charset=utf-8")

    async def _pool(self, request: web.Request) -> web.StreamResponse:
        info = request.match_info
        digest = urls.pool_digest(info["one"], info["two"], info["rest"])
        return await self._file(request, digest)

    async def _file(
        self,
        request: web.Request,
        digest: Digest | None,
        named: Sequence[NamedFile] | None = None,
    ) -> web.StreamResponse:
        if digest is None:
            raise Refusal(404, "this is not a digest that can be asked for here", 2)
        gateway = self._gateway
        if not self._with_credentials and gateway.is_behind_credential(
            digest, gateway.named(digest) if named is None else named
        ):
            raise Refusal(403, "this file needs a credential of its owner", 6)
        if named is None:
            held = gateway.resolver.held(digest)
            if held is not None and request.method == "GET":
                return await self._sender.send(request, digest, held)
            named = gateway.named(digest)
        if request.method == "HEAD":
            return self._sender.head(digest, await gateway.size(digest, named))
        found = await gateway.resolver.open(digest, named)
        if not isinstance(found, OnItsWay):
            return await self._sender.send(request, digest, found)
        try:
            return await self._sender.stream(request, digest, found)
        finally:
            found.close()

    # --- Python -----------------------------------------------------------------

    async def _project_without_slash(self, request: web.Request) -> web.StreamResponse:
        name = _project_name(request)
        return web.Response(
            status=301, headers={"Location": f"../simple/{simple.normalized(name)}/"}
        )

    async def _project(self, request: web.Request) -> web.StreamResponse:
        project = await _soon(self._gateway.pypi.project(_project_name(request)))
        kind = _simple_type(request.headers.get("Accept", ""))
        if kind == simple.JSON_TYPE:
            return page_response(request, simple.write_json(project), kind)
        return page_response(request, simple.write_html(project), kind)

    async def _python_file(self, request: web.Request) -> web.StreamResponse:
        info = request.match_info
        digest = urls.blob_digest(info["algorithm"], info["hex"])
        name = info["name"]
        if digest is None or not name.endswith(f".whl{simple.METADATA}"):
            return await self._file(request, digest)
        data = await self._gateway.pypi.metadata(
            digest, name.removesuffix(simple.METADATA), self._gateway.named(digest)
        )
        return page_response(request, data, "text/plain; charset=utf-8")

    # --- cargo, npm and apt -----------------------------------------------------

    async def _crate_config(self, request: web.Request) -> web.StreamResponse:
        body = self._gateway.cargo.config(_base(request))
        return page_response(request, body, "application/json")

    async def _crate(self, request: web.Request) -> web.StreamResponse:
        body = await _soon(self._gateway.cargo.crate(request.match_info["path"]))
        return page_response(request, body, "text/plain; charset=utf-8")

    async def _npm(self, request: web.Request) -> web.StreamResponse:
        name, file = split_path(request.rel_url.raw_path.partition("/npm/")[2])
        npm = self._gateway.npm
        if file is not None:
            digest, named = await _soon(npm.tarball(name, file))
            return await self._file(request, digest, named)
        short = SHORT_TYPE in request.headers.get("Accept", "")
        body = await _soon(npm.packument(name, _base(request), short=short))
        kind = SHORT_TYPE if short else "application/json"
        return page_response(request, body, kind)

    async def _debian(self, request: web.Request) -> web.StreamResponse:
        path, debian = request.match_info["path"], self._gateway.debian
        page = await debian.signed(path)
        if page is not None:
            return page_response(request, page.body, "text/plain; charset=utf-8")
        named = await debian.named(path)
        if request.method == "GET" and path.startswith("dists/"):
            artifact = await self._gateway.resolver.resolve(named.strong, [named])
            await debian.learn(path, artifact)
        return await self._file(request, named.strong, [named])


def _told(gateway: Gateway, handler: Handler) -> Handler:
    """Turn what the gateway raises into answers that clients understand.

    A miss is always 404: clients then go on to the origin at once, where for 503 they
    would ask again and again.
    """

    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            await gateway.ready()
            return await handler(request)
        except PageMissingError as error:
            raise Refusal(404, "the upstream has no such page", 4) from error
        except UnreachableError as error:
            raise Refusal(404, f"the upstream cannot be asked: {error}", 4) from error
        except ClashError as error:
            return web.json_response(
                {"error": str(error), "exit_code": error.exit_code},
                status=409,
                reason=str(error)[:_REASON_CHARACTERS_MAX],
            )
        except NodeError as error:
            raise Refusal(404, str(error), error.exit_code) from error

    return handle


async def _soon(work: Coroutine[None, None, T]) -> T:
    """Give up on a page before its client does; what was begun for it goes on."""
    try:
        async with asyncio.timeout(limits.PAGE_ANSWER_SECONDS_MAX):
            return await work
    except TimeoutError as error:
        raise UnreachableError("it did not answer in time") from error


def _base(request: web.Request) -> str:
    """Return where the client asked: the start of every URL in the answer.

    The site door says it by itself; a relay before the owner's door names its own
    address on loopback. Else it is this door, whose host has been checked.
    """
    if (base := request.get("base")) is not None:
        return str(base)
    given = request.headers.get("Caravan-Base", "")
    return given if _RELAY.fullmatch(given) else f"http://{request.host}"


def _project_name(request: web.Request) -> str:
    name = request.match_info["name"]
    if not simple.NAME.fullmatch(name):
        raise Refusal(404, "this is not the name of a project", 2)
    return name


def _simple_type(accept: str) -> str:
    """Return the form in which a client wants a project's page (PEP 691)."""
    if (
        simple.JSON_TYPE in accept
        or "application/vnd.pypi.simple.latest+json" in accept
    ):
        return simple.JSON_TYPE
    if simple.HTML_TYPE in accept:
        return simple.HTML_TYPE
    return "text/html; charset=utf-8"
