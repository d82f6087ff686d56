"""Passphrases: asked for where a person types, never echoed; machines set a variable.

Whether a key is encrypted is read off its file, so that nothing heavy is loaded.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from node.errors import NodeError

if TYPE_CHECKING:
    from pathlib import Path

VARIABLE = "CARAVAN_PASSPHRASE"
_ENCRYPTED = b"ENCRYPTED PRIVATE KEY"


def passphrase_for(home: Path, name: str) -> str:
    """Return the passphrase of the key `name`, "" where it needs none."""
    try:
        content = (home / "publishers" / f"{name}.key").read_bytes()
    except OSError:
        return ""  # the node says what is wrong with a key that cannot be read
    return passphrase_of(content, name)


def passphrase_of(content: bytes, name: str) -> str:
    """Return the passphrase of a key file's content, "" where it needs none."""
    if _ENCRYPTED not in content:
        return ""
    return _ask(f"Passphrase of the key {name}", is_new=False)


def new_passphrase() -> str:
    """Return a passphrase for a new key, typed twice; NodeError if it is empty."""
    if chosen := _ask("Passphrase of the new key", is_new=True):
        return chosen
    raise NodeError(
        "an empty passphrase protects nothing; expected one, or no --passphrase"
    )


def _ask(prompt: str, *, is_new: bool) -> str:
    if VARIABLE in os.environ:
        return os.environ[VARIABLE]
    if not sys.stdin.isatty():
        raise NodeError(
            f"the key needs a passphrase; run this on a terminal, or set {VARIABLE}"
        )
    answer = click.prompt(prompt, hide_input=True, confirmation_prompt=is_new, err=True)
    return str(answer)
