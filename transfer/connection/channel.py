"""One connection's byte stream, plaintext or TLS, for the loop or for a thread.

The event loop opens connections and waits on idle ones; a worker thread takes
one over for bulk work and gives it back. Only one party uses a channel at a
time, except `abort`, which anybody may call to wake a thread that is blocked.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import socket
import ssl
import struct
import time
from typing import TYPE_CHECKING

from transfer.connection import wire
from transfer.connection.buffers import own_buffer
from transfer.errors import PeerGoneError, PeerSlowError

if TYPE_CHECKING:
    from collections.abc import Iterator

_LOOP_READ_BYTES = 64 * 1024
_HEADER_READ_BYTES = 4096  # what is read beyond a header is copied once more
_TLS_SLICE_BYTES = 256 * 1024
_FILE_SLICE_BYTES = 4 * 1024 * 1024
_TIMEVAL = struct.Struct("ll")


class Channel:
    """Frames and raw bytes over one connected socket."""

    def __init__(self, sock: socket.socket, frame_bytes_max: int) -> None:
        sock.setblocking(False)
        self.frame_bytes_max = frame_bytes_max
        self._sock = sock
        self._buffer = bytearray()
        self._blocking = False
        self._patience = 0.0
        self._aborted = False

    # For the event loop.

    async def start_tls(self, context: ssl.SSLContext, *, seeder: bool) -> None:
        """Put TLS around the socket; raises ssl.SSLError or OSError."""
        plain = self._sock
        self._sock = context.wrap_socket(
            plain, server_side=seeder, do_handshake_on_connect=False
        )
        while True:
            try:
                return self._sock.do_handshake()
            except ssl.SSLWantReadError:
                await self._ready(write=False)
            except ssl.SSLWantWriteError:
                await self._ready(write=True)

    def detach(self) -> socket.socket:
        """Return the plain socket, which belongs to the caller from now on."""
        return self._sock

    def fileno(self) -> int:
        """Return the socket's descriptor."""
        return self._sock.fileno()

    def certificate(self) -> bytes | None:
        """Return the peer's certificate in DER, or None without TLS."""
        if isinstance(self._sock, ssl.SSLSocket):
            return self._sock.getpeercert(binary_form=True)
        return None

    async def read_frame(self) -> wire.AnyMessage:
        """Read one message; raises PeerGoneError, WireError or OSError."""
        while (message := self._buffered_frame()) is None:
            await self._fill()
        return message

    async def read_exactly(self, count: int) -> bytes:
        """Read `count` bytes; for small amounts."""
        while len(self._buffer) < count:
            await self._fill()
        data = bytes(self._buffer[:count])
        del self._buffer[:count]
        return data

    async def read_some(self, count: int) -> bytes:
        """Read at least one byte and at most `count`."""
        if not self._buffer:
            await self._fill()
        data = bytes(self._buffer[:count])
        del self._buffer[:count]
        return data

    async def read_magic(self, count: int) -> bytes:
        """Read `count` bytes and none of those behind them, which TLS will read."""
        data = b""
        while len(data) < count:
            try:
                part = self._sock.recv(count - len(data))
            except BlockingIOError:
                await self._ready(write=False)
                continue
            if not part:
                raise PeerGoneError
            data += part
        return data

    async def write(self, data: bytes) -> None:
        """Send all of `data`."""
        view = memoryview(data)
        while view:
            try:
                view = view[self._sock.send(view) :]
            except (BlockingIOError, ssl.SSLWantWriteError):
                await self._ready(write=True)
            except ssl.SSLWantReadError:
                await self._ready(write=False)

    async def drain(self, bytes_max: int) -> None:
        """Read and forget until the peer closes or `bytes_max` have come."""
        try:
            while bytes_max > 0:
                bytes_max -= len(self._buffer)
                self._buffer.clear()
                await self._fill()
        except PeerGoneError:
            return

    async def wait_readable(self) -> None:
        """Wait until a read would not wait."""
        if not self.has_buffered:
            await self._ready(write=False)

    async def _fill(self) -> None:
        while True:
            try:
                data = self._sock.recv(_LOOP_READ_BYTES)
            except (BlockingIOError, ssl.SSLWantReadError):
                await self._ready(write=False)
            except ssl.SSLWantWriteError:
                await self._ready(write=True)
            else:
                break
        if not data:
            raise PeerGoneError
        self._buffer += data

    async def _ready(self, *, write: bool) -> None:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        descriptor = self._sock.fileno()
        if self._aborted or descriptor < 0:
            raise PeerGoneError
        if write:
            loop.add_writer(descriptor, _set, future)
        else:
            loop.add_reader(descriptor, _set, future)
        try:
            await future
        finally:
            if write:
                loop.remove_writer(descriptor)
            else:
                loop.remove_reader(descriptor)

    # For a worker thread.

    def enter_thread(self, timeout: float, patience: float | None = None) -> None:
        """Make the socket blocking; one send or receive waits `timeout` seconds.

        A frame may take `patience` seconds from its first byte on, or as long as one
        wait where that is None.
        """
        self._patience = timeout if patience is None else patience
        if isinstance(self._sock, ssl.SSLSocket):
            self._sock.settimeout(timeout)
        else:
            # A blocking socket with the kernel's timeouts can receive a whole
            # chunk in one call; Python's own timeouts would poll before each.
            value = _TIMEVAL.pack(int(timeout), int(timeout % 1 * 1e6))
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, value)
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, value)
            self._sock.settimeout(None)
        self._blocking = True

    def leave_thread(self) -> None:
        """Make the socket ready for the event loop again."""
        self._sock.setblocking(False)
        self._blocking = False

    def receive_frame(self, wait: float) -> wire.AnyMessage | None:
        """Receive one message; None where nothing at all came for `wait` seconds.

        Raises PeerGoneError, PeerSlowError (a frame cut in the middle for too
        long), WireError or OSError.
        """
        began: float | None = None
        while (message := self._buffered_frame()) is None:
            if not self._buffer and not self._poll(wait):
                return None
            began = time.monotonic() if began is None else began
            if self._receive_some(began) == 0:
                raise PeerGoneError
        return message

    def next_frame(self) -> wire.AnyMessage | None:
        """Return a message that has come already, or None; raises WireError."""
        return self._buffered_frame()

    def receive_some(self, view: memoryview) -> int:
        """Wait for bytes, put into `view` what there is and return its length.

        Raises PeerGoneError, PeerSlowError or OSError.
        """
        if count := min(len(self._buffer), len(view)):
            view[:count] = self._buffer[:count]
            del self._buffer[:count]
            return count
        try:
            count = self._sock.recv_into(view)
        except (BlockingIOError, TimeoutError, ssl.SSLWantReadError):
            raise PeerSlowError from None
        if not count:
            raise PeerGoneError
        return count

    def receive_parts(self, view: memoryview, pace: Pace) -> Iterator[int]:
        """Fill `view` with raw bytes; yield how many came, each time some did.

        Raises PeerGoneError, PeerSlowError or OSError.
        """
        done = min(len(self._buffer), len(view))
        view[:done] = self._buffer[:done]
        del self._buffer[:done]
        if done:
            yield done
        flags = 0 if isinstance(self._sock, ssl.SSLSocket) else socket.MSG_WAITALL
        while done < len(view):
            try:
                count = self._sock.recv_into(view[done:], 0, flags)
            except (BlockingIOError, TimeoutError, ssl.SSLWantReadError):
                pace.count(0)
                continue
            if not count:
                raise PeerGoneError
            done += count
            pace.count(count)
            yield count

    def send(self, data: bytes | memoryview, *, more: bool = False) -> None:
        """Send all of `data`; `more` says that the rest follows at once."""
        plain = not isinstance(self._sock, ssl.SSLSocket)
        flags = socket.MSG_MORE if more and plain else 0
        view = memoryview(data)
        while view:
            try:
                view = view[self._sock.send(view, flags) :]
            except (BlockingIOError, TimeoutError, ssl.SSLWantWriteError):
                raise PeerSlowError from None

    def _receive_some(self, began: float) -> int | None:
        """Receive into the buffer; None if nothing came in time, 0 at the end."""
        try:
            data = self._sock.recv(_HEADER_READ_BYTES)
        except (BlockingIOError, TimeoutError, ssl.SSLWantReadError):
            if time.monotonic() - began < self._patience:
                return None
            raise PeerSlowError from None
        self._buffer += data
        return len(data)

    def _poll(self, wait: float) -> bool:
        if self.has_buffered:
            return True
        poll = select.poll()
        poll.register(self._sock.fileno(), select.POLLIN)
        return bool(poll.poll(wait * 1000))

    # For a worker thread that must not wait: the socket stays non-blocking.

    def read_available(self) -> bool:
        """Take in what has come; False if nothing has.

        Raise PeerGoneError or OSError.
        """
        try:
            data = self._sock.recv(_HEADER_READ_BYTES)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return False
        if not data:
            raise PeerGoneError
        self._buffer += data
        return True

    def try_send(self, data: bytes | memoryview, *, more: bool = False) -> int:
        """Send what fits, and return how much; 0 if the peer has to read first.

        With TLS, the next call after 0 must offer the same bytes again.
        """
        plain = not isinstance(self._sock, ssl.SSLSocket)
        flags = socket.MSG_MORE if more and plain else 0
        try:
            return self._sock.send(data, flags)
        except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
            return 0

    def try_send_file(self, descriptor: int, offset: int, count: int) -> int:
        """Send what fits of a file, by sendfile without TLS; as `try_send`.

        Raise PeerGoneError if the file is shorter than that.
        """
        if isinstance(self._sock, ssl.SSLSocket):
            part = own_buffer()[: min(count, _TLS_SLICE_BYTES)]
            if os.preadv(descriptor, [part], offset) != len(part):
                raise PeerGoneError("The file became shorter while it was sent.")
            return self.try_send(part)
        try:
            sent = os.sendfile(
                self._sock.fileno(), descriptor, offset, min(count, _FILE_SLICE_BYTES)
            )
        except BlockingIOError:
            return 0
        if not sent:
            raise PeerGoneError("The file became shorter while it was sent.")
        return sent

    def wait(self, seconds: float, *, write: bool) -> bool:
        """Wait until the peer has read, or has sent; False if it has not."""
        if not write and self.has_buffered:
            return True
        poll = select.poll()
        poll.register(self._sock.fileno(), select.POLLOUT if write else select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    # For both.

    @property
    def has_buffered(self) -> bool:
        """Whether bytes were received that nobody has taken yet."""
        if self._buffer:
            return True
        return isinstance(self._sock, ssl.SSLSocket) and self._sock.pending() > 0

    def has_frame(self) -> bool:
        """Whether a whole frame was received; raise WireError if none may be."""
        if len(self._buffer) < wire.LENGTH_BYTES:
            return False
        length = wire.body_length(self._buffer, self.frame_bytes_max)
        return len(self._buffer) >= wire.LENGTH_BYTES + length

    def abort(self) -> None:
        """End the stream from any thread; waiting callers are woken."""
        self._aborted = True
        # Not SSLSocket.shutdown: that one drops the TLS state under a reader.
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self._sock, socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the socket; its owner calls this, and nobody uses it any more."""
        self._aborted = True
        with contextlib.suppress(OSError):
            self._sock.close()

    def _buffered_frame(self) -> wire.AnyMessage | None:
        buffer = self._buffer
        if len(buffer) < wire.LENGTH_BYTES:
            return None
        length = wire.body_length(buffer, self.frame_bytes_max)
        end = wire.LENGTH_BYTES + length
        if len(buffer) < end:
            return None
        body = bytes(buffer[wire.LENGTH_BYTES : end])
        del buffer[:end]
        return wire.decode(body)


class Pace:
    """Watches that bytes keep coming; no peer may drip them one by one."""

    def __init__(self, window_seconds: float, bytes_per_second_min: int) -> None:
        self._window = window_seconds
        self._bytes_min = window_seconds * bytes_per_second_min
        self._since = time.monotonic()
        self._bytes = 0

    def count(self, count: int) -> None:
        """Count bytes; PeerSlowError where a whole window brought too few."""
        self._bytes += count
        now = time.monotonic()
        if now - self._since < self._window:
            return
        if self._bytes < self._bytes_min:
            raise PeerSlowError
        self._since = now
        self._bytes = 0


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
