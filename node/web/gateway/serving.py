"""Sends files: whole, in part, from memory or disk, and while they still come in.

No client ever gets a complete wrong file: what leaves is either verified, or its end
is held back until the whole is, and the connection is cut where it is not.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import select
import time
from collections import OrderedDict

from aiohttp import web

from node.gateway import limits as bounds
from node.gateway.resolver import MissError, OnItsWay
from node.web import limits
from node.web.gateway.ranges import UnsatisfiableError, matches, parse_range
from node.web.guard import Refusal
from transfer import Artifact, Digest, Store, TransferError

MEMORY_FILE_BYTES_MAX = 256 * 1024
MEMORY_BYTES_MAX = 32 * 1024 * 1024
SEND_BYTES = 1024 * 1024
_IMMUTABLE = "public, max-age=31536000, immutable"
_FILE_TYPE = "application/octet-stream"


def file_headers(digest: Digest) -> dict[str, str]:
    """Return what is said of a file named by its digest (RFC 9530 among it)."""
    headers = {
        "ETag": f'"{digest.algorithm}-{digest.hex}"',
        "Cache-Control": _IMMUTABLE,
        "Accept-Ranges": "bytes",
        "Content-Type": _FILE_TYPE,
    }
    if digest.algorithm in ("sha256", "sha512"):
        name = digest.algorithm.replace("sha", "sha-")
        text = base64.b64encode(digest.raw).decode()
        headers["Repr-Digest"] = f"{name}=:{text}:"
        headers["Digest"] = f"{name}={text}"  # RFC 3230, which aria2 reads
    return headers


def page_response(
    request: web.Request, body: bytes, content_type: str
) -> web.StreamResponse:
    """Return a page with an entity tag, or 304 where the client has it."""
    etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = {"ETag": etag, "Cache-Control": "no-cache", "Vary": "Accept"}
    if matches(request.headers.get("If-None-Match", ""), etag):
        return web.Response(status=304, headers=headers)
    return web.Response(body=body, headers={**headers, "Content-Type": content_type})


class FileSender:
    """Sends artifacts of one store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._memory: OrderedDict[bytes, bytes] = OrderedDict()
        self._memory_bytes = 0

    def head(self, digest: Digest, size: int | None) -> web.StreamResponse:
        """Answer a HEAD; aiohttp keeps the length that is said."""
        headers = file_headers(digest)
        if size is not None:
            headers["Content-Length"] = str(size)
        return web.Response(headers=headers)

    async def send(
        self, request: web.Request, digest: Digest, artifact: Artifact
    ) -> web.StreamResponse:
        """Send a verified artifact, or the part of it that was asked for."""
        headers = file_headers(digest)
        etag = headers["ETag"]
        if matches(request.headers.get("If-None-Match", ""), etag):
            return web.Response(status=304, headers=headers)
        status, start, end = 200, 0, artifact.size
        if request.headers.get("If-Range", etag) == etag:
            try:
                part = parse_range(request.headers.get("Range", ""), artifact.size)
            except UnsatisfiableError:
                headers["Content-Range"] = f"bytes */{artifact.size}"
                return web.Response(status=416, headers=headers)
            if part is not None:
                status, (start, end) = 206, part
                headers["Content-Range"] = f"bytes {start}-{end - 1}/{artifact.size}"
        if artifact.size <= MEMORY_FILE_BYTES_MAX:
            data = await self._in_memory(artifact)
            return web.Response(status=status, headers=headers, body=data[start:end])
        return await self._from_disk(request, artifact, status, headers, start, end)

    async def _in_memory(self, artifact: Artifact) -> bytes:
        """Return a small artifact, verified when it was read."""
        name = artifact.digest.raw
        if (data := self._memory.get(name)) is not None:
            self._memory.move_to_end(name)
            return data
        try:
            data = await asyncio.to_thread(self._store.read, artifact)
        except TransferError as error:
            raise Refusal(404, str(error), 4) from error
        if name not in self._memory:
            self._memory[name] = data
            self._memory_bytes += len(data)
        while self._memory_bytes > MEMORY_BYTES_MAX:
            self._memory_bytes -= len(self._memory.popitem(last=False)[1])
        return data

    async def _from_disk(
        self,
        request: web.Request,
        artifact: Artifact,
        status: int,
        headers: dict[str, str],
        start: int,
        end: int,
    ) -> web.StreamResponse:
        try:
            descriptor = await asyncio.to_thread(self._store.open_checked, artifact)
        except TransferError as error:
            raise Refusal(404, str(error), 4) from error
        try:
            response = web.StreamResponse(status=status, headers=headers)
            response.content_length = end - start
            await response.prepare(request)
            await send_part(request, descriptor, start, end - start)
            await response.write_eof()
        finally:
            os.close(descriptor)
        return response

    async def stream(
        self, request: web.Request, digest: Digest, coming: OnItsWay
    ) -> web.StreamResponse:
        """Pass on a file that still comes in, its end only once the whole is right."""
        size = coming.arrival.size
        response = web.StreamResponse(headers=file_headers(digest))
        response.content_length = size
        await response.prepare(request)
        passed = hashlib.sha256()
        sent = 0
        try:
            while sent < size - bounds.HOLD_BACK_BYTES:
                if not await coming.arrival.wait(sent):
                    break
                room = min(SEND_BYTES, size - bounds.HOLD_BACK_BYTES - sent)
                block = coming.arrival.read(sent, room)
                passed.update(block)
                await write(response, block)
                sent += len(block)
            artifact = await coming.whole()
            _check_size(artifact, size)
            await self._send_rest(response, artifact, passed, sent)
        except (MissError, TransferError, TimeoutError):
            abort(request)
        return response

    async def _send_rest(
        self,
        response: web.StreamResponse,
        artifact: Artifact,
        passed: hashlib._Hash,
        sent: int,
    ) -> None:
        """Send the end from the store, if it belongs to what was sent before it."""
        descriptor = await asyncio.to_thread(self._store.open_checked, artifact)
        try:
            while sent < artifact.size:
                block = os.pread(descriptor, SEND_BYTES, sent)
                passed.update(block)
                sent += len(block)
                if not block or (
                    sent == artifact.size and passed.digest() != artifact.digest.raw
                ):
                    raise MissError("what was sent is not the start of the file")
                await write(response, block)
            await response.write_eof()
        finally:
            os.close(descriptor)


