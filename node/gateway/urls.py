"""The grammar of the gateway's URLs, as far as they hold digests."""

from __future__ import annotations

import re

from transfer import Digest, DigestError

_HEX = re.compile(r"[0-9a-f]+")
_OPAM = ("md5", "sha1", "sha256", "sha512")


def blob_digest(algorithm: str, text: str) -> Digest | None:
    """Read /blob/{algorithm}/{hex}; None where it is no digest."""
    if not _HEX.fullmatch(text.lower()):
        return None
    return _parsed(f"{algorithm}:{text}")


def ni_digest(algorithm: str, text: str) -> Digest | None:
    """Read /.well-known/ni/{algorithm}/{base64url} (RFC 6920)."""
    return _parsed(f"ni:///{algorithm};{text}")


def opam_digest(algorithm: str, folder: str, text: str) -> Digest | None:
    """Read /opam/{algorithm}/{two digits}/{hex}."""
    if algorithm not in _OPAM or text[:2] != folder:
        return None
    return blob_digest(algorithm, text)


def pool_digest(one: str, two: str, rest: str) -> Digest | None:
    """Read /packages/{2}/{2}/{60}, a BLAKE2b-256 as PyPI's file host writes it."""
    if (len(one), len(two), len(rest)) != (2, 2, 60):
        return None
    return blob_digest("blake2b-256", one + two + rest)


def _parsed(text: str) -> Digest | None:
    try:
        return Digest.parse(text)
    except DigestError:
        return None
