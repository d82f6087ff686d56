"""Publisher keys: who may say what the newest version of a name is.

A publisher is an Ed25519 root key, which can stay on a machine that is never online.
A release key acts for it, for an epoch and until an end, by a delegation that the
root signed. A key file is PEM; a release key's delegation is a second block in it.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import re
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from dht import Delegation, RecordError
from node.errors import NodeError, UsageError
from node.model import keyfiles
from node.model.epochs import GivenEpoch, GivenEpochs
from node.wallclock import now

DEFAULT_KEY = "default"
PUBLISHER_CHARACTERS = 52
EPOCH_MAX = 2**31 - 1
DAYS_MAX = 3650

_KEY_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_BEGIN = b"-----BEGIN CARAVAN DELEGATION-----\n"
_END = b"-----END CARAVAN DELEGATION-----\n"
_DELEGATION = re.compile(re.escape(_BEGIN) + rb"([A-Za-z0-9+/=\n]+)" + re.escape(_END))


def publisher_text(public_key: bytes) -> str:
    """Return the text of a publisher's 32-byte root key (base32, RFC 4648)."""
    return base64.b32encode(public_key).decode().rstrip("=").lower()


def parse_publisher(text: str) -> bytes:
    """Return the 32 bytes of a publisher's text; UsageError says what is wrong."""
    if len(text) == PUBLISHER_CHARACTERS and text.isascii():
        with contextlib.suppress(binascii.Error):
            key = base64.b32decode(text.upper() + "====")
            # The last character has four bits to spare: one key has one text.
            if publisher_text(key) == text:
                return key
    raise UsageError(
        f"{text!r} is no publisher: one is {PUBLISHER_CHARACTERS} characters of a-z "
        "and 2-7, or a nickname given with `caravan follow PUBLISHER/NAME --as NICK`"
    )


@dataclass(frozen=True, slots=True)
class PublisherKey:
    """A key that signs for a publisher: its root, or a release key with delegation."""

    private_key: Ed25519PrivateKey
    publisher: bytes
    delegation: Delegation | None = None

    @property
    def text(self) -> str:
        """The publisher's text."""
        return publisher_text(self.publisher)

    def may_sign(self, epoch: int, now: float) -> bool:
        """Tell whether it may sign at `now`, where `epoch` is the highest one known."""
        if self.delegation is None:
            return True
        return self.delegation.epoch >= epoch and self.delegation.not_after > now


