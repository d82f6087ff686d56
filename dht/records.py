"""Release records and delegations: what a publisher signs.

1. A record's bytes are msgpack `[kind, body, signature]`, where `body` is the msgpack
   of its fields. The signature covers a prefix for the kind and `body`.
2. Nothing unverified has a type: `verify` is the only way from bytes to a record.
   Whatever is wrong with the bytes, the error is a `RecordError`.
3. There is one way to write a record. The outer array is not signed, so bytes that do
   not come out again when they are packed anew are refused, and so are unknown fields:
   otherwise a stranger could write a record of another publisher in other bytes.
4. Two records are the same when kind and body are (`is_same`), whatever their
   signatures: a publisher may sign the same body twice. Evidence that a publisher
   equivocates is two records of one order with different bodies, both verified.
5. A release record is bound to its network: in every network but the public default
   one the signature covers the network's tag too. A delegation is not: it says who a
   key belongs to, and package files carry it from network to network.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Final,
    Literal,
    NamedTuple,
    TypeAlias,
)

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec import Meta
from msgspec.structs import astuple

from dht.errors import DatagramError, RecordError
from dht.identity import KeySigner, Signer, Verify, verify_ed25519
from dht.keys import PUBLIC_NETWORK, Network, delegation_key, release_key
from dht.limits import (
    CLOCK_SKEW_SECONDS,
    RECORD_BYTES_MAX,
    RECORD_NAME_BYTES_MAX,
    RECORD_VERSION_BYTES_MAX,
)
from dht.packing import convert, pack, unpack
from dht.wire import Key

if TYPE_CHECKING:
    from typing import Self

Urgency: TypeAlias = Literal["routine", "security"]
Ordinal: TypeAlias = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]
Seconds: TypeAlias = Annotated[int, Meta(ge=0, lt=1 << 40)]

RELEASE: Final = 1
DELEGATION: Final = 2
_DELEGATION_PREFIX: Final = b"caravan delegation 1"
_URGENCIES: Final[tuple[Urgency, ...]] = ("routine", "security")


class _SignedForm(
    msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True
):
    kind: int
    body: bytes
    signature: Annotated[bytes, Meta(min_length=64, max_length=64)]


class _ReleaseBody(
    msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True
):
    publisher: Key
    name: Annotated[str, Meta(min_length=1)]
    version: Annotated[str, Meta(min_length=1)]
    epoch: Ordinal
    sequence: Ordinal
    package: Key
    urgency: Annotated[int, Meta(ge=0, le=1)]
    issued_at: Seconds
    expires_at: Seconds
    delegation: bytes


class _DelegationBody(
    msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True
):
    publisher: Key
    release_key: Key
    epoch: Ordinal
    not_after: Seconds


class Claim(NamedTuple):
    """What bytes claim to be, before any signature was checked."""

    publisher: bytes
    name: str
    epoch: int
    sequence: int


@dataclass(frozen=True, slots=True)
class Delegation:
    """A release key may act for a publisher, for an epoch and until an end.

    The highest epoch counts for all names of the publisher: a new one revokes
    every release key before it.
    """

    raw: bytes = field(compare=False)
    publisher: bytes
    release_key: bytes
    epoch: int
    not_after: int

    def is_same(self, other: Record) -> bool:
        """Whether both say the same: kind and body are equal."""
        return self == other

    @property
    def order(self) -> tuple[int, int]:
        """What decides between two delegations of a publisher."""
        return (self.epoch, 0)

    @property
    def expires_at(self) -> int:
        """Seconds since 1970 from when on it says nothing."""
        return self.not_after

    @property
    def ends_at(self) -> int:
        """Seconds since 1970 until when others keep it."""
        return self.not_after

    def key(self, network: Network) -> bytes:
        """Return the key under which the network keeps it."""
        return delegation_key(network, self.publisher)

    @classmethod
    def sign(
        cls,
        root_key: Ed25519PrivateKey | Signer,
        release_key: bytes,
        *,
        epoch: int,
        not_after: float,
    ) -> Self:
        """Return a delegation signed by the publisher's root key."""
        signer = _signer(root_key)
        body = [signer.public_key, release_key, epoch, int(not_after)]
        raw = _sealed(_DELEGATION_PREFIX, DELEGATION, body, signer=signer)
        return cls(raw, signer.public_key, release_key, epoch, int(not_after))

    @classmethod
    def verify(cls, raw: bytes, now: float, verify: Verify = verify_ed25519) -> Self:
        """Return the delegation in `raw`; raises `RecordError` saying why not."""
        sealed, fields = _opened(raw, DELEGATION, _DelegationBody)
        if now > fields.not_after:
            raise RecordError("The delegation has ended.")
        _check_signature(_DELEGATION_PREFIX, sealed, fields.publisher, verify=verify)
        return cls(
            raw,
            fields.publisher,
            fields.release_key,
            fields.epoch,
            fields.not_after,
        )


