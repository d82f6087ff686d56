"""The simple repository API: PEP 503 (HTML) and PEP 691 (JSON), read and written.

An upstream's page is read once, into our page in both forms and the text in which its
files are found. Our URLs are relative and name each file by its digest, so a page needs
no address of its own. A popular project has thousands of files: what is done for each
of them is kept short.
"""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass, field
from html import escape
from typing import Any
from urllib.parse import quote, unquote, urljoin, urlsplit

import msgspec

from node.gateway import json_text, limits
from node.gateway.named_file import parse_digests
from node.gateway.named_files import NamedFiles, line
from node.gateway.origin import OriginPage
from node.gateway.pages import ReadPage
from node.gateway.python.html_links import tags
from node.gateway.python.plain_page import METADATA, read_plain
from node.gateway.python.wheels import normalized

JSON_TYPE = "application/vnd.pypi.simple.v1+json"
HTML_TYPE = "application/vnd.pypi.simple.v1+html"
PLAIN_HTML_TYPE = "text/html; charset=utf-8"
ACCEPT = f"{JSON_TYPE}, {HTML_TYPE};q=0.2, text/html;q=0.1"
NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,127}[A-Za-z0-9])?")
JSON, HTML = "json", "html"

_KEPT = ("requires-python", "yanked", "upload-time")
_PLAIN = re.compile(r"[A-Za-z0-9_.+!-]{1,250}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
# Steps of a path that need no thought: none is "." or "..", none has a query.
_STEP = r"[A-Za-z0-9_][A-Za-z0-9_.+!%~-]*+"
_RELATIVE = re.compile(rf"((?:\.\./)*+|/)({_STEP}(?:/{_STEP})*+)")
_PASSED_ON = ("sha384", "sha224")
_HEX = re.compile(r"[0-9a-f]{56,96}")
_CHARSET = re.compile(r"charset\s*+=\s*+[\"']?([A-Za-z0-9-]++)", re.IGNORECASE)
_CHARSETS = ("utf-8", "utf-16", "iso-8859-1", "iso-8859-15", "windows-1252")
_ALGORITHMS = ("sha256", "sha512", "blake2b-256", "sha1", "md5")
# What pip takes for a distribution (its utils/filetypes.py), and eggs of old.
_ENDINGS = (
    ".whl", ".tar.gz", ".zip", ".tar.bz2", ".tgz", ".tar", ".tar.xz", ".txz", ".tlz",
    ".tar.lz", ".tar.lzma", ".tbz", ".egg", ".exe", ".msi", ".rpm", ".deb", ".dmg",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ProjectFile:
    """One file of a project."""

    name: str
    url: str
    digests: tuple[str, ...] = ()
    """Each as ALGORITHM:HEX, the strongest first; none where the index names none."""
    size: int | None = None
    more: dict[str, Any] = field(default_factory=dict, hash=False)
    """requires-python, yanked and upload-time, as the index says them."""
    metadata: str | bool = False
    """Whether the index has a wheel's metadata apart (PEP 658), and its digest."""
    passed_on: tuple[str, ...] = ()
    """ALGORITHM:HEX of what clients can verify and this node cannot."""


@dataclass(frozen=True, slots=True)
class Project:
    """A project's page."""

    name: str
    files: list[ProjectFile]
    versions: list[str] = field(default_factory=list)


def read_page(upstream: str, name: str, page: OriginPage) -> ReadPage:
    """Read an upstream's page in either form; ValueError where it is none. Blocks."""
    if _is_json(page) and (plain := read_plain(upstream, name, page)) is not None:
        files, ours = plain
        return ReadPage(files, {JSON: ours})
    project = read_project(name, page)
    return ReadPage(named_files(project, upstream), {JSON: write_json(project)})


def read_project(name: str, page: OriginPage) -> Project:
    """Read a page in either form; ValueError where it is none."""
    if _is_json(page):
        return _read_json(name, page)
    kind = _type_of(page)
    if kind and "html" not in kind:
        raise ValueError(f"{kind} is no type of an index page")
    return _read_html(name, page)


def _type_of(page: OriginPage) -> str:
    return page.content_type.partition(";")[0].strip().lower()


def _is_json(page: OriginPage) -> bool:
    return _type_of(page).endswith("json")


def named_files(project: Project, upstream: str) -> NamedFiles:
    """Return the text in which a project's files are found.

    Metadata that the index has apart is a small file of its own, called after the
    wheel's digest: another wheel can have the same file name.
    """
    lines = ["\n"]
    for one in project.files:
        origin = f"{project.name}\t{one.url}"
        digests = " ".join(one.digests)
        lines.append(line(one.name, size=one.size, digests=digests, origin=origin))
        if isinstance(one.metadata, str) and one.digests:
            name = metadata_name(one.digests[0])
            origin += METADATA
            lines.append(line(name, size=None, digests=one.metadata, origin=origin))
    return NamedFiles(upstream, "".join(lines).encode("utf-8", "replace"))


def metadata_name(wheel: str) -> str:
    """Return what the metadata of a wheel is called, by the wheel's digest."""
    return f"{wheel}{METADATA}"


def write_json(project: Project) -> bytes:
    """Write our page in JSON (PEP 691)."""
    files = []
    for one in project.files:
        hashes = dict(
            text.split(":", 1)
            for text in one.digests or one.passed_on
            if not text.startswith("blake2b")
        )
        entry: dict[str, Any] = {
            "filename": one.name,
            "url": our_url(project.name, one),
            "hashes": hashes,
            **one.more,
        }
        if one.size is not None:
            entry["size"] = one.size
        if one.metadata and one.digests:
            said = one.metadata
            apart: Any = True
            if isinstance(said, str):
                algorithm, _, value = said.partition(":")
                apart = {algorithm: value}
            entry["core-metadata"] = entry["dist-info-metadata"] = apart
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


def html_of(page: bytes) -> bytes:
    """Return our page in HTML (PEP 503), from our page in JSON. Blocks."""
    document: dict[str, Any] = msgspec.json.decode(page)
    lines = [
        "<!DOCTYPE html>",
        '<html><head><meta name="pypi:repository-version" content="1.0">',
        f"<title>Links for {escape(document['name'])}</title></head><body>",
    ]
    for entry in document["files"]:
        hashes: dict[str, str] = entry["hashes"]
        first = next(iter(hashes.items()), None)
        url = entry["url"] + (f"#{first[0]}={first[1]}" if first else "")
        lines.append(
            f'<a href="{escape(url)}"{_html_attributes(entry)}>'
            f"{escape(entry['filename'])}</a><br>"
        )
    return "\n".join([*lines, "</body></html>", ""]).encode("utf-8", "replace")


def our_url(project: str, file: ProjectFile) -> str:
    """Return where this gateway has a file, seen from its project's page.

    One without a digest is passed through from its origin, under the project's name.
    """
    name = file.name if _PLAIN.fullmatch(file.name) else quote(file.name)
    if not file.digests:
        return f"../../unverified/{project}/{name}"
    digest = file.digests[0].replace(":", "/", 1)
    return f"../../files/{digest}/{name}"


def _html_attributes(entry: dict[str, Any]) -> str:
    attributes = ""
    if text := entry.get("requires-python"):
        attributes += f' data-requires-python="{escape(text)}"'
    if yanked := entry.get("yanked"):
        why = "" if yanked is True else yanked
        attributes += f' data-yanked="{escape(why)}"'
    if said := entry.get("core-metadata"):
        digest = next(iter(said.items())) if isinstance(said, dict) else None
        text = f"{digest[0]}={digest[1]}" if digest else "true"
        attributes += f' data-core-metadata="{text}" data-dist-info-metadata="{text}"'
    return attributes


# --- what both forms share -----------------------------------------------------------


def _digest_texts(hashes: dict[str, Any]) -> tuple[str, ...]:
    """Return the digests that can be verified; the usual one quickly."""
    sha256 = hashes.get("sha256")
    if isinstance(sha256, str) and len(hashes) == 1 and _SHA256.fullmatch(sha256):
        return (f"sha256:{sha256}",)
    texts = (f"{algorithm}:{text}" for algorithm, text in hashes.items())
    return tuple(map(str, parse_digests(texts)))


def _metadata(said: object) -> str | bool:
    if isinstance(said, dict):
        digests = _digest_texts(said)
        return digests[0] if digests else True
    return said is True


def _is_file(name: str) -> bool:
    """Tell whether a text can be a file's name: one step of a path, in one line."""
    if name.startswith("."):
        return False
    return _PLAIN.fullmatch(name) is not None or (
        0 < len(name) <= 250
        and name.isprintable()
        and "/" not in name
        and "\\" not in name
    )


def _is_distribution(name: str) -> bool:
    """Tell whether a name ends as a distribution's does."""
    return name.lower().endswith(_ENDINGS)


class _Base:
    """What the links of a page are relative to."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._folders: dict[str, str] = {}

    def joined(self, link: str) -> str:
        """Return an absolute URL, as it was written where it is one; ValueError.

        The many links of a page go up to the same few folders (RFC 3986, 5.2.4).
        """
        if link.startswith(("https://", "http://")):
            return link
        if (match := _RELATIVE.fullmatch(link)) is None:
            return urljoin(self._url, link)
        up, below = match.groups()
        if up not in self._folders:
            self._folders[up] = urljoin(self._url, up or "./")
        return self._folders[up] + below


def _is_url(url: str) -> bool:
    return (
        len(url) <= limits.URL_CHARACTERS_MAX
        and url.startswith(("https://", "http://"))
        and url.isprintable()
    )


# --- JSON --------------------------------------------------------------------------


def _read_json(name: str, page: OriginPage) -> Project:
    try:
        document: Any = msgspec.json.decode(page.body)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        document = json_text.loads(page.body)
    if not isinstance(document, dict):
        raise ValueError("it is no page")  # noqa: TRY004 - of what a stranger wrote
    meta = document.get("meta")
    said = meta.get("api-version") if isinstance(meta, dict) else None
    entries = document.get("files")
    if not str(said or "1.0").startswith("1.") or not isinstance(entries, list):
        raise ValueError("it is not a page of version 1 of the simple API")
    if len(entries) > limits.FILES_PER_PAGE_MAX:
        raise ValueError("it names too many files")
    base = _Base(page.url)
    files = [
        file
        for entry in entries
        if isinstance(entry, dict) and (file := _file_of(entry, base)) is not None
    ]
    versions = document.get("versions")
    texts = versions if isinstance(versions, list) else []
    return Project(name, files, list(filter(json_text.is_text, texts)))


def _file_of(entry: dict[str, Any], base: _Base) -> ProjectFile | None:
    file, link = entry.get("filename"), entry.get("url")
    if not isinstance(file, str) or not isinstance(link, str) or not _is_file(file):
        return None
    given = entry.get("hashes")
    bare, _, fragment = link.partition("#")
    hashes = given if isinstance(given, dict) and given else _hashes_in(fragment)
    try:
        url = base.joined(bare)
    except ValueError:
        return None
    if not _is_url(url):
        return None
    size = entry.get("size")
    more = {key: entry[key] for key in _KEPT if _is_kept(key, entry.get(key))}
    return ProjectFile(
        file,
        url,
        _digest_texts(hashes),
        size if type(size) is int and 0 <= size < 2**60 else None,
        more,
        _metadata(entry.get("core-metadata", entry.get("dist-info-metadata"))),
        _passed_on(hashes),
    )


def _is_kept(name: str, value: object) -> bool:
    if name == "yanked":
        return value is True or json_text.is_text(value)
    return json_text.is_text(value)


# --- HTML --------------------------------------------------------------------------


def _read_html(name: str, page: OriginPage) -> Project:
    text = page.body.decode(_charset_of(page), "replace")
    files: list[ProjectFile] = []
    is_index = "Links for" in text[:4096]
    base, has_base = _Base(page.url), False
    for tag, given in tags(text):
        if tag == "meta":
            is_index = is_index or given.get("name") == "pypi:repository-version"
        elif tag == "base" and given.get("href") and not has_base:
            has_base = True  # the first one counts, as in a browser
            with contextlib.suppress(ValueError):
                # Every link is joined to it, so its length counts for each of them.
                if _is_url(url := base.joined(given["href"])):
                    base = _Base(url)
        elif tag == "a" and "href" in given:
            if len(files) >= limits.FILES_PER_PAGE_MAX:
                raise ValueError("it names too many files")
            if (file := _linked(base, given)) is not None:
                files.append(file)
    if not is_index and not any(one.digests or _is_of(name, one) for one in files):
        # A login page of a hotel has links, to a program of its own as well; an index
        # page says what it is.
        raise ValueError("it names no file of the project")
    return Project(name, files)


def _linked(base: _Base, given: dict[str, str]) -> ProjectFile | None:
    link, _, fragment = given["href"].strip().partition("#")
    try:
        url = base.joined(link)
        if "[" in url:
            urlsplit(url)
    except ValueError:
        return None
    file = url.partition("?")[0].rpartition("/")[2]
    if "%" in file:
        file = unquote(file)
    if not _is_url(url) or not _is_file(file):
        return None
    more: dict[str, Any] = {}
    if python := given.get("data-requires-python"):
        more["requires-python"] = python
    if "data-yanked" in given:
        more["yanked"] = given["data-yanked"] or True
    said = given.get("data-core-metadata", given.get("data-dist-info-metadata"))
    hashes = _hashes_in(fragment)
    digests = _digest_texts(hashes)
    if not digests and not _is_distribution(file):
        return None  # a link to somewhere else, as to a page of the index
    return ProjectFile(
        file, url, digests, None, more, _said_in_html(said), _passed_on(hashes)
    )


def _hashes_in(fragment: str) -> dict[str, Any]:
    """Return the hashes anywhere in a fragment, by algorithm."""
    return {
        algorithm: value
        for part in fragment.split("&")
        if (algorithm := part.partition("=")[0]) in (*_ALGORITHMS, *_PASSED_ON)
        and (value := part.partition("=")[2])
    }


def _passed_on(hashes: dict[str, Any]) -> tuple[str, ...]:
    """Return the hashes that clients verify where this node knows none."""
    return tuple(
        f"{algorithm}:{value}"
        for algorithm in _PASSED_ON
        if isinstance(value := hashes.get(algorithm), str) and _HEX.fullmatch(value)
    )


def _charset_of(page: OriginPage) -> str:
    """Return the encoding that a page's type names, if it is a usual one."""
    match = _CHARSET.search(page.content_type)
    given = match[1].lower() if match else ""
    return given if given in _CHARSETS else "utf-8"


def _is_of(project: str, file: ProjectFile) -> bool:
    """Tell whether a file is one of a project's, by its name."""
    return normalized(file.name).startswith(f"{project}-")


def _said_in_html(said: str | None) -> str | bool:
    if said is None or said == "false":
        return False
    algorithm, _, text = said.partition("=")
    return _metadata({algorithm: text}) if text else True
