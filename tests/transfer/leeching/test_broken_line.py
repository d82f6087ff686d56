"""A line that breaks again and again: a download goes on, and nothing comes twice."""

from __future__ import annotations

import asyncio
import contextlib
import os

import pytest

from transfer import Peer, SeederLimits

MIB = 1024 * 1024


class BreakingLine:
    """A proxy on loopback that cuts every connection after each interval."""

    def __init__(self, to: Peer, every: float) -> None:
        self._to = to
        self._every = every
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.carried = 0
        """Bytes towards the leecher."""
        self.cuts = self.refused = 0
        self.is_down = False

    @contextlib.asynccontextmanager
    async def peer(self):
        server = await asyncio.start_server(self._join, "127.0.0.1", 0)
        breaking = asyncio.create_task(self._break())
        try:
            port = server.sockets[0].getsockname()[1]
            yield Peer("127.0.0.1", port, self._to.public_key)
        finally:
            breaking.cancel()
            for task in self._tasks:
                task.cancel()
            server.close()

    async def _break(self) -> None:
        while True:
            await asyncio.sleep(self._every)
            self.cut()

    def cut(self) -> None:
        """End all connections with a reset."""
        for one in list(self._open):
            one.transport.abort()
            self.cuts += 1

    async def _join(self, reader, writer) -> None:
        if self.is_down:
            self.refused += 1
            writer.transport.abort()
            return
        far_reader, far_writer = await asyncio.open_connection(
            self._to.host, self._to.port
        )
        ends = {writer, far_writer}
        self._open |= ends
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with contextlib.suppress(OSError):
                await asyncio.gather(
                    self._carry(reader, far_writer, counts=False),
                    self._carry(far_reader, writer, counts=True),
                )
        finally:
            self._tasks.discard(task)
            self._open -= ends
            for one in ends:
                one.transport.abort()

    async def _carry(self, reader, writer, *, counts: bool) -> None:
        while data := await reader.read(64 * 1024):
            self.carried += len(data) if counts else 0
            writer.write(data)
            await writer.drain()
        writer.close()


@pytest.mark.parametrize("encryption", [False, True])
async def test_a_download_over_a_line_that_breaks_goes_on(new_node, encryption):
    """Cut four times a second: it ends, and nothing that was verified comes again."""
    seeder = await new_node(
        encryption=encryption, seeder_limits=SeederLimits(bytes_per_second=4 * MIB)
    )
    data = os.urandom(6 * MIB)
    artifact = await asyncio.to_thread(seeder.store.add_bytes, data)
    leecher = await new_node(encryption=encryption)
    line = BreakingLine(seeder.peer, 0.25)
    async with line.peer() as peer, asyncio.timeout(60):
        await leecher.download(artifact.digest, [peer])
    assert leecher.store.read(artifact) == data
    assert line.cuts >= 6
    assert line.carried <= 1.1 * len(data)


async def test_a_download_waits_for_a_line_that_is_down_for_a_while(new_node):
    """The only peer cannot be reached for a second, in the middle of the download."""
    seeder = await new_node(
        encryption=False, seeder_limits=SeederLimits(bytes_per_second=4 * MIB)
    )
    data = os.urandom(4 * MIB)
    artifact = await asyncio.to_thread(seeder.store.add_bytes, data)
    leecher = await new_node(encryption=False)
    line = BreakingLine(seeder.peer, 60.0)
    async with line.peer() as peer, asyncio.timeout(60):
        begun = asyncio.Event()

        def on_progress(done: int, _total: int) -> None:
            if done >= MIB:
                begun.set()

        task = asyncio.create_task(
            leecher.download(artifact.digest, [peer], on_progress=on_progress)
        )
        await begun.wait()
        line.is_down = True
        line.cut()
        await asyncio.sleep(1.0)
        line.is_down = False
        await task
    assert leecher.store.read(artifact) == data
    assert line.refused >= 1
    assert line.carried <= 1.2 * len(data)