@dataclass(frozen=True, slots=True)
class ReleaseRecord:
    """The signed pointer to a publisher's newest package file of one name."""

    raw: bytes = field(compare=False)
    publisher: bytes
    name: str
    version: str
    epoch: int
    sequence: int
    package: bytes
    urgency: Urgency
    issued_at: int
    expires_at: int
    signer: bytes
    delegation: Delegation | None = None

    def is_same(self, other: Record) -> bool:
        """Whether both say the same: kind and body are equal."""
        return isinstance(other, ReleaseRecord) and _body(self.raw) == _body(other.raw)

    @property
    def order(self) -> tuple[int, int]:
        """(epoch, sequence): the higher one is newer."""
        return (self.epoch, self.sequence)

    @property
    def ends_at(self) -> int:
        """Seconds since 1970 when it ends, or the delegation that it rests on."""
        if self.delegation is None:
            return self.expires_at
        return min(self.expires_at, self.delegation.not_after)

    def key(self, network: Network) -> bytes:
        """Return the key under which the network keeps it."""
        return release_key(network, self.publisher, self.name)

    @classmethod
    def sign(
        cls,
        private_key: Ed25519PrivateKey | Signer,
        *,
        publisher: bytes,
        name: str,
        version: str,
        epoch: int,
        sequence: int,
        package: bytes,
        urgency: Urgency,
        issued_at: float,
        expires_at: float,
        delegation: Delegation | None = None,
        network: Network = PUBLIC_NETWORK,
    ) -> Self:
        """Return a record signed by the root key or, with a delegation, for it.

        It is valid in `network` alone.

        Raises `RecordError` where it would not be accepted by others: a key that
        may not act for the publisher, or more than 700 bytes.
        """
        signer = _signer(private_key)
        body: list[object] = [publisher, name, version, epoch, sequence, package]
        body += [_URGENCIES.index(urgency), int(issued_at), int(expires_at)]
        body.append(delegation.raw if delegation is not None else b"")
        raw = _sealed(_release_prefix(network), RELEASE, body, signer=signer)
        _, fields = _opened(raw, RELEASE, _ReleaseBody)
        record = cls(*_release_fields(raw, fields, delegation))
        if record.signer != signer.public_key:
            raise RecordError("This key may not sign for that publisher.")
        _check_bounds(fields, delegation)
        return record

    @classmethod
    def verify(
        cls,
        raw: bytes,
        now: float,
        verify: Verify = verify_ed25519,
        *,
        network: Network = PUBLIC_NETWORK,
    ) -> Self:
        """Return the record in `raw`; raise `RecordError` saying why not.

        `now` is in seconds since 1970. A record of the future is refused beyond
        ten minutes of clock error, an ended one at once.
        """
        sealed, fields = _opened(raw, RELEASE, _ReleaseBody)
        if now >= fields.expires_at:
            raise RecordError("The release record has expired.")
        if fields.issued_at > now + CLOCK_SKEW_SECONDS:
            raise RecordError("The release record is dated in the future.")
        delegation = None
        if fields.delegation:
            delegation = Delegation.verify(fields.delegation, now, verify)
        _check_bounds(fields, delegation)
        record = cls(*_release_fields(raw, fields, delegation))
        prefix = _release_prefix(network)
        _check_signature(prefix, sealed, record.signer, verify=verify)
        return record

    @staticmethod
    def peek(raw: bytes) -> Claim:
        """Return what `raw` claims, unverified; raises `RecordError`.

        It serves to drop cheaply what this node would not act on.
        """
        _, fields = _opened(raw, RELEASE, _ReleaseBody)
        return Claim(fields.publisher, fields.name, fields.epoch, fields.sequence)