class PublisherKeys:
    """The publisher keys of one home, as files `publishers/NAME.key`."""

    def __init__(self, home: Path) -> None:
        self._folder = home / "publishers"
        self._given = GivenEpochs(self._folder)

    def new(self, name: str = DEFAULT_KEY, passphrase: str = "") -> str:
        """Make a root key; returns its publisher. NodeError if the name is taken."""
        key = Ed25519PrivateKey.generate()
        self._write(name, keyfiles.to_pem(key, passphrase))
        return publisher_text(keyfiles.public_bytes(key))

    def delegate(
        self,
        name: str,
        root: str,
        *,
        days: float,
        epoch: int | None = None,
        known_epoch: int = 0,
        passphrase: str = "",
        new_passphrase: str = "",
    ) -> PublisherKey:
        """Make the release key `name` that acts for the key `root` for some days.

        `passphrase` opens the root key, `new_passphrase` will open the new one. A new
        epoch revokes the release keys of all epochs before it. Without `epoch` it is
        one more than the highest that was ever given here or that the network knows
        (`known_epoch`). Raise NodeError for one that is revoked already.
        """
        owner = self.load(root, passphrase)
        if owner.delegation is not None:
            raise NodeError(f"{root!r} is a release key; only a root key can delegate")
        if self._path(name).exists():
            raise NodeError(f"there is a key {name!r} already; it was kept")
        if not 0 < days <= DAYS_MAX:
            raise UsageError(
                f"expected more than 0 and up to {DAYS_MAX} days, not {days:g}"
            )
        epoch = self._new_epoch(owner, epoch, known_epoch)
        key = Ed25519PrivateKey.generate()
        delegation = Delegation.sign(
            owner.private_key,
            keyfiles.public_bytes(key),
            epoch=epoch,
            not_after=now() + days * 86_400,
        )
        # First what was given, then the key: a crash between wastes a number only.
        given = GivenEpoch(epoch, delegation.not_after, name)
        self._given.add(owner.text, given)
        pem = keyfiles.to_pem(key, new_passphrase)
        self._write(name, pem + _block(delegation))
        return PublisherKey(key, owner.publisher, delegation)

    def revoked_by(self, delegation: Delegation) -> list[GivenEpoch]:
        """Return the release keys given here that a delegation revokes."""
        given = self._given.of(publisher_text(delegation.publisher))
        return [one for one in given if one.epoch < delegation.epoch]

    def names(self) -> list[str]:
        """Return the names of the keys, sorted."""
        return sorted(path.stem for path in self._folder.glob("*.key"))

    def show(self) -> list[dict[str, object]]:
        """Return what each key is; an encrypted root key hides its publisher."""
        return [self._described(name) for name in self.names()]

    def load(self, name: str, passphrase: str = "") -> PublisherKey:
        """Return the key `name`; NodeError says how to make one if there is none."""
        path = self._path(name)
        content = self._content(name)
        return _parse(content, path, passphrase)

    def load_or_new(self, name: str, passphrase: str = "") -> PublisherKey:
        """Return the key `name`; the default key is made where there is none."""
        if name == DEFAULT_KEY and not self._path(name).exists():
            self.new(name, passphrase)
        return self.load(name, passphrase)

    def export(self, name: str) -> str:
        """Return the key file's text, to keep elsewhere; as encrypted as it is."""
        return self._content(name).decode()

    def import_(
        self, name: str, content: bytes, passphrase: str = "", *, source: str = "this"
    ) -> str:
        """Keep an exported key under `name`; returns its publisher.

        NodeError says what is wrong with `source`, which the content comes from.
        """
        key = _parse(content, source, passphrase)
        self._write(name, content)
        return key.text

    def delegation(self, name: str) -> Delegation | None:
        """Return the delegation of a release key; None for a root key."""
        return _delegation(self._content(name), name)

    def delegations(self) -> list[Delegation]:
        """Return the delegations of all release keys here, whatever their end."""
        found = [self.delegation(name) for name in self.names()]
        return [one for one in found if one is not None]

    def is_encrypted(self, name: str) -> bool:
        """Tell whether the key `name` needs a passphrase."""
        path = self._path(name)
        return path.exists() and keyfiles.ENCRYPTED_MARK in keyfiles.read_file(path)

    def _new_epoch(
        self, owner: PublisherKey, wanted: int | None, known_epoch: int
    ) -> int:
        """Return the epoch to give: `wanted`, or one more than any before."""
        highest = max([known_epoch, *self._epochs(owner.publisher)])
        if wanted is None:
            wanted = highest + 1
        elif 0 < wanted < highest:
            raise NodeError(
                f"epoch {wanted} is revoked: {highest} was given already; choose "
                f"--epoch {highest} or more"
            )
        if not 0 < wanted <= EPOCH_MAX:
            raise UsageError(f"expected an epoch from 1 to {EPOCH_MAX}, not {wanted}")
        return wanted

    def _described(self, name: str) -> dict[str, object]:
        content = self._content(name)
        delegation = _delegation(content, name)
        encrypted = keyfiles.ENCRYPTED_MARK in content
        publisher = None
        if delegation is not None:
            publisher = publisher_text(delegation.publisher)
        elif not encrypted:
            publisher = self.load(name).text
        return {
            "name": name,
            "publisher": publisher,
            "kind": "release" if delegation else "root",
            "encrypted": encrypted,
            "epoch": delegation.epoch if delegation else None,
            "ends": delegation.not_after if delegation else None,
        }

    def _epochs(self, publisher: bytes) -> list[int]:
        """Return the epochs of a publisher that were given here, or are held here."""
        given = [one.epoch for one in self._given.of(publisher_text(publisher))]
        held = [one.epoch for one in self.delegations() if one.publisher == publisher]
        return given + held

    def _content(self, name: str) -> bytes:
        path = self._path(name)
        if not path.exists():
            raise NodeError(
                f"there is no key {name!r}; make it with `caravan key new {name}`"
            )
        return keyfiles.read_file(path)

    def _write(self, name: str, content: bytes) -> None:
        path = self._path(name)
        try:
            keyfiles.write_secret(path, content)
        except FileExistsError as error:
            raise NodeError(f"there is a key {name!r} already; it was kept") from error
        except OSError as error:
            raise NodeError(f"cannot write {path}: {error.strerror}") from error

    def _path(self, name: str) -> Path:
        if not _KEY_NAME.fullmatch(name):
            raise UsageError(
                f"{name!r} cannot name a key: use letters, digits, '.', '_' and '-'"
            )
        return self._folder / f"{name}.key"


def _parse(content: bytes, source: object, passphrase: str) -> PublisherKey:
    private_key = keyfiles.from_pem(content, source, passphrase)
    public_key = keyfiles.public_bytes(private_key)
    delegation = _delegation(content, source)
    if delegation is None:
        return PublisherKey(private_key, public_key)
    if delegation.release_key != public_key:
        raise NodeError(f"the delegation in {source} is for another key")
    return PublisherKey(private_key, delegation.publisher, delegation)


def _block(delegation: Delegation) -> bytes:
    return _BEGIN + base64.encodebytes(delegation.raw) + _END


def _delegation(content: bytes, source: object) -> Delegation | None:
    """Return the delegation in a key file, whether or not it has ended."""
    found = _DELEGATION.search(content)
    if found is None:
        return None
    try:
        return Delegation.verify(base64.b64decode(found[1]), now=0)
    except (RecordError, ValueError) as error:
        raise NodeError(f"the delegation in {source} is damaged") from error
