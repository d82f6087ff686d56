"""The API: one route for each command of `node.commands`.

`POST /api/COMMAND` takes a JSON object and decodes it strictly. With `Accept:
text/event-stream` the answer is a stream of server-sent events: `{"progress": ...}`
as often as there is something new, then one `{"result": ...}` or `{"error": ...,
"exit_code": ...}`. Otherwise it is one JSON document, and an error has an HTTP status
too. A client that goes away takes its command with it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Protocol

import msgspec
from aiohttp import web

from node.commands import (
    COMMANDS,
    Command,
    OpenCommand,
    Progress,
    ResultT,
    StatusCommand,
)
from node.errors import NodeError
from node.printable import printable
from node.results import NodeDescription, OpenResult, Result
from node.web import limits
from node.web.guard import Refusal

EVENT_STREAM = "text/event-stream"
_STATUS_OF_EXIT_CODE = {1: 500, 2: 400, 3: 503, 4: 404, 5: 502, 6: 409}
_log = logging.getLogger(__name__)


class Runs(Protocol):
    """What the door needs of a node."""

    async def run(self, command: Command[ResultT], progress: Progress = ...) -> ResultT:
        """Do what `command` asks; raises NodeError."""

    def describe(self) -> NodeDescription:
        """Return who and where the node is."""


class ProgressFeed:
    """The newest progress of each label, until the client is ready to read it.

    `post` may be called from any thread, and as often as it likes: what was not yet
    written is replaced, so a slow reader costs no memory.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._latest: dict[str, dict[str, Any]] = {}
        self._news = asyncio.Event()

    def post(self, event: dict[str, Any]) -> None:
        """Keep `event` as the newest of its label."""
        label = str(event.get("key") or event.get("label", ""))
        if label not in self._latest and len(self._latest) >= limits.EVENT_LABELS_MAX:
            return
        was_empty = not self._latest
        self._latest[label] = event
        if was_empty:
            self.wake()

    def wake(self) -> None:
        """End a `wait`."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._news.set)

    async def wait(self, seconds: float) -> None:
        """Return at the next news, or after `seconds`."""
        try:
            async with asyncio.timeout(seconds):
                await self._news.wait()
        except TimeoutError:
            return

    def drain(self) -> list[dict[str, Any]]:
        """Return what was posted since the last time, the newest of each label."""
        self._news.clear()
        latest, self._latest = self._latest, {}
        return list(latest.values())


class Api:
    """Runs the commands that come through the door."""

    def __init__(self, node: Runs, new_link: Callable[[], str]) -> None:
        """Run commands on `node`; `new_link` signs a browser in at the dashboard."""
        self._node = node
        self._new_link = new_link
        self._under_way: set[asyncio.Task[Result]] = set()

    def cancel(self) -> None:
        """End every command under way with the error that the node stops."""
        for task in self._under_way:
            task.cancel()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer a request for /api/COMMAND, whose sender has been checked."""
        command = await _command(request)
        if len(self._under_way) >= limits.COMMANDS_MAX:
            raise Refusal(503, "the node is busy with too many commands; try again")
        if EVENT_STREAM in request.headers.get("Accept", ""):
            return await self._stream(request, command)
        feed = ProgressFeed()
        task = self._start(command, feed)
        try:
            await asyncio.wait({task})
            return _document(_outcome(task))
        finally:
            await self._finish(task)

    async def _stream(
        self, request: web.Request, command: Command[Any]
    ) -> web.StreamResponse:
        """Run `command` and write its progress and its outcome as events."""
        response = web.StreamResponse(headers={"Content-Type": EVENT_STREAM})
        feed = ProgressFeed()
        task = self._start(command, feed)
        try:
            await response.prepare(request)
            while not task.done():
                await feed.wait(limits.ALIVE_SECONDS)
                await _write(response, feed.drain())
                await asyncio.wait({task}, timeout=limits.EVENT_SECONDS_MIN)
            last = [{"progress": event} for event in feed.drain()]
            await _send(response, _lines([*last, _outcome(task)]))
            await response.write_eof()
        except (ConnectionError, TimeoutError):
            _log.debug("the client of %s went away", type(command).__name__)
        finally:
            await self._finish(task)
        return response

    def _start(self, command: Command[Any], feed: ProgressFeed) -> asyncio.Task[Result]:
        task: asyncio.Task[Result] = asyncio.create_task(self._run(command, feed.post))
        task.add_done_callback(lambda _: feed.wake())
        self._under_way.add(task)
        return task

    async def _run(self, command: Command[Any], progress: Progress) -> Result:
        if isinstance(command, OpenCommand):
            return OpenResult(url=self._new_link())
        result: Result = await self._node.run(command, progress)
        return result

    async def _finish(self, task: asyncio.Task[Result]) -> None:
        """End `task` if it still runs, and see its end."""
        try:
            if not task.done():
                task.cancel()
                await asyncio.wait({task})
        finally:
            self._under_way.discard(task)
            if task.done() and not task.cancelled():
                task.exception()


