"""The structs of results are the contract of `--json` and can be read as attributes."""

from __future__ import annotations

import inspect

import msgspec
import pytest

from node import results
from node.cli.answer import Fields, json_text, read_fields
from node.commands import COMMANDS

STRUCTS = [
    struct
    for _, struct in inspect.getmembers(results, inspect.isclass)
    if issubclass(struct, msgspec.Struct)
]

PROMISED = {
    "status": "node_id address web contacts artifacts bytes_held downloads uploads",
    "peers": "contacts",
    "lookup": "digest providers seconds requests",
    "share": "artifacts",
    "fetch": "artifacts",
    "publish": "package package_file publisher name version sequence holders alerted",
    "broadcast": "holders followers alerted unreachable",
    "updates": "updates",
    "list": "artifacts",
    "doctor": "checks",
}
"""What scripts rely on, by command."""


def result_of(command):
    """Return the struct that a command's base class names."""
    return command.__orig_bases__[0].__args__[0]


@pytest.mark.parametrize("struct", STRUCTS, ids=lambda struct: struct.__name__)
def test_every_field_can_be_read_off_a_json_object_as_an_attribute(struct):
    """A field named like a method of `dict` would be hidden by the method."""
    assert not set(struct.__struct_fields__) & set(dir(dict))


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_names_its_result(name):
    command = COMMANDS[name]
    result = result_of(command)
    assert issubclass(result, results.Result)
    assert command.__name__.removesuffix("Command") + "Result" == result.__name__


@pytest.mark.parametrize("name", sorted(PROMISED))
def test_promised_fields_are_there(name):
    assert set(PROMISED[name].split()) <= set(
        result_of(COMMANDS[name]).__struct_fields__
    )


def test_fields_read_alike_off_a_struct_and_off_its_document():
    contact = results.PeerEntry(
        node_id="ab", address="192.0.2.1:4747", rtt_ms=None, age_seconds=2.5
    )
    made = results.PeersResult(contacts=[contact])
    read = read_fields(json_text(made))
    assert read.contacts[0].address == made.contacts[0].address
    assert json_text(read) == json_text(made)
    assert read_fields(b"{}") == Fields()
