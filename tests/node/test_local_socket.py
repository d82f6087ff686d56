"""The command line sends secrets to the node of its folder, and to nobody else."""

from __future__ import annotations

import os
import socket
import stat
from contextlib import closing

import pytest

from node.cli import client
from node.errors import NotRunningError, RefusedError
from node.local_socket import NotOwnerError, connect_local, listen_local

NOBODY = 65534


def test_the_socket_is_the_owners_from_its_first_moment(tmp_path):
    before = os.umask(0)
    try:
        with closing(listen_local(tmp_path)):
            mode = (tmp_path / "node.sock").stat().st_mode
    finally:
        os.umask(before)
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o600


def test_a_folder_with_a_long_path_has_a_socket_too(tmp_path):
    home = tmp_path / ("x" * 120)
    home.mkdir()
    with closing(listen_local(home)), closing(connect_local(home, 5)) as connection:
        connection.sendall(b"hello")


def test_a_socket_that_was_left_behind_is_replaced(tmp_path):
    listen_local(tmp_path).close()
    with pytest.raises(OSError, match="refused"):
        connect_local(tmp_path, 5)
    with closing(listen_local(tmp_path)):
        connect_local(tmp_path, 5).close()


def test_a_squatter_on_the_port_of_a_killed_node_gets_nothing(tmp_path):
    """node.json still names the port; the token and passphrase stay here."""
    listen_local(tmp_path).close()
    with socket.create_server(("127.0.0.1", 0)) as squatter:
        squatter.settimeout(0.3)
        port = squatter.getsockname()[1]
        card = f'{{"web": "127.0.0.1:{port}", "token": "secret", "pid": 1}}'
        (tmp_path / "node.json").write_text(card)
        with pytest.raises(NotRunningError):
            client.ask(
                tmp_path,
                "publish",
                arguments={"passphrase": "secret"},
                show=lambda _: None,
            )
        with pytest.raises(TimeoutError):
            squatter.accept()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_on_the_socket_is_refused_and_gets_nothing(tmp_path):
    """Who can write in the folder could put a socket of their own there."""
    (tmp_path / "node.json").write_text(
        '{"web": "127.0.0.1:1", "token": "secret", "pid": 1}'
    )
    path = tmp_path / "node.sock"
    theirs = socket.socket(socket.AF_UNIX)
    theirs.bind(str(path))
    # The kernel notes the user at `listen`, and keeps it.
    os.seteuid(NOBODY)
    try:
        theirs.listen()
    finally:
        os.seteuid(0)
    with closing(theirs):
        with pytest.raises(NotOwnerError):
            connect_local(tmp_path, 5)
        with pytest.raises(RefusedError, match="nothing was sent"):
            client.ask(tmp_path, "status", arguments={}, show=lambda _: None)
