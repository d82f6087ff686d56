"""A fetched file written to a pipe or device."""

from __future__ import annotations

import hashlib
import os
import threading
from types import SimpleNamespace

import pytest

from node.cli import streams
from node.errors import NodeError


def fetched(path):
    path.write_bytes(b"content")
    digest = f"sha256:{hashlib.sha256(b'content').hexdigest()}"
    return SimpleNamespace(artifacts=[SimpleNamespace(path=path, digest=digest)])


def test_a_pipe_that_nobody_reads_is_not_waited_for_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr(streams, "READER_SECONDS_MAX", 0.1)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(NodeError, match="nobody reads it"):
        streams.write_stream(fetched(tmp_path / "file"), str(pipe))
    assert pipe.is_fifo()


def test_a_reader_may_come_a_little_later(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    got = []
    reader = threading.Timer(0.2, lambda: got.append(pipe.read_bytes()))
    reader.start()
    streams.write_stream(fetched(tmp_path / "file"), str(pipe))
    reader.join()
    assert got == [b"content"]
