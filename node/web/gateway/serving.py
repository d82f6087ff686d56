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

from aiohttp import HttpVersion11, web

from node.gateway import limits as bounds
from node.gateway.answers import PageAnswer
from node.gateway.bounded import BoundedCache
from node.gateway.resolver import MissError, StreamedFile
from node.web import limits
from node.web.gateway.ranges import (
    UnsatisfiableError,
    is_not_newer,
    matches,
    parse_range,
)
from node.web.guard import Refusal
from transfer import Artifact, Digest, Store, TransferError

MEMORY_FILE_BYTES_MAX = 256 * 1024
MEMORY_BYTES_MAX = 32 * 1024 * 1024
SEND_BYTES = 1024 * 1024
_IMMUTABLE = "public, max-age=31536000, immutable"
_FILE_TYPE = "application/octet-stream"


MOVES = web.RequestKey("moves", bool)
"""Whether the URL of a request does not hold the digest: other bytes may come to it."""


def file_headers(digest: Digest, request: web.Request) -> dict[str, str]:
    """Return what is said of a file with a digest (RFC 9530 among it)."""
    headers = {
        "ETag": f'"{digest.algorithm}-{digest.hex}"',
        "Cache-Control": "no-cache" if request.get(MOVES) else _IMMUTABLE,
        "Accept-Ranges": "bytes",
        "Content-Type": _FILE_TYPE,
    }
    if digest.algorithm in ("sha256", "sha512"):
        name = digest.algorithm.replace("sha", "sha-")
        text = base64.b64encode(digest.raw).decode()
        headers["Repr-Digest"] = f"{name}=:{text}:"
        headers["Digest"] = f"{name}={text}"  # RFC 3230, which aria2 reads
    return headers


PAGE_HEADERS = {"Cache-Control": "no-cache", "Vary": "Accept, Accept-Encoding"}


def page_response(
    request: web.Request, answer: PageAnswer, *, packed: bytes | None
) -> web.StreamResponse:
    """Return a page, or 304 where the client has it (RFC 9110, chapter 13).

    `packed` is the page as gzip has it, for a client that accepts that.
    """
    etag = _entity_tag(answer)
    headers = {**PAGE_HEADERS, "ETag": etag}
    modified = answer.page.modified if answer.page is not None else ""
    if modified:
        headers["Last-Modified"] = modified
    condition = request.headers.get("If-None-Match")
    since = request.headers.get("If-Modified-Since", "")
    if matches(condition or "", etag) or (
        condition is None and is_not_newer(modified, since)
    ):
        return web.Response(status=304, headers=headers)
    headers["Content-Type"] = answer.content_type
    if packed is not None:
        headers["Content-Encoding"] = "gzip"
    return web.Response(body=packed or answer.body, headers=headers)


def _entity_tag(answer: PageAnswer) -> str:
    """Return a page's entity tag, computed once for each form."""
    known = {} if answer.page is None else answer.page.tags
    if answer.form not in known:
        known[answer.form] = f'"{hashlib.sha256(answer.body).hexdigest()[:32]}"'
    return known[answer.form]