async def _command(request: web.Request) -> Command[Any]:
    """Decode the command of a request; Refusal says what is wrong with it."""
    name = request.match_info["command"]
    kind = COMMANDS.get(name)
    if kind is None:
        raise Refusal(404, f"there is no command {name!r}; there are {_NAMES}", 2)
    if request.method == "GET" and kind is StatusCommand:
        return StatusCommand()
    if request.method != "POST":
        raise Refusal(405, "commands are sent with POST", 2, Allow="POST")
    if request.content_type != "application/json":
        raise Refusal(415, "a command is a JSON object (application/json)", 2)
    try:
        async with asyncio.timeout(limits.BODY_SECONDS_MAX):
            body = await request.read()
        command: Command[Any] = msgspec.json.decode(body, type=kind)
    except web.HTTPRequestEntityTooLarge as error:
        raise Refusal(
            413, f"a command has at most {limits.BODY_BYTES_MAX} bytes", 2
        ) from error
    except TimeoutError as error:
        raise Refusal(
            408, "the command took too long to arrive", 1, Connection="close"
        ) from error
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise Refusal(400, f"{name}: {error}", 2) from error
    return command


_NAMES = ", ".join(COMMANDS)


def _outcome(task: asyncio.Task[Result]) -> dict[str, Any]:
    """Return the last event of a command: its result or its error."""
    if task.cancelled():
        return _error("the node is stopping", 1)
    error = task.exception()
    if error is None:
        return {"result": task.result()}
    if isinstance(error, NodeError):
        return {**error.details, **_error(str(error), error.exit_code)}
    _log.error("a command failed unexpectedly", exc_info=error)
    if isinstance(error, OSError):
        where = f" ({error.filename})" if error.filename else ""
        return _error(f"{error.strerror or type(error).__name__}{where}", 1)
    return _error(
        f"the node failed at this ({type(error).__name__}); its log says where", 1
    )


def _error(sentence: str, exit_code: int) -> dict[str, Any]:
    return {"error": sentence, "exit_code": exit_code}


def _document(outcome: dict[str, Any]) -> web.Response:
    if "result" in outcome:
        return _json_response(outcome["result"], 200)
    return _json_response(outcome, _STATUS_OF_EXIT_CODE.get(outcome["exit_code"], 500))


def _json_response(document: object, status: int) -> web.Response:
    return web.Response(
        body=_encoded(document),
        status=status,
        content_type="application/json",
        charset="utf-8",
    )


def _lines(events: list[dict[str, Any]]) -> bytes:
    """Encode server-sent events; JSON has no line breaks of its own."""
    return b"".join(b"data: %s\n\n" % _encoded(event) for event in events)


def _encoded(document: object) -> bytes:
    """Encode JSON; names of files that are no UTF-8 as far as that shows them."""
    try:
        return msgspec.json.encode(document)
    except UnicodeEncodeError:
        return msgspec.json.encode(_printable(msgspec.to_builtins(document)))


def _printable(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _printable(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_printable(one) for one in value]
    return printable(value) if isinstance(value, str) else value


async def _write(response: web.StreamResponse, events: list[dict[str, Any]]) -> None:
    """Write progress, or a comment that shows that the node is alive."""
    lines = _lines([{"progress": event} for event in events])
    await _send(response, lines or b": alive\n\n")


async def _send(response: web.StreamResponse, lines: bytes) -> None:
    async with asyncio.timeout(limits.WRITE_SECONDS_MAX):
        await response.write(lines)
