"""The dashboard: one page for the owner, with live figures.

`/` is the page, `/login/CODE` signs a browser in (see `node.web.sessions`), `/static/`
holds what the page is made of, and `/api/live` is a stream of server-sent events. The
page asks for everything else with the commands of the API. Without the cookie there is
nothing to see.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import shutil
import time
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import web

from node.commands import PeersCommand, StatusCommand, TransfersCommand
from node.errors import NodeError
from node.model.names import is_file_name
from node.web import limits
from node.web.guard import Refusal
from node.web.recent_log import RecentLog
from node.web.sessions import COOKIE, IDLE_SECONDS_MAX, Sessions

if TYPE_CHECKING:
    from pathlib import Path

    from node.web.api import Runs

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
_LIVE_SECONDS = 1.0
_LIVE_MAX = 8
_PEERS_EVERY = 3  # events
_BLOCK_BYTES = 1024 * 1024
_UPLOAD_SECONDS_MAX = 3600.0


class Dashboard:
    """The page, its stream of figures, and who is signed in."""

    def __init__(self, node: Runs, uploads: Path | None = None) -> None:
        """Show a node; files that are dropped on the page go to `uploads` first."""
        self._node = node
        self._sessions = Sessions()
        self._live = 0
        self._uploads = uploads
        self.log = RecentLog()

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Register the routes."""
        router.add_get("/", self._page)
        router.add_get("/login/{code}", self._login)
        router.add_get("/static/{name}", self._static)
        router.add_get("/api/live", self._stream)
        router.add_post("/api/upload", self._upload)

    def new_link(self) -> str:
        """Return a URL that signs one browser in, within a minute."""
        code = self._sessions.new_code(time.monotonic())
        return f"http://{self._node.describe().web}/login/{code}"

    def is_owner(self, request: web.BaseRequest) -> bool:
        """Tell whether a request carries the cookie of a signed-in browser."""
        cookie = request.cookies.get(COOKIE, "")
        return bool(cookie) and self._sessions.is_signed_in(cookie, time.monotonic())

    async def _page(self, request: web.Request) -> web.Response:
        return _static_response("index.html" if self.is_owner(request) else "out.html")

    async def _login(self, request: web.Request) -> web.Response:
        code = request.match_info["code"]
        cookie = self._sessions.sign_in(code, time.monotonic())
        if cookie is None:
            response = _static_response("out.html")
            response.set_status(403)
            return response
        # A page rather than a redirect: a strict cookie does not travel with the
        # redirect of a link that another program opened.
        response = _static_response("in.html")
        response.set_cookie(
            COOKIE,
            cookie,
            max_age=int(IDLE_SECONDS_MAX),
            path="/",
            httponly=True,
            samesite="Strict",
        )
        return response

    async def _static(self, request: web.Request) -> web.Response:
        return _static_response(request.match_info["name"])

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        """Write the node's figures every second, while somebody looks."""
        if not self.is_owner(request):
            raise Refusal(401, "sign in with `caravan open`", 3)
        if self._live >= _LIVE_MAX:
            raise Refusal(503, "too many pages are open")
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        self._live += 1
        try:
            await response.prepare(request)
            turn = seen = 0
            while True:
                figures = await self._figures(turn)
                lines = figures["log"] = self.log.since(seen)
                seen = lines[-1].number if lines else seen
                event = msgspec.json.encode(figures)
                async with asyncio.timeout(limits.WRITE_SECONDS_MAX):
                    await response.write(b"data: %s\n\n" % event)
                turn += 1
                await asyncio.sleep(_LIVE_SECONDS)
        except (ConnectionError, TimeoutError):
            return response
        finally:
            self._live -= 1

    async def _figures(self, turn: int) -> dict[str, Any]:
        figures: dict[str, Any] = {"at": time.time()}
        with contextlib.suppress(NodeError):
            figures["status"] = await self._node.run(StatusCommand(), _ignore)
        with contextlib.suppress(NodeError):
            transfers = await self._node.run(TransfersCommand(), _ignore)
            figures["transfers"] = transfers.transfers
        if turn % _PEERS_EVERY == 0:
            with contextlib.suppress(NodeError):
                figures["peers"] = await self._node.run(PeersCommand(), _ignore)
        return figures

    async def _upload(self, request: web.Request) -> web.Response:
        """Take a file that was dropped on the page; return its path for a command."""
        if not self.is_owner(request):
            raise Refusal(401, "sign in with `caravan open`", 3)
        name = request.query.get("name", "")
        if self._uploads is None or not is_file_name(name):
            raise Refusal(400, f"{name!r} cannot be the name of a file", 2)
        await asyncio.to_thread(_remove_old, self._uploads)
        folder = self._uploads / secrets.token_hex(8)
        path = folder / name
        try:
            await asyncio.to_thread(folder.mkdir, mode=0o700, parents=True)
            with await asyncio.to_thread(path.open, "xb") as file:
                async for block in request.content.iter_chunked(_BLOCK_BYTES):
                    await asyncio.to_thread(file.write, block)
        except OSError as error:
            raise Refusal(507, f"cannot write {name}: {error.strerror}") from error
        return web.json_response({"path": str(path)})


def _remove_old(uploads: Path) -> None:
    """Remove uploads that are older than any command on them."""
    with contextlib.suppress(FileNotFoundError):
        for folder in uploads.iterdir():
            if time.time() - folder.stat().st_mtime > _UPLOAD_SECONDS_MAX:
                shutil.rmtree(folder, ignore_errors=True)


def _static_response(name: str) -> web.Response:
    """Return one of the page's files; Refusal where there is none of this name."""
    kind = _TYPES.get(name.rpartition(".")[2])
    path = files("node.web") / "static" / name
    if kind is None or "/" in name or not path.is_file():
        raise Refusal(404, "there is nothing here", 2)
    return web.Response(
        body=path.read_bytes(),
        headers={
            "Content-Type": kind,
            "Content-Security-Policy": CONTENT_SECURITY_POLICY,
            "Cache-Control": "no-store" if kind == _TYPES["html"] else "no-cache",
        },
    )


def _ignore(_event: dict[str, object]) -> None:
    """Drop progress that nobody waits for."""
