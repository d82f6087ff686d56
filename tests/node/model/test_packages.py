"""A package file is believed only as its publisher signed it."""

import base64
import contextlib
import json

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from dht import Delegation
from node.errors import RefusedError
from node.model.keys import PublisherKey, publisher_text
from node.model.packages import (
    PACKAGE_FILE_BYTES_MAX,
    PAYLOAD_TYPE,
    ArtifactEntry,
    Dependency,
    Package,
    PackageBody,
    is_package_file,
    issued_now,
)

NOW = 1_800_000_000.0


def key(seed: int = 1) -> PublisherKey:
    private = Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)
    return PublisherKey(private, private.public_key().public_bytes_raw())


def body(signer: PublisherKey, **changes) -> PackageBody:
    fields = {
        "format": 1,
        "publisher": signer.text,
        "name": "cffi",
        "version": "1.16.0",
        "epoch": 0,
        "sequence": 1,
        "issued": issued_now(NOW),
        "artifacts": [ArtifactEntry("cffi.whl", 3, digest(1), "ab" * 32)],
    }
    return PackageBody(**{**fields, **changes})


def digest(number: int) -> str:
    return f"sha256:{number:064x}"


def test_a_signed_package_reads_back():
    """What was signed is what is read, and its raw bytes are kept."""
    signed = Package.sign(body(key(), note="hello"), key())
    read = Package.verify(signed.raw)
    assert read.body == signed.body
    assert read.publisher == key().publisher
    assert read.order == (0, 1)
    assert read.file_name == "cffi-1.16.0.caravan"
    assert is_package_file(signed.raw)


RAW = Package.sign(body(key(), note="hello"), key()).raw


@given(position=st.integers(0, len(RAW) - 1), mask=st.integers(1, 255))
def test_every_changed_byte_is_refused(position, mask):
    """There is one encoding of what was signed, and no bit of it is free."""
    changed = bytearray(RAW)
    changed[position] ^= mask
    with pytest.raises(RefusedError):
        Package.verify(bytes(changed))


@given(
    position=st.integers(0, len(RAW)),
    removed=st.integers(0, 4),
    added=st.binary(max_size=4) | st.sampled_from([b" ", b"\n", b"\t", b"=", b"0"]),
)
def test_what_was_cut_or_added_is_refused(position, removed, added):
    changed = RAW[:position] + added + RAW[position + removed :]
    if changed != RAW:
        with pytest.raises(RefusedError):
            Package.verify(changed)


def reencoded():
    """Yield envelopes around the same signed payload that are not its encoding."""
    fields = json.loads(RAW)
    yield "spaces", json.dumps(fields).encode()
    yield "no line feed", RAW.rstrip(b"\n")
    yield "two line feeds", RAW + b"\n"
    yield "other order", msgspec.json.encode(dict(reversed(fields.items()))) + b"\n"
    yield "a field", msgspec.json.encode({**fields, "x": 1}) + b"\n"
    (signature,) = fields["signatures"]
    more = {**fields, "signatures": [{**signature, "x": 1}]}
    yield "a field of the signature", msgspec.json.encode(more) + b"\n"
    yield "escapes", RAW.replace(b"payloadType", b"payload\\u0054ype")
    padded = {**fields, "signatures": [{**signature, "sig": signature["sig"] + "===="}]}
    yield "padding", msgspec.json.encode(padded) + b"\n"
    spare = signature["sig"][:-3] + chr(ord(signature["sig"][-3]) + 1) + "=="
    bits = {**fields, "signatures": [{**signature, "sig": spare}]}
    yield "spare bits", msgspec.json.encode(bits) + b"\n"


@pytest.mark.parametrize("raw", [pytest.param(raw, id=why) for why, raw in reencoded()])
def test_a_reencoded_envelope_is_refused(raw):
    """Nobody without the key can make a second package file of the same release."""
    with pytest.raises(RefusedError):
        Package.verify(raw)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=60),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=9), inner, max_size=3)
    ),
    max_leaves=6,
)
NEAR = st.sampled_from(
    [
        "0001-01-01T00:00:00", "9999-12-31T23:59:59Z", "2026-01-01T00:00:00+23:59",
        "\u00e9" * 52, "a" * 51 + "b", "\x00", "\ud800", 2**63, -(2**63), 1e308
    ]
)  # fmt: skip
FIELDS = [one.encode_name for one in msgspec.structs.fields(PackageBody)]


def signed(content: object, keyid: str | None = None) -> bytes:
    """Return an envelope around any payload, rightly signed by a publisher."""
    try:
        payload = json.dumps(content).encode()
    except UnicodeEncodeError:
        payload = b"null"
    message = b"DSSEv1 %d %s %d %s" % (
        len(PAYLOAD_TYPE), PAYLOAD_TYPE.encode(), len(payload), payload
    )  # fmt: skip
    envelope = {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": PAYLOAD_TYPE,
        "signatures": [
            {
                "keyid": keyid or key().text,
                "sig": base64.b64encode(key().private_key.sign(message)).decode(),
            }
        ],
    }
    return msgspec.json.encode(envelope) + b"\n"


