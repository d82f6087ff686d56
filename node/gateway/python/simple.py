"""The simple repository API: PEP 503 (HTML) and PEP 691 (JSON), read and written.

An upstream's page is read into `Project`; ours is written with relative URLs that name
each file by its digest, so it needs no address of its own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html import escape
from html.parser import HTMLParser
from typing import Any
from urllib.parse import quote, unquote, urldefrag, urljoin, urlsplit

import msgspec

from node.gateway import limits
from node.gateway.page_cache import NamedFile, StoredPage, strongest_first
from transfer import Digest, DigestError

JSON_TYPE = "application/vnd.pypi.simple.v1+json"
HTML_TYPE = "application/vnd.pypi.simple.v1+html"
ACCEPT = f"{JSON_TYPE}, {HTML_TYPE};q=0.2, text/html;q=0.1"
NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,127}[A-Za-z0-9])?")
UPSTREAM = "pypi"
METADATA = ".metadata"

_BY_BLAKE2B = re.compile(r"/([0-9a-f]{2})/([0-9a-f]{2})/([0-9a-f]{60})/[^/]+\Z")
_KEPT = ("requires-python", "yanked", "upload-time")
_TEXTS = ("requires-python", "upload-time")


def normalized(name: str) -> str:
    """Return the name that all spellings of a project share (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


@dataclass(frozen=True, slots=True)
class ProjectFile:
    """One file of a project."""

    name: str
    url: str
    digests: tuple[Digest, ...]
    size: int | None = None
    more: dict[str, Any] = field(default_factory=dict, hash=False)
    """requires-python, yanked and upload-time, as the index says them."""
    metadata: Digest | bool = False
    """Whether the index has a wheel's metadata apart (PEP 658), and its digest."""


@dataclass(frozen=True, slots=True)
class Project:
    """A project's page."""

    name: str
    files: list[ProjectFile]
    versions: list[str] = field(default_factory=list)


def read_project(name: str, page: StoredPage) -> Project:
    """Read a page in either form; ValueError where it is none."""
    if page.content_type.partition(";")[0].strip().lower().endswith("json"):
        return _read_json(name, page)
    return _read_html(name, page)


def named_files(project: Project, upstream: str = UPSTREAM) -> list[NamedFile]:
    """Return what the ledger remembers of a page: each file with any digest.

    Metadata that the index has apart is a small file of its own.
    """
    files = []
    for one in project.files:
        if one.digests:
            files.append(
                NamedFile(
                    upstream, project.name, one.name, one.url, one.digests, one.size
                )
            )
        if one.digests and isinstance(one.metadata, Digest):
            name, url = one.name + METADATA, one.url + METADATA
            files.append(NamedFile(upstream, project.name, name, url, (one.metadata,)))
    return files


def write_json(project: Project) -> bytes:
    """Write our page in JSON (PEP 691)."""
    files = []
    for one in project.files:
        entry: dict[str, Any] = {
            "filename": one.name,
            "url": our_url(one),
            "hashes": {
                digest.algorithm: digest.hex
                for digest in one.digests
                if digest.algorithm != "blake2b-256"
            },
            **one.more,
        }
        if one.size is not None:
            entry["size"] = one.size
        if _has_metadata(one):
            entry["core-metadata"] = entry["dist-info-metadata"] = True
        files.append(entry)
    document: dict[str, Any] = {
        "meta": {"api-version": "1.0"},
        "name": project.name,
        "files": files,
    }
    if project.versions and all(one.size is not None for one in project.files):
        document["meta"]["api-version"] = "1.1"
        document["versions"] = project.versions
    return msgspec.json.encode(document)


def write_html(project: Project) -> bytes:
    """Write our page in HTML (PEP 503)."""
    lines = [
        "<!DOCTYPE html>",
        '<html><head><meta name="pypi:repository-version" content="1.0">',
        f"<title>{escape(project.name)}</title></head><body>",
    ]
    for one in project.files:
        attributes = ""
        if text := one.more.get("requires-python"):
            attributes += f' data-requires-python="{escape(str(text))}"'
        if (yanked := one.more.get("yanked")) not in (None, False):
            why = "" if yanked is True else str(yanked)
            attributes += f' data-yanked="{escape(why)}"'
        if _has_metadata(one):
            attributes += ' data-core-metadata="true" data-dist-info-metadata="true"'
        fragment = _fragment(one)
        lines.append(
            f'<a href="{escape(our_url(one) + fragment)}"{attributes}>'
            f"{escape(one.name)}</a><br>"
        )
    return "\n".join([*lines, "</body></html>", ""]).encode()


def our_url(file: ProjectFile) -> str:
    """Return where this gateway has a file, seen from its project's page.

    A file without a digest cannot be verified, so its own URL is left as it is.
    """
    if not file.digests:
        return file.url
    digest = file.digests[0]
    return f"../../files/{digest.algorithm}/{digest.hex}/{quote(file.name)}"


def _fragment(file: ProjectFile) -> str:
    usable = [one for one in file.digests if one.algorithm != "blake2b-256"]
    return f"#{usable[0].algorithm}={usable[0].hex}" if usable else ""


def _has_metadata(file: ProjectFile) -> bool:
    return file.name.endswith(".whl") and bool(file.digests)


# --- JSON --------------------------------------------------------------------------


def _read_json(name: str, page: StoredPage) -> Project:
    try:
        document = msgspec.json.decode(page.body, type=dict[str, Any])
    except msgspec.MsgspecError as error:
        raise ValueError(str(error)) from error
    meta = document.get("meta")
    version = str(meta.get("api-version", "")) if isinstance(meta, dict) else ""
    entries = document.get("files")
    if not version.startswith("1.") or not isinstance(entries, list):
        raise ValueError("it is not a page of version 1 of the simple API")
    if len(entries) > limits.FILES_PER_PAGE_MAX:
        raise ValueError("it names too many files")
    files = [
        file
        for entry in entries
        if isinstance(entry, dict) and (file := _file_of(entry, page.url)) is not None
    ]
    versions = document.get("versions")
    texts = versions if isinstance(versions, list) else []
    return Project(name, files, [one for one in texts if isinstance(one, str)])


def _file_of(entry: dict[str, Any], base: str) -> ProjectFile | None:
    file, url, hashes = entry.get("filename"), entry.get("url"), entry.get("hashes")
    if not isinstance(file, str) or not isinstance(url, str) or not _is_file(file):
        return None
    size = entry.get("size")
    more = {name: entry[name] for name in _KEPT if _is_kept(name, entry.get(name))}
    metadata = entry.get("core-metadata", entry.get("dist-info-metadata", False))
    target = urldefrag(urljoin(base, url)).url
    return ProjectFile(
        file,
        target,
        _digests(hashes if isinstance(hashes, dict) else {}, target),
        size if isinstance(size, int) and size >= 0 else None,
        more,
        _metadata(metadata),
    )


def _is_kept(name: str, value: object) -> bool:
    if name in _TEXTS:
        return isinstance(value, str)
    return isinstance(value, bool | str)


def _metadata(said: object) -> Digest | bool:
    if isinstance(said, dict):
        digests = _digests(said, "")
        return digests[0] if digests else True
    return said is True


def _digests(hashes: dict[str, Any], url: str) -> tuple[Digest, ...]:
    """Return the digests that can be verified, with the one in a path of PyPI's."""
    found = set()
    for algorithm, text in hashes.items():
        try:
            found.add(Digest.parse(f"{algorithm}:{text}"))
        except DigestError:
            continue
    if found and (match := _BY_BLAKE2B.search(urlsplit(url).path)):
        found.add(Digest("blake2b-256", bytes.fromhex("".join(match.groups()))))
    return strongest_first(found)


def _is_file(name: str) -> bool:
    """Tell whether a text can be a file's name: one step of a path, in one line."""
    return (
        0 < len(name) <= 250
        and name.isprintable()
        and "/" not in name
        and "\\" not in name
        and not name.startswith(".")
    )


# --- HTML --------------------------------------------------------------------------


class _Links(HTMLParser):
    """Collects the anchors of a page."""

    def __init__(self, base: str) -> None:
        super().__init__(convert_charrefs=True)
        self.base = base
        self.files: list[ProjectFile] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take in an anchor, or the base of the URLs."""
        given = {name: text or "" for name, text in attrs}
        if tag == "base" and given.get("href"):
            self.base = urljoin(self.base, given["href"])
        if tag != "a" or "href" not in given:
            return
        if len(self.files) >= limits.FILES_PER_PAGE_MAX:
            raise ValueError("it names too many files")
        url, fragment = urldefrag(urljoin(self.base, given["href"]))
        algorithm, _, text = fragment.partition("&")[0].partition("=")
        hashes = {algorithm: text} if text else {}
        more: dict[str, Any] = {}
        if python := given.get("data-requires-python"):
            more["requires-python"] = python
        if "data-yanked" in given:
            more["yanked"] = given["data-yanked"] or True
        said = given.get("data-core-metadata", given.get("data-dist-info-metadata"))
        name = unquote(urlsplit(url).path.rpartition("/")[2])
        if _is_file(name):
            self.files.append(
                ProjectFile(
                    name, url, _digests(hashes, url), None, more, _said_in_html(said)
                )
            )


def _said_in_html(said: str | None) -> Digest | bool:
    algorithm, _, text = (said or "").partition("=")
    return _metadata({algorithm: text}) if text else said is not None


def _read_html(name: str, page: StoredPage) -> Project:
    links = _Links(page.url)
    links.feed(page.body.decode("utf-8", "replace"))
    return Project(name, links.files)
