"""Origins that answer over real HTTP, and a gateway whose client asks them."""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from node.gateway.named_file import NamedFile
from node.gateway.upstreams import Upstreams
from node.settings import UpstreamSettings
from node.web.gateway.origin_client import HttpOrigin
from tests.node.gateway.rig import Rig, rig_in
from transfer import Digest

DATA = random.Random(1).randbytes(300_000)
Answer = Callable[[BaseHTTPRequestHandler, int], None]


@contextlib.contextmanager
def serving(answer: Answer) -> Iterator[str]:
    """Answer each request with `answer(handler, its number from 1)`."""
    count = iter(range(1, 1000))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            answer(self, next(count))

        def do_HEAD(self) -> None:
            self.do_GET()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/toy.whl"
    finally:
        server.shutdown()
        server.server_close()


def send(
    handler: BaseHTTPRequestHandler, status: int, body: bytes = b"", **headers: str
) -> None:
    handler.send_response(status)
    headers = {"Content-Length": str(len(body)), **headers}
    for name, text in headers.items():
        handler.send_header(name.replace("_", "-"), text)
    handler.end_headers()
    if handler.command != "HEAD":
        handler.wfile.write(body)


@contextlib.asynccontextmanager
async def asking(tmp_path, url: str, size: int | None = None):
    """Give a rig whose client is a real one, and a file that is at `url`."""
    async with rig_in(tmp_path) as rig:
        upstreams = Upstreams({"pypi": UpstreamSettings(url, share=True)})
        client = HttpOrigin(upstreams)
        rig.gateway.sources._client = client
        rig.gateway.sources._upstreams = upstreams
        named = NamedFile("pypi", "toy", "toy.whl", url, (Digest.of(DATA),), size)
        try:
            yield rig, [named]
        finally:
            await client.close()


async def resolved(rig: Rig, named: list[NamedFile]) -> bytes:
    artifact = await rig.gateway.resolver.resolve(named[0].strong, named)
    return rig.store.read(artifact)