Record: TypeAlias = ReleaseRecord | Delegation


def verify_record(
    raw: bytes,
    now: float,
    verify: Verify = verify_ed25519,
    *,
    network: Network = PUBLIC_NETWORK,
) -> Record:
    """Return the release record or delegation in `raw`; raise `RecordError`."""
    if raw[:2] == bytes([0x93, DELEGATION]):
        return Delegation.verify(raw, now, verify)
    return ReleaseRecord.verify(raw, now, verify, network=network)


def _signer(key: Ed25519PrivateKey | Signer) -> Signer:
    return KeySigner(key) if isinstance(key, Ed25519PrivateKey) else key


def _release_prefix(network: Network) -> bytes:
    """Return what the signature of a release covers before the body.

    A body begins with the byte 0x9a, never with a space, so what is signed for one
    network is never what is signed for another.
    """
    if network == PUBLIC_NETWORK:
        return b"caravan release 1"
    return b"caravan release 1 in " + network.tag


def _sealed(prefix: bytes, kind: int, body: list[object], *, signer: Signer) -> bytes:
    """Return the signed bytes of a record's fields."""
    packed = pack(body)
    raw = pack([kind, packed, signer.sign(prefix + packed)])
    if len(raw) > RECORD_BYTES_MAX:
        raise RecordError(
            f"The record would have {len(raw)} bytes, and {RECORD_BYTES_MAX} are "
            "allowed: shorten its name or version."
        )
    return raw


def _opened(
    raw: bytes, kind: int, body: type[msgspec.Struct]
) -> tuple[_SignedForm, Any]:
    """Return the signed form and the fields of a record, signature unchecked."""
    if len(raw) > RECORD_BYTES_MAX:
        raise RecordError("The record is too long.")
    try:
        sealed = convert(unpack(raw), _SignedForm)
        if sealed.kind != kind:
            raise RecordError("The record is of another kind.")
        fields = convert(unpack(sealed.body, text=True), body)
    except DatagramError:
        raise RecordError("The record is malformed.") from None
    if pack(astuple(sealed)) != raw or pack(astuple(fields)) != sealed.body:
        raise RecordError("The record is not written in the one way there is.")
    return sealed, fields


def _body(raw: bytes) -> bytes:
    """Return the signed body of a verified record."""
    return convert(unpack(raw), _SignedForm).body


def _check_signature(
    prefix: bytes, sealed: _SignedForm, signer: bytes, *, verify: Verify
) -> None:
    if not verify(signer, sealed.signature, prefix + sealed.body):
        raise RecordError("The signature of the record is wrong.")


def _check_bounds(fields: _ReleaseBody, delegation: Delegation | None) -> None:
    """Raise `RecordError` where a release contradicts itself or its delegation."""
    if len(fields.name.encode()) > RECORD_NAME_BYTES_MAX:
        raise RecordError("The name in the record is too long.")
    if len(fields.version.encode()) > RECORD_VERSION_BYTES_MAX:
        raise RecordError("The version in the record is too long.")
    if fields.issued_at >= fields.expires_at:
        raise RecordError("The record ends before it begins.")
    if delegation is None:
        return
    if (delegation.publisher, delegation.epoch) != (fields.publisher, fields.epoch):
        raise RecordError("The delegation is of another publisher or epoch.")


def _release_fields(
    raw: bytes, fields: _ReleaseBody, delegation: Delegation | None
) -> tuple[Any, ...]:
    """Return what `ReleaseRecord` is made of, in its order."""
    return (
        raw,
        fields.publisher,
        fields.name,
        fields.version,
        fields.epoch,
        fields.sequence,
        fields.package,
        _URGENCIES[fields.urgency],
        fields.issued_at,
        fields.expires_at,
        delegation.release_key if delegation else fields.publisher,
        delegation,
    )
