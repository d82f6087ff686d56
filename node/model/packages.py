"""The package file: what a package is, signed by its publisher.

A DSSE envelope (github.com/secure-systems-lab/dsse, protocol 1.0.2) around JSON.
The signature covers the payload bytes as they were received, so nothing depends on
how their JSON is written. The envelope around them is not signed, so it has one
encoding: anything else is refused, and so are fields that it does not have. A `Package`
exists only after `Package.verify` or `Package.sign`.
"""

from __future__ import annotations

import base64
import binascii
import re
from datetime import UTC, datetime
from typing import Literal

import msgspec

from dht import Delegation, RecordError
from dht.identity import verify_ed25519
from node.errors import RefusedError, UsageError
from node.model.ecosystems import TAGS_MAX, is_purl_of
from node.model.keys import PublisherKey, parse_publisher, publisher_text
from node.model.names import is_file_name, is_name, is_version

PAYLOAD_TYPE = "application/vnd.caravan.package+json"
FORMAT = 1
PACKAGE_FILE_BYTES_MAX = 1024 * 1024
ARTIFACTS_MAX = 256
DEPENDENCIES_MAX = 1024
REPLACES_MAX = 256
NOTE_CHARACTERS_MAX = 1000
LINE_CHARACTERS_MAX = 200
SUFFIX = ".caravan"

_SHA256 = re.compile(r"sha256:[0-9a-f]{64}")


class ArtifactEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file of a package: its name, length in bytes and digests."""

    file: str
    size: int
    digest: str
    manifest: str
    sha512: str = ""
    blake2b_256: str = msgspec.field(default="", name="blake2b-256")
    purl: str = ""
    tags: list[str] = []


class Dependency(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What must be there too: a package (by its package file) or one artifact."""

    kind: Literal["package", "artifact"]
    digest: str
    name: str = ""
    version: str = ""


class PackageBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The JSON inside the envelope."""

    format: int
    publisher: str
    name: str
    version: str
    epoch: int
    sequence: int
    issued: datetime
    artifacts: list[ArtifactEntry]
    dependencies: list[Dependency] = []
    replaces: list[str] = []
    previous: str = ""
    urgency: Literal["routine", "security"] = "routine"
    note: str = ""
    license: str = ""
    home_page: str = ""
    delegation: str = ""


class _Signature(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    keyid: str
    sig: str


class _DsseEnvelope(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    payload: str
    payloadType: str  # noqa: N815 - the name that DSSE gives it
    signatures: list[_Signature]


class _Typed(msgspec.Struct, frozen=True):
    """Any DSSE envelope, of which only the type matters."""

    payloadType: str  # noqa: N815 - the name that DSSE gives it


class Package:
    """A package file whose signature and content have been checked."""

    __slots__ = ("body", "publisher", "raw")

    def __init__(self, raw: bytes, body: PackageBody, publisher: bytes) -> None:
        self.raw = raw
        self.body = body
        self.publisher = publisher

    @property
    def order(self) -> tuple[int, int]:
        """What decides which package of one name is newer."""
        return (self.body.epoch, self.body.sequence)

    @property
    def file_name(self) -> str:
        """The name that the package file has outside the store."""
        name = self.body.name.lstrip("@").replace("/", "-")
        return re.sub(r"[^A-Za-z0-9._+-]", "_", f"{name}-{self.body.version}") + SUFFIX

    @classmethod
    def sign(cls, body: PackageBody, key: PublisherKey) -> Package:
        """Sign `body`; raises RefusedError where it breaks a rule."""
        payload = msgspec.json.format(msgspec.json.encode(body), indent=1)
        signature = key.private_key.sign(_signed_bytes(payload))
        signer = key.private_key.public_key().public_bytes_raw()
        envelope = _sealed(payload, publisher_text(signer), signature)
        return cls.verify(_encoded(envelope))

    @classmethod
    def verify(cls, raw: bytes) -> Package:
        """Return the package of a package file; RefusedError says why it is none.

        Whatever the bytes are, no other error leaves this method.
        """
        try:
            return cls._verified(raw)
        except RefusedError:
            raise
        except Exception as error:  # strangers write these bytes
            raise RefusedError(f"this package file is damaged: {error}") from error

    @classmethod
    def _verified(cls, raw: bytes) -> Package:
        if len(raw) > PACKAGE_FILE_BYTES_MAX:
            raise RefusedError("this package file is larger than 1 MiB")
        envelope, payload, signature = _open(raw)
        try:
            body = msgspec.json.decode(payload, type=PackageBody)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise RefusedError(f"this package file is damaged: {error}") from error
        signer = _signer(envelope.signatures[0].keyid)
        publisher = _signer(body.publisher)
        _check_signature(signer, signature, _signed_bytes(payload))
        _check_delegation(body, publisher, signer)
        _check_body(body)
        return cls(raw, body, publisher)


def is_package_file(content: bytes) -> bool:
    """Tell whether `content` says of itself that it is a package file."""
    if len(content) > PACKAGE_FILE_BYTES_MAX or not content.startswith(b"{"):
        return False
    try:
        envelope = msgspec.json.decode(content, type=_Typed)
    except (ValueError, RecursionError):
        return False
    return envelope.payloadType == PAYLOAD_TYPE


def _open(raw: bytes) -> tuple[_DsseEnvelope, bytes, bytes]:
    try:
        envelope = msgspec.json.decode(raw, type=_DsseEnvelope)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RefusedError("this is not a package file") from error
    if envelope.payloadType != PAYLOAD_TYPE or len(envelope.signatures) != 1:
        raise RefusedError("this is not a package file")
    try:
        payload = base64.b64decode(envelope.payload, validate=True)
        signature = base64.b64decode(envelope.signatures[0].sig, validate=True)
    except (binascii.Error, ValueError) as error:
        raise RefusedError("this package file is damaged") from error
    if raw != _encoded(_sealed(payload, envelope.signatures[0].keyid, signature)):
        raise RefusedError(
            "this package file was re-encoded: only its publisher's own bytes count"
        )
    return envelope, payload, signature


def _sealed(payload: bytes, keyid: str, signature: bytes) -> _DsseEnvelope:
    return _DsseEnvelope(
        payload=base64.b64encode(payload).decode(),
        payloadType=PAYLOAD_TYPE,
        signatures=[_Signature(keyid, base64.b64encode(signature).decode())],
    )


def _encoded(envelope: _DsseEnvelope) -> bytes:
    """Return the only encoding of an envelope: compact JSON and a line feed."""
    return msgspec.json.encode(envelope) + b"\n"


def _signed_bytes(payload: bytes) -> bytes:
    """Return DSSE's pre-authentication encoding of `payload`."""
    kind = PAYLOAD_TYPE.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def _signer(text: str) -> bytes:
    try:
        return parse_publisher(text)
    except UsageError as error:
        raise RefusedError("this package file names no valid key") from error


