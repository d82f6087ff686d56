"""Digests are read in every form that lockfiles use, and printed in one."""

from __future__ import annotations

import base64
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transfer.content.digest import ALGORITHM_BYTES, FORMS, Digest
from transfer.errors import DigestError

ABC = hashlib.sha256(b"abc").digest()
NI_NAMES = {"sha256": "sha-256", "sha512": "sha-512", "blake2b-256": "blake2b-256"}

digests = st.sampled_from(sorted(ALGORITHM_BYTES)).flatmap(
    lambda name: st.binary(
        min_size=ALGORITHM_BYTES[name], max_size=ALGORITHM_BYTES[name]
    ).map(lambda raw: Digest(name, raw))
)


def forms_of(digest: Digest) -> list[str]:
    forms = [str(digest), str(digest).upper(), f"{digest.algorithm}={digest.hex}"]
    sri = base64.b64encode(digest.raw).decode()
    forms.append(f"{digest.algorithm}-{sri}")
    if digest.algorithm != "blake2b-256":
        forms.append(digest.hex)
    if ni := NI_NAMES.get(digest.algorithm):
        web = base64.urlsafe_b64encode(digest.raw).decode().rstrip("=")
        forms.append(f"ni:///{ni};{web}")
    return forms


@given(digests)
def test_every_form_names_the_same_digest(digest):
    """Whatever the form, the same digest is read."""
    for form in forms_of(digest):
        assert Digest.parse(form) == digest
    assert Digest.parse(str(digest)) == digest


@given(st.text(max_size=200))
def test_any_text_is_a_digest_or_a_digest_error(text):
    """Whatever is given, nothing else is raised."""
    try:
        digest = Digest.parse(text)
    except DigestError:
        return
    assert Digest.parse(str(digest)) == digest


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sha256:",
        "sha256:" + "a" * 63,
        "sha256:" + "g" * 64,
        "sha3:" + "a" * 64,
        "a" * 65,
        "a" * 62 + " \n",
        "sha256:" + "a" * 64 + "\n",
        "sha256-" + base64.b64encode(ABC).decode().rstrip("="),
        "sha256-" + base64.b64encode(ABC + b"x").decode(),
        "ni:///sha-256;" + base64.urlsafe_b64encode(ABC).decode(),
        "ni:///sha-256-128;" + base64.urlsafe_b64encode(ABC[:16]).decode().rstrip("="),
        "ni://host/sha-256;" + base64.urlsafe_b64encode(ABC).decode().rstrip("="),
        "sha256:" + "\u0661" * 64,
    ],
)
def test_a_malformed_digest_is_refused(text):
    """The message names the forms that are read."""
    with pytest.raises(DigestError) as raised:
        Digest.parse(text)
    assert FORMS in str(raised.value)


def test_another_spelling_of_the_same_base64_is_refused():
    """Spare bits of the last character must be zero."""
    good = base64.b64encode(ABC).decode()
    spare = good[:-2] + chr(ord(good[-2]) + 1) + "="
    with pytest.raises(DigestError):
        Digest.parse(f"sha256-{spare}")


@pytest.mark.parametrize("name", sorted(ALGORITHM_BYTES))
def test_digests_of_bytes_and_files_agree(name, tmp_path):
    """Bytes in memory and in a file have the same digest."""
    path = tmp_path / "file"
    path.write_bytes(b"abc" * 500_000)
    assert Digest.of(b"abc" * 500_000, name) == Digest.of_file(path, name)


def test_known_answers():
    """The algorithms are what their names say."""
    assert Digest.of(b"abc").hex == ABC.hex()
    assert Digest.of(b"abc").short() == ABC.hex()[:10]
    assert Digest.of(b"abc", "md5").hex == "900150983cd24fb0d6963f7d28e17f72"
    expected = hashlib.blake2b(b"abc", digest_size=32).hexdigest()
    assert Digest.of(b"abc", "blake2b-256").hex == expected
