"""Files that are read while they are written."""

from __future__ import annotations

import asyncio
import gc
import os

import pytest

from transfer.errors import NoPeerError, WrongBytesError
from transfer.growing_file import GrowingFile


@pytest.fixture
def growing(tmp_path):
    descriptor = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    os.write(descriptor, bytes(range(100)))
    file = GrowingFile(descriptor, 100)
    os.close(descriptor)
    return file


async def read_all(file: GrowingFile, into: bytearray) -> None:
    async for block in file.blocks():
        into.extend(block)


async def test_readers_get_what_has_come_and_no_more(growing):
    got = bytearray()
    reader = asyncio.create_task(read_all(growing, got))
    for length in (10, 40, 30):
        growing.advance(length)
        await asyncio.sleep(0.05)
        assert got == bytes(range(growing.length))
    assert growing.length == 40
    growing.finish()
    await reader
    assert got == bytes(range(100))


async def test_many_readers_are_woken_at_once(growing):
    waits = [asyncio.create_task(growing.wait(5)) for _ in range(3)]
    await asyncio.sleep(0)
    growing.advance(6)
    assert await asyncio.gather(*waits) == [True] * 3
    assert growing.read(0, 100) == bytes(range(6))


async def test_the_end_wakes_who_waits_for_more(growing):
    wait = asyncio.create_task(growing.wait(50))
    await asyncio.sleep(0)
    growing.advance(20)
    growing.fail(NoPeerError())
    assert await wait is False
    growing.finish()
    assert growing.length == 20
    assert isinstance(growing.error, NoPeerError)


async def test_a_reader_learns_how_it_failed(growing):
    growing.advance(20)
    got = bytearray()
    reader = asyncio.create_task(read_all(growing, got))
    await asyncio.sleep(0.05)
    growing.fail()
    with pytest.raises(WrongBytesError):
        await reader
    assert len(got) == 20


async def test_a_file_that_became_shorter_is_an_error(tmp_path):
    descriptor = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    os.write(descriptor, b"abc")
    file = GrowingFile(descriptor, 9)
    os.close(descriptor)
    file.finish()
    with pytest.raises(WrongBytesError):
        await read_all(file, bytearray())


async def test_the_copy_of_the_descriptor_is_closed(tmp_path):
    descriptor = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    file = GrowingFile(descriptor, 9)
    os.close(descriptor)
    copy = file._descriptor
    os.fstat(copy)
    del file
    gc.collect()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(copy)