@given(changes=st.dictionaries(st.sampled_from(FIELDS), JSON | NEAR, max_size=3))
def test_a_publisher_may_sign_anything_and_is_refused_in_one_way(changes):
    """The verifier is total: a package, or RefusedError, whatever was signed."""
    content = {**json.loads(msgspec.json.encode(body(key()))), **changes}
    with contextlib.suppress(RefusedError):
        Package.verify(signed(content))


@given(keyid=st.text(min_size=1, max_size=60) | st.text(min_size=52, max_size=52))
def test_any_key_id_is_refused_in_one_way(keyid):
    content = json.loads(msgspec.json.encode(body(key())))
    with pytest.raises(RefusedError):
        Package.verify(signed(content, keyid.encode("utf-8", "ignore").decode() or "x"))


@given(raw=st.binary(max_size=300) | JSON.map(msgspec.json.encode))
def test_any_bytes_are_refused_in_one_way(raw):
    assert isinstance(is_package_file(raw), bool)
    with pytest.raises(RefusedError):
        Package.verify(raw)


def test_another_key_cannot_sign_for_a_publisher():
    """A stranger's signature under the publisher's name is refused."""
    forged = body(key(1))
    with pytest.raises(RefusedError, match="did not delegate"):
        Package.sign(forged, PublisherKey(key(2).private_key, key(1).publisher))


def delegated(end: float, epoch: int = 3) -> tuple[PackageBody, PublisherKey]:
    root, release = key(1), key(2)
    delegation = Delegation.sign(
        root.private_key, release.publisher, epoch=epoch, not_after=end
    )
    text = base64.b64encode(delegation.raw).decode()
    return body(root, delegation=text, epoch=3), PublisherKey(
        release.private_key, root.publisher
    )


def test_a_delegated_key_signs_until_the_delegation_ends():
    """The delegation counts at the time of issue, and only within its epoch."""
    assert Package.sign(*delegated(NOW + 10)).publisher == key(1).publisher
    with pytest.raises(RefusedError, match="did not delegate"):
        Package.sign(*delegated(NOW - 10))
    with pytest.raises(RefusedError, match="another key"):
        Package.sign(*delegated(NOW + 10, epoch=4))


def test_a_small_order_key_is_refused():
    """The identity point would accept a forged signature on anything."""
    weak = bytes([1]) + bytes(31)
    payload = msgspec.json.encode(body(key(), publisher=publisher_text(weak)))
    envelope = {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": "application/vnd.caravan.package+json",
        "signatures": [
            {
                "keyid": publisher_text(weak),
                "sig": base64.b64encode(weak + bytes(32)).decode(),
            }
        ],
    }
    with pytest.raises(RefusedError, match="signature"):
        Package.verify(msgspec.json.encode(envelope) + b"\n")


@pytest.mark.parametrize(
    "changes",
    [
        {"format": 2},
        {"name": "../evil"},
        {"version": "a/b"},
        {"sequence": 0},
        {"sequence": 2**63},
        {"epoch": -1},
        {"artifacts": []},
        {"artifacts": [ArtifactEntry("../x", 1, digest(1), "ab" * 32)]},
        {"artifacts": [ArtifactEntry("x", -1, digest(1), "ab" * 32)]},
        {"artifacts": [ArtifactEntry("x", 1, "sha1:00", "ab" * 32)]},
        {"artifacts": [ArtifactEntry("x", 1, digest(1), "zz")]},
        {
            "artifacts": [
                ArtifactEntry("x", 1, digest(1), "ab" * 32),
                ArtifactEntry("X", 1, digest(2), "ab" * 32),
            ]
        },
        {"dependencies": [Dependency("package", "md5:00")]},
        {"dependencies": [Dependency("package", digest(1), "../x")]},
        {"replaces": [digest(number) for number in range(257)]},
        {"previous": "nothing"},
        {"note": "x" * 1001},
        {"note": "\x1b[2J"},
        {"home_page": "javascript:alert(1)"},
        {"license": "x" * 201},
    ],
)
def test_a_bad_field_is_refused_even_when_signed(changes):
    """The publisher's own signature does not make a bad field good."""
    with pytest.raises(RefusedError):
        Package.sign(body(key(), **changes), key())


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff" * 100,
        b"[" * 100_000,
        b'{"payload": 1}',
        b"{" + b" " * PACKAGE_FILE_BYTES_MAX + b"}",
    ],
)
def test_garbage_is_no_package_file(raw):
    """Whatever the bytes are, the answer is a refusal, not an accident."""
    assert not is_package_file(raw)
    with pytest.raises(RefusedError):
        Package.verify(raw)


def test_a_big_package_fits():
    """Fifty artifacts and two hundred dependencies are an ordinary package."""
    big = body(
        key(),
        artifacts=[
            ArtifactEntry(f"file-{n}.whl", n, digest(n), "ab" * 32, "cd" * 64)
            for n in range(50)
        ],
        dependencies=[
            Dependency("package", digest(n), f"d{n}", "1") for n in range(200)
        ],
    )
    assert Package.sign(big, key()).body == big
