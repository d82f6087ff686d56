"""Files for which this node has no room: passed on from their origin, not kept."""

from __future__ import annotations

from aiohttp import web

from node.gateway import limits
from node.gateway.origin import (
    NotKeptError,
    OriginClient,
    OriginError,
    RelayRequest,
)
from node.web.gateway.serving import abort, write
from transfer.content.digest import new_hash

_HEADERS = ("content-type", "content-length")


async def pass_on(
    request: web.Request, client: OriginClient, unkept: NotKeptError
) -> web.StreamResponse:
    """Answer with a file as its origin sends it; OriginError.

    The last bytes are held back until all have the digest, so that no client holds a
    complete wrong file.
    """
    digest = unkept.named.strong
    relayed = RelayRequest(unkept.named.url)
    async with client.relay(unkept.upstream, relayed) as reply:
        if reply.status != 200:
            raise OriginError(f"it answered with HTTP status {reply.status}")
        headers = {
            name: text for name, text in reply.headers if name.lower() in _HEADERS
        }
        headers["Cache-Control"] = "no-store"
        response = web.StreamResponse(headers=headers)
        await response.prepare(request)
        hashed, held = new_hash(digest.algorithm), bytearray()
        try:
            async for part in reply.parts():
                hashed.update(part)
                held += part
                if (free := len(held) - limits.HOLD_BACK_BYTES) > 0:
                    await write(response, bytes(held[:free]))
                    del held[:free]
        except (OriginError, TimeoutError):
            abort(request)
            return response
        if hashed.digest() != digest.raw:
            abort(request)
            return response
        await write(response, bytes(held))
        await response.write_eof()
        return response
