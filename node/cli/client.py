"""Asks the running node over the socket in its folder, with nothing but JSON.

Not over its port, which another program may have taken: see `node.local_socket`. One
request, one connection: `POST /api/COMMAND` in HTTP/1.0, answered by server-sent
events until the connection ends. Closing it early, as Ctrl-C does, cancels the command
in the node.
"""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING, Any, BinaryIO

from node.cli.answer import read_fields
from node.errors import NodeError, NotRunningError, RefusedError
from node.local_socket import NotOwnerError, connect_local

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

CARD_BYTES_MAX = 64 * 1024
LINE_BYTES_MAX = 64 * 1024 * 1024  # a result is one line; `list` can be long
CONNECT_SECONDS_MAX = 5.0
SILENCE_SECONDS_MAX = 60.0  # the node says at least every 10 s that it is alive


class NodeSilentError(NodeError):
    """The node is running but does not answer; `caravan log` may say why."""


def read_card(home: Path) -> dict[str, Any]:
    """Read node.json: where the node of `home` answers, and its token.

    NotRunningError if there is none.
    """
    path = home / "node.json"
    try:
        with path.open("rb") as file:
            card = json.loads(file.read(CARD_BYTES_MAX))
        _address(card["web"])
        return {
            "web": card["web"],
            "token": str(card["token"]),
            "pid": int(card["pid"]),
        }
    except FileNotFoundError as error:
        raise _not_running(home) from error
    except OSError as error:
        raise NodeError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise NodeError(
            f"{path} is damaged (it is not what a node writes); start the node again"
        ) from error


def ask(
    home: Path,
    command: str,
    *,
    arguments: Mapping[str, object],
    show: Callable[[dict[str, Any]], None],
) -> Any:
    """Have the node of `home` do `command`; `show` takes each progress event.

    Returns the result's fields. Raises NotRunningError where nobody answers, else the
    NodeError that the node reports, with its exit code.
    """
    card = read_card(home)
    with _connected(home) as connection:
        try:
            connection.sendall(_request(card, command, arguments))
            with connection.makefile("rb") as stream:
                return _result(home, stream, show)
        except TimeoutError as error:
            raise NodeSilentError from error
        except OSError as error:
            raise _gone() from error


def _connected(home: Path) -> socket.socket:
    try:
        connection = connect_local(home, CONNECT_SECONDS_MAX)
    except TimeoutError as error:
        raise NodeSilentError from error
    except NotOwnerError as error:
        raise RefusedError(
            f"{error}: nothing was sent; remove that file, and let nobody else write "
            f"in {home}"
        ) from error
    except OSError as error:
        raise _not_running(home) from error
    connection.settimeout(SILENCE_SECONDS_MAX)
    return connection


def _address(web: str) -> tuple[str, int]:
    host, _, port = web.rpartition(":")
    return host.strip("[]"), int(port)


def _request(
    card: Mapping[str, Any], command: str, arguments: Mapping[str, object]
) -> bytes:
    body = json.dumps(arguments).encode()
    head = (
        f"POST /api/{command} HTTP/1.0\r\n"
        f"Host: {card['web']}\r\n"
        f"Authorization: Bearer {card['token']}\r\n"
        "Accept: text/event-stream\r\n"
        "Content-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode("latin-1") + body


def _result(
    home: Path, stream: BinaryIO, show: Callable[[dict[str, Any]], None]
) -> Any:
    status, is_stream = _read_head(home, stream)
    if not is_stream:
        raise _refused(home, status, stream.read(LINE_BYTES_MAX))
    for event in _events(stream):
        if "progress" in event:
            show(event["progress"])
        elif "error" in event:
            raise reported(event)
        else:
            return event["result"]
    raise _gone()


def _read_head(home: Path, stream: BinaryIO) -> tuple[int, bool]:
    """Return the HTTP status, and whether a stream of events follows."""
    words = stream.readline(CARD_BYTES_MAX).split(maxsplit=2)
    if not words:
        raise _gone()
    if not words[0].startswith(b"HTTP/1.") or len(words) < 2 or not words[1].isdigit():
        raise _not_running(home)
    is_stream = False
    while (line := stream.readline(CARD_BYTES_MAX).strip()) != b"":
        name, _, value = line.partition(b":")
        if name.lower() == b"content-type":
            is_stream = value.strip().startswith(b"text/event-stream")
    return int(words[1]), is_stream


def _events(stream: BinaryIO) -> Iterator[dict[str, Any]]:
    while line := stream.readline(LINE_BYTES_MAX):
        if line.startswith(b"data: "):
            yield read_fields(line[6:])


def _refused(home: Path, status: int, body: bytes) -> NodeError:
    """Return the error of an answer that is not a stream of events."""
    if status == 401:
        return _not_running(home)  # a later node answers: the card was read before it
    try:
        return reported(json.loads(body))
    except (ValueError, TypeError, KeyError):
        return NodeError(f"the node answers with HTTP status {status}")


def reported(document: dict[str, Any]) -> NodeError:
    """Return the error that {"error", "exit_code", and details} reports."""
    details = dict(document)
    error = NodeError(str(details.pop("error")), details=details)
    error.exit_code = int(details.pop("exit_code", 1))
    return error


def _gone() -> NodeError:
    return NodeError("the node stopped before this was done; `caravan log` may say why")


def _not_running(home: Path) -> NotRunningError:
    return NotRunningError(
        f"no node is running on {home}; start one with `caravan join --detach`"
    )
