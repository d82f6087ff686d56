"""Packuments: the documents of npm packages, with the tarballs at this node.

A packument can have ten megabytes, of which little is needed: the `dist` of each
version is decoded, and the tarballs' URLs are put into the bytes as they came.
"""

from __future__ import annotations

import json
import re
from binascii import a2b_base64
from typing import Any
from urllib.parse import unquote

import msgspec

from node.gateway import json_text, limits
from node.gateway.named_file import parse_digests
from node.gateway.named_files import NamedFiles, line
from node.gateway.pages import ReadPage

BASE = "http://caravan.invalid"
"""Stands for the URL of the registry at this node, which depends on who asks."""
_TARBALL = re.compile(rb'"tarball"\s*+:\s*+"((?:[^"\\]++|\\.)*+)"')
_PUBLIC = ("https://registry.npmjs.org/", "http://registry.npmjs.org/")
_SHA512 = re.compile(r"sha512-[A-Za-z0-9+/]{86}==")
_SHA1 = re.compile(r"[0-9a-f]{40}")
_FILE = re.compile(r"[A-Za-z0-9_~@-][A-Za-z0-9~@._+-]{0,250}")


class _Dist(msgspec.Struct):
    tarball: str = ""
    integrity: str | None = None
    shasum: str | None = None


class _Version(msgspec.Struct):
    dist: _Dist | None = None


class _Packument(msgspec.Struct):
    versions: dict[str, _Version] | None = None
    tags: msgspec.Raw | None = msgspec.field(name="dist-tags", default=None)
    time: msgspec.Raw | None = None


# Made once, with the module: the first page of a node's life need not wait for it.
_DECODER = msgspec.json.Decoder(_Packument)


def read_packument(
    body: bytes, upstream: str, name: str, *, registry: str = ""
) -> ReadPage:
    """Read a packument; ValueError where it is none. Blocks.

    `registry` is the URL of the upstream, for tarballs at npm's own host.
    """
    body, document = _decoded(body)
    versions = document.versions or {}
    if document.versions is None and not (document.tags or document.time):
        raise ValueError("it has no versions")
    if len(versions) > limits.FILES_PER_PAGE_MAX:
        raise ValueError("it names too many versions")
    lines, urls = ["\n"], {}
    bare = name.rpartition("/")[2]
    ours = f"{BASE}/{name}/-/"
    for version, about in versions.items():
        dist = about.dist
        if dist is None or not _is_url(dist.tarball):
            continue
        file = f"{bare}-{version}.tgz"
        if not _FILE.fullmatch(file):
            continue
        # Two versions may have tarballs of one name: our own name tells them apart.
        urls[dist.tarball] = ours + file
        digests = _digests(dist)
        origin = f"{name}\t{_replaced_host(dist.tarball, registry)}"
        lines.append(line(file, size=None, digests=digests, origin=origin))
        given = _file_of(dist.tarball)
        if given not in ("", file):
            # Older lockfiles name a tarball as its own registry does.
            lines.append(line(f"-{given}", size=None, digests=digests, origin=origin))
    files = NamedFiles(upstream, "".join(lines).encode("utf-8", "replace"))
    return ReadPage(files, {"": _rewritten(body, urls)})


def _rewritten(body: bytes, urls: dict[str, str]) -> bytes:
    """Return a packument with our URLs in the place of the given ones."""

    def replaced(match: re.Match[bytes]) -> bytes:
        given = match[1]
        try:
            if b"\\" in given:
                url = msgspec.json.decode(b'"' + given + b'"', type=str)
            else:
                url = given.decode()
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return match[0]
        ours = urls.get(url)
        return match[0] if ours is None else f'"tarball":"{ours}"'.encode()

    return _TARBALL.sub(replaced, body)


def _decoded(body: bytes) -> tuple[bytes, _Packument]:
    """Return a packument, without the versions that cannot be read."""
    try:
        return body, _DECODER.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        whole = json_text.loads(body)
    versions = whole.get("versions") if isinstance(whole, dict) else None
    if not isinstance(versions, dict):
        raise ValueError("it is no packument")  # noqa: TRY004 - of a stranger
    sound = {
        version: found
        for version, about in versions.items()
        if (found := _sound(about)) is not None
    }
    whole["versions"] = {version: versions[version] for version in sound}
    return _encoded(whole), _Packument(sound)


def _encoded(document: dict[str, Any]) -> bytes:
    try:
        return msgspec.json.encode(document)
    except UnicodeEncodeError:  # halves of surrogates, which stay escaped
        return json.dumps(document, separators=(",", ":")).encode()


def _replaced_host(tarball: str, registry: str) -> str:
    """Return where a tarball is: npm's own host stands for the registry in use.

    So does npm (its option `replace-registry-host`): a mirror passes on documents that
    name the public registry, which a closed network does not reach.
    """
    for start in _PUBLIC:
        if registry and tarball.startswith(start) and not registry.startswith(_PUBLIC):
            return registry + tarball.removeprefix(start)
    return tarball


def _sound(about: object) -> _Version | None:
    """Return what is read of a version, or None where it cannot be."""
    try:
        return msgspec.convert(about, _Version)
    except msgspec.MsgspecError:
        return None


def _digests(dist: _Dist) -> str:
    """Return the digests of a tarball; the usual two without parsing them."""
    integrity, shasum = dist.integrity or "", dist.shasum or ""
    if _SHA512.fullmatch(integrity) and _SHA1.fullmatch(shasum):
        return f"sha512:{a2b_base64(integrity[7:]).hex()} sha1:{shasum}"
    texts = [one.partition("?")[0] for one in integrity.split()]
    if shasum:
        texts.append(f"sha1:{shasum}")
    return " ".join(map(str, parse_digests(texts)))


def _file_of(tarball: str) -> str:
    """Return the name of the file that a URL leads to, or ""."""
    file = tarball.partition("?")[0].rpartition("/")[2]
    if not _FILE.fullmatch(file):
        file = unquote(file.partition("#")[0])
    return file if _FILE.fullmatch(file) else ""


def _is_url(url: str) -> bool:
    return (
        len(url) <= limits.URL_CHARACTERS_MAX
        and url.startswith(("https://", "http://"))
        and url.isprintable()
    )