class FileSender:
    """Sends artifacts of one store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._memory: BoundedCache[bytes, bytes] = BoundedCache(MEMORY_BYTES_MAX, len)

    def head(
        self, request: web.Request, digest: Digest, size: int | None
    ) -> web.StreamResponse:
        """Answer a HEAD; aiohttp keeps the length that is said."""
        headers = file_headers(digest, request)
        if size is None:
            return web.StreamResponse(headers=headers)  # one that says no length
        headers["Content-Length"] = str(size)
        return web.Response(headers=headers)

    async def send(
        self, request: web.Request, digest: Digest, artifact: Artifact
    ) -> web.StreamResponse:
        """Send a verified artifact, or the part of it that was asked for."""
        answer = answer_of(request, digest, artifact.size)
        status, headers, start, end = answer
        if status not in (200, 206):
            return web.Response(status=status, headers=headers)
        if artifact.size <= MEMORY_FILE_BYTES_MAX:
            data = await self._in_memory(artifact)
            return web.Response(status=status, headers=headers, body=data[start:end])
        return await self._from_disk(request, artifact, answer)

    async def _in_memory(self, artifact: Artifact) -> bytes:
        """Return a small artifact, verified when it was read."""
        name = artifact.digest.raw
        if (data := self._memory.get(name)) is not None:
            return data
        try:
            data = await asyncio.to_thread(self._store.read, artifact)
        except TransferError as error:
            raise Refusal(404, str(error), 4) from error
        self._memory.put(name, data)
        return data

    async def _from_disk(
        self,
        request: web.Request,
        artifact: Artifact,
        answer: tuple[int, dict[str, str], int, int],
    ) -> web.StreamResponse:
        status, headers, start, end = answer
        try:
            descriptor = await asyncio.to_thread(self._store.open_checked, artifact)
        except TransferError as error:
            raise Refusal(404, str(error), 4) from error
        try:
            response = web.StreamResponse(status=status, headers=headers)
            response.content_length = end - start
            await response.prepare(request)
            await send_part(request, descriptor, offset=start, count=end - start)
            await response.write_eof()
        finally:
            os.close(descriptor)
        return response

    async def stream(
        self, request: web.Request, digest: Digest, coming: StreamedFile
    ) -> web.StreamResponse:
        """Pass on a file, or a part of it, that still comes in.

        The end of what was asked for leaves only once the whole file is right.
        """
        size = coming.size
        if size is None:
            return await self._stream_unsized(request, digest, coming)
        status, headers, start, end = answer_of(request, digest, size)
        if status not in (200, 206):
            return web.Response(status=status, headers=headers)
        if coming.is_verified and size <= MEMORY_FILE_BYTES_MAX:
            data = coming.read(MEMORY_FILE_BYTES_MAX)[start:end]
            return web.Response(status=status, headers=headers, body=data)
        response = web.StreamResponse(status=status, headers=headers)
        response.content_length = end - start
        await response.prepare(request)
        passed = hashlib.sha256()
        sent, free = start, end - _held_back(end - start)
        try:
            while sent < free:
                if not await coming.coming.wait(sent):
                    break
                block = coming.coming.read(sent, min(SEND_BYTES, free - sent))
                passed.update(block)
                await write(response, block)
                sent += len(block)
            if await coming.settled():
                await self._send_verified(response, coming, part=(sent, end))
                return response
            artifact = await coming.whole()
            _check_size(artifact, size)
            await asyncio.to_thread(
                self._check_part, artifact, part=(start, sent), passed=passed
            )
            await self._send_rest(response, artifact, part=(sent, end))
        except (MissError, TransferError, TimeoutError):
            abort(request)
        return response

    async def _send_verified(
        self,
        response: web.StreamResponse,
        coming: StreamedFile,
        *,
        part: tuple[int, int],
    ) -> None:
        """Send the end of what was verified as it came, from where it came to."""
        sent, end = part
        while sent < end:
            block = coming.coming.read(sent, min(SEND_BYTES, end - sent))
            if not block:
                raise MissError("the file became shorter")
            await write(response, block)
            sent += len(block)
        await response.write_eof()

    async def _stream_unsized(
        self, request: web.Request, digest: Digest, coming: StreamedFile
    ) -> web.StreamResponse:
        """Pass on a file whose length one peer alone vouches for.

        It goes out in chunks (RFC 9112, 7.1), so no length is promised. A client that
        wants a range, or knows no chunks, waits for the whole.
        """
        if request.headers.get("Range") or request.version < HttpVersion11:
            return await self.send(request, digest, await coming.whole())
        response = web.StreamResponse(headers=file_headers(digest, request))
        response.enable_chunked_encoding()
        await response.prepare(request)
        passed, sent = hashlib.sha256(), 0
        try:
            while await coming.coming.wait(sent + bounds.HOLD_BACK_BYTES):
                free = coming.coming.length - bounds.HOLD_BACK_BYTES - sent
                block = coming.coming.read(sent, min(SEND_BYTES, free))
                passed.update(block)
                await write(response, block)
                sent += len(block)
            artifact = await coming.whole()
            await asyncio.to_thread(
                self._check_part, artifact, part=(0, sent), passed=passed
            )
            await self._send_rest(response, artifact, part=(sent, artifact.size))
        except (MissError, TransferError, TimeoutError):
            abort(request)
        return response

    def _check_part(
        self, artifact: Artifact, *, part: tuple[int, int], passed: hashlib._Hash
    ) -> None:
        """Raise MissError if what was passed on is not that part. Blocks.

        From the start on, only the rest need be read: together they have its digest.
        """
        start, end = part
        from_start = start == 0
        found = passed.copy() if from_start else hashlib.sha256()
        place, last = (end, artifact.size) if from_start else (start, end)
        descriptor = self._store.open_checked(artifact)
        try:
            while place < last:
                block = os.pread(descriptor, min(SEND_BYTES, last - place), place)
                if not block:
                    raise MissError("the file became shorter")
                found.update(block)
                place += len(block)
        finally:
            os.close(descriptor)
        wanted = artifact.digest.raw if from_start else passed.digest()
        if found.digest() != wanted:
            raise MissError("what was sent is not that part of the file")

    async def _send_rest(
        self,
        response: web.StreamResponse,
        artifact: Artifact,
        *,
        part: tuple[int, int],
    ) -> None:
        """Send the end from the store, where the whole has been verified."""
        sent, end = part
        descriptor = await asyncio.to_thread(self._store.open_checked, artifact)
        try:
            while sent < end:
                block = os.pread(descriptor, min(SEND_BYTES, end - sent), sent)
                if not block:
                    raise MissError("the file became shorter")
                await write(response, block)
                sent += len(block)
            await response.write_eof()
        finally:
            os.close(descriptor)


def answer_of(
    request: web.Request, digest: Digest, size: int
) -> tuple[int, dict[str, str], int, int]:
    """Return the status, headers, start and end of the answer to a GET of a file."""
    headers = file_headers(digest, request)
    etag = headers["ETag"]
    if matches(request.headers.get("If-None-Match", ""), etag):
        return 304, headers, 0, 0
    if request.headers.get("If-Range", etag) == etag:
        try:
            part = parse_range(request.headers.get("Range", ""), size)
        except UnsatisfiableError:
            return 416, {**headers, "Content-Range": f"bytes */{size}"}, 0, 0
        if part is not None:
            start, end = part
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
            return 206, headers, start, end
    return 200, headers, 0, size


def _held_back(count: int) -> int:
    """Return how many of the last bytes wait until the whole is verified."""
    return max(1, min(bounds.HOLD_BACK_BYTES, count // 4))


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
    request: web.Request, descriptor: int, *, offset: int, count: int
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
        None, lambda: _send_file(socket, copy, part=(offset, count), stop=stop)
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
    socket: int, file: int, *, part: tuple[int, int], stop: list[bool]
) -> None:
    """Send with `sendfile`, waiting for room; closes both descriptors. Blocks.

    `part` is where it begins and how many bytes it has.
    """
    offset, count = part
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
