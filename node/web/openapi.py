"""The API described as OpenAPI 3.1, made from the structs of commands and results."""

from __future__ import annotations

import inspect
from typing import Any, get_args

import msgspec

from node.commands import COMMANDS, Command
from node.version import VERSION
from node.web.api import EVENT_STREAM

_REFERENCE = "#/components/schemas/{name}"


def openapi() -> dict[str, Any]:
    """Return the document that `/api/openapi.json` serves."""
    results = {name: _result_of(command) for name, command in COMMANDS.items()}
    _, schemas = msgspec.json.schema_components(
        [*COMMANDS.values(), *results.values()], ref_template=_REFERENCE
    )
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Caravan node",
            "version": VERSION,
            "description": (
                "What a person can ask of a running node. The token is in node.json of "
                "the node's folder. With `Accept: text/event-stream` the answer is a "
                "stream of events: progress, then one result or error."
            ),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": {
            f"/api/{name}": {"post": _operation(name, command, results[name])}
            for name, command in COMMANDS.items()
        },
        "components": {
            "schemas": {**schemas, "Error": _ERROR},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}],
    }


def _operation(name: str, command: type[Command[Any]], result: type) -> dict[str, Any]:
    return {
        "operationId": name,
        "summary": (inspect.getdoc(command) or "").partition("\n")[0],
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": _schema(command)}},
        },
        "responses": {
            "200": {
                "description": (inspect.getdoc(result) or "").partition("\n")[0],
                "content": {
                    "application/json": {"schema": _schema(result)},
                    EVENT_STREAM: {"schema": {"type": "string"}},
                },
            },
            "default": {
                "description": "What went wrong, with the exit code of the command.",
                "content": {"application/json": {"schema": {"$ref": _ref("Error")}}},
            },
        },
    }


def _result_of(command: type[Command[Any]]) -> type:
    """Return the struct that a command's base class names: Command[Result]."""
    for base in getattr(command, "__orig_bases__", ()):
        for argument in get_args(base):
            if isinstance(argument, type):
                return argument
    raise TypeError(f"{command.__name__} does not say what it answers")


def _schema(struct: type) -> dict[str, str]:
    return {"$ref": _ref(struct.__name__)}


def _ref(name: str) -> str:
    return _REFERENCE.format(name=name)


_ERROR = {
    "type": "object",
    "properties": {"error": {"type": "string"}, "exit_code": {"type": "integer"}},
    "required": ["error", "exit_code"],
}