def _check_size(artifact: Artifact, promised: int) -> None:
    if artifact.size != promised:
        raise MissError("peers have named a wrong size")


async def write(response: web.StreamResponse, data: bytes) -> None:
    """Write to a client that must keep reading."""
    async with asyncio.timeout(limits.WRITE_SECONDS_MAX):
        await response.write(data)


def abort(request: web.Request) -> None:
    """Cut the connection short of what was promised."""
    if request.transport is not None:
        request.transport.abort()


async def send_part(
    request: web.Request, descriptor: int, offset: int, count: int
) -> None:
    """Send bytes of an open file straight from the kernel, in a thread.

    The event loop may have no `sendfile` of its own (uvloop has none). Cuts the
    connection of a client that reads too slowly.
    """
    transport = request.transport
    if transport is None:
        raise ConnectionResetError("the client went away")
    deadline = time.monotonic() + limits.WRITE_SECONDS_MAX
    while transport.get_write_buffer_size():
        if time.monotonic() > deadline or transport.is_closing():
            abort(request)
            raise ConnectionResetError("the client does not read")
        await asyncio.sleep(0)
    socket = os.dup(transport.get_extra_info("socket").fileno())
    copy = os.dup(descriptor)
    stop = [False]
    future = asyncio.get_running_loop().run_in_executor(
        None, _send_file, socket, copy, offset, count, stop
    )
    try:
        await asyncio.shield(future)
    except asyncio.CancelledError:
        stop[0] = True
        abort(request)
        raise
    except OSError:
        abort(request)
        raise


def _send_file(
    socket: int, file: int, offset: int, count: int, stop: list[bool]
) -> None:
    """Send with `sendfile`, waiting for room; closes both descriptors. Blocks."""
    end = offset + count
    try:
        ready = select.poll()
        ready.register(socket, select.POLLOUT)
        deadline = time.monotonic() + limits.WRITE_SECONDS_MAX
        while offset < end and not stop[0]:
            try:
                sent = os.sendfile(socket, file, offset, end - offset)
            except BlockingIOError:
                ready.poll(250)
                if time.monotonic() > deadline:
                    raise ConnectionResetError("the client does not read") from None
                continue
            if not sent:
                raise ConnectionResetError("the file became shorter")
            offset += sent
            deadline = time.monotonic() + limits.WRITE_SECONDS_MAX
    finally:
        os.close(socket)
        os.close(file)