def _check_signature(signer: bytes, signature: bytes, message: bytes) -> None:
    if not verify_ed25519(signer, signature, message):
        raise RefusedError("the signature of this package file is wrong")


def _check_delegation(body: PackageBody, publisher: bytes, signer: bytes) -> None:
    """Check that `signer` may sign for `publisher` at the time of issue."""
    if signer == publisher:
        return
    try:
        delegation = Delegation.verify(
            base64.b64decode(body.delegation, validate=True), body.issued.timestamp()
        )
    except (RecordError, binascii.Error, ValueError) as error:
        raise RefusedError(
            "this package file is signed by a key that its publisher did not delegate"
        ) from error
    if (delegation.publisher, delegation.release_key, delegation.epoch) != (
        publisher,
        signer,
        body.epoch,
    ):
        raise RefusedError("the delegation in this package file is for another key")


def _check_body(body: PackageBody) -> None:
    """Check every field that others rely on."""
    files = [entry.file.casefold() for entry in body.artifacts]
    digests = [entry.digest for entry in body.artifacts]
    digests += [dependency.digest for dependency in body.dependencies]
    digests += [*body.replaces, *([body.previous] if body.previous else [])]
    problems = {
        "its format is not one that this version reads": body.format != FORMAT,
        "its name is not allowed": not is_name(body.name),
        "its version is not allowed": not is_version(body.version),
        "its sequence is out of range": not 0 < body.sequence < 2**63,
        "its epoch is out of range": not 0 <= body.epoch < 2**31,
        "its time of issue names no time zone": body.issued.tzinfo is None,
        "it has no artifact or too many": not 0 < len(files) <= ARTIFACTS_MAX,
        "two of its files have the same name": len(set(files)) != len(files),
        "it has too many dependencies": len(body.dependencies) > DEPENDENCIES_MAX,
        "it replaces too much": len(body.replaces) > REPLACES_MAX,
        "its note is too long": len(body.note) > NOTE_CHARACTERS_MAX,
        "its licence or home page is too long": max(
            len(body.license), len(body.home_page)
        )
        > LINE_CHARACTERS_MAX,
        "a text in it has characters that cannot be shown": not (
            body.note + body.license + body.home_page
        ).isprintable(),
        "its home page is not a web address": body.home_page != ""
        and not body.home_page.startswith(("https://", "http://")),
        "a digest in it is malformed": not all(map(_SHA256.fullmatch, digests)),
    }
    for problem, found in problems.items():
        if found:
            raise RefusedError(f"this package file is refused: {problem}")
    for entry in body.artifacts:
        _check_artifact(entry)
        if entry.purl and not is_purl_of(entry.purl, body.name, body.version):
            raise RefusedError("a purl in this package file is of another package")
    for dependency in body.dependencies:
        if dependency.name and not is_name(dependency.name):
            raise RefusedError("a dependency in this package file has a bad name")
        if dependency.version and not is_version(dependency.version):
            raise RefusedError("a dependency in this package file has a bad version")


def _check_artifact(entry: ArtifactEntry) -> None:
    if not is_file_name(entry.file):
        raise RefusedError(f"this package file has an unsafe file name: {entry.file!r}")
    if not 0 <= entry.size < 2**50:
        raise RefusedError("this package file names an impossible size")
    if len(entry.tags) > TAGS_MAX or any(len(tag) > 100 for tag in entry.tags):
        raise RefusedError("this package file has too many tags")
    lengths = {"manifest": 64, "sha512": 128, "blake2b_256": 64}
    for field, length in lengths.items():
        text = getattr(entry, field)
        optional = field != "manifest" and not text
        if not optional and not re.fullmatch(rf"[0-9a-f]{{{length}}}", text):
            raise RefusedError("a digest in this package file is malformed")


def issued_now(now: float) -> datetime:
    """Return the wall-clock time `now` as a package file writes it (UTC, seconds)."""
    return datetime.fromtimestamp(int(now), UTC)
