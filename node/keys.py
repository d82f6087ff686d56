"""Publisher keys: who may say what the newest version of a name is.

A publisher is an Ed25519 root key. Its text is the lower-case base32 of the public
half (RFC 4648, no padding, 52 characters).
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from node import keyfiles
from node.errors import NodeError, UsageError

DEFAULT_KEY = "default"
PUBLISHER_CHARACTERS = 52
_KEY_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def publisher_text(public_key: bytes) -> str:
    """Return the text of a publisher's 32-byte root key."""
    return base64.b32encode(public_key).decode().rstrip("=").lower()


def parse_publisher(text: str) -> bytes:
    """Return the 32 bytes of a publisher's text; UsageError says what is wrong."""
    if len(text) == PUBLISHER_CHARACTERS and text == text.lower():
        try:
            return base64.b32decode(text.upper() + "====")
        except binascii.Error:
            pass
    raise UsageError(
        f"{text!r} is no publisher: one is {PUBLISHER_CHARACTERS} characters of a-z "
        "and 2-7, or a nickname given with `caravan follow PUBLISHER/NAME --as NICK`"
    )


@dataclass(frozen=True, slots=True)
class PublisherKey:
    """A key that signs for a publisher."""

    private_key: Ed25519PrivateKey
    publisher: bytes

    @property
    def text(self) -> str:
        """The publisher's text."""
        return publisher_text(self.publisher)


class PublisherKeys:
    """The publisher keys of one home, as files `publishers/NAME.key`."""

    def __init__(self, home: Path) -> None:
        self._folder = home / "publishers"

    def new(self, name: str = DEFAULT_KEY) -> str:
        """Make the key `name`; returns its publisher. NodeError if there is one."""
        try:
            key = keyfiles.new_key(self._path(name))
        except FileExistsError as error:
            raise NodeError(f"there is a key {name!r} already; it was kept") from error
        except OSError as error:
            raise NodeError(f"cannot write the key: {error}") from error
        return publisher_text(keyfiles.public_bytes(key))

    def names(self) -> list[str]:
        """Return the names of the keys, sorted."""
        return sorted(path.stem for path in self._folder.glob("*.key"))

    def show(self) -> list[dict[str, str]]:
        """Return {"name", "publisher"} of every key."""
        return [
            {"name": name, "publisher": self.load(name).text} for name in self.names()
        ]

    def load(self, name: str) -> PublisherKey:
        """Return the key `name`; NodeError says how to make one if there is none."""
        path = self._path(name)
        if not path.exists():
            raise NodeError(
                f"there is no key {name!r}; make it with `caravan key new {name}`"
            )
        private_key = keyfiles.read_key(path)
        return PublisherKey(private_key, keyfiles.public_bytes(private_key))

    def load_or_new(self, name: str) -> PublisherKey:
        """Return the key `name`; the default key is made where there is none."""
        if name == DEFAULT_KEY and not self._path(name).exists():
            self.new(name)
        return self.load(name)

    def export(self, name: str) -> str:
        """Return the PEM of the private key `name`, to keep elsewhere."""
        self.load(name)
        return self._path(name).read_text()

    def _path(self, name: str) -> Path:
        if not _KEY_NAME.fullmatch(name):
            raise UsageError(
                f"{name!r} cannot name a key: use letters, digits, '.', '_' and '-'"
            )
        return self._folder / f"{name}.key"
