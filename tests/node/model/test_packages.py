"""A package file is believed only as its publisher signed it."""

import base64
import json

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from dht import Delegation
from node.errors import RefusedError
from node.model.keys import PublisherKey, publisher_text
from node.model.packages import (
    PACKAGE_FILE_BYTES_MAX,
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


def test_every_flipped_byte_is_refused():
    """No single changed byte of the envelope's payload or signature is believed."""
    raw = Package.sign(body(key()), key()).raw
    for position in range(0, len(raw), 7):
        changed = bytearray(raw)
        changed[position] ^= 1
        try:
            read = Package.verify(bytes(changed))
        except RefusedError:
            continue
        assert read.body == Package.verify(raw).body


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
        Package.verify(json.dumps(envelope).encode())


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
