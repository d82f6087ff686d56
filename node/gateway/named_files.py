"""The files that one page names, as one text that is searched at the speed of C.

A page of an index can name thousands of files, of which a client asks for a few. So
nothing is made for each of them: the text has one line a file, and a file is found in
it by its digest or its name. Digests of all pages are found by their first bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from node.gateway.named_file import NamedFile, parse_digests
from transfer import Digest

PREFIX_BYTES = 8
_DIGESTS = re.compile(rb"[\t ][a-z0-9-]++:([0-9a-f]{16})")
_POOL_STARTS = re.compile(rb"/([0-9a-f]{2}/[0-9a-f]{2}/[0-9a-f]{12})[0-9a-f]{48}/")
_POOL = re.compile(rb"/([0-9a-f]{2})/([0-9a-f]{2})/([0-9a-f]{60})/")


class NamedFiles:
    """The files of one page of an upstream."""

    def __init__(self, upstream: str, text: bytes = b"") -> None:
        self.upstream = upstream
        self.text = text or b"\n"

    @classmethod
    def of(cls, upstream: str, files: Iterable[NamedFile]) -> NamedFiles:
        """Return the text of these files; those with control characters are skipped."""
        lines = [
            line(
                one.file,
                size=one.size,
                digests=" ".join(map(str, one.digests)),
                origin=f"{one.project}\t{one.url}",
            )
            for one in files
            if (one.file + one.project + one.url).isprintable()
        ]
        return cls(upstream, "".join(["\n", *lines]).encode("utf-8", "replace"))

    def find(self, digest: Digest) -> NamedFile | None:
        """Return the file with a digest, or None.

        A BLAKE2b-256 is also found where a URL has it as PyPI's file host does.
        """
        needle = f"{digest.algorithm}:{digest.hex}".encode()
        found = self._line_with(needle)
        if found is None and digest.algorithm == "blake2b-256":
            text = digest.hex
            found = self._line_with(f"/{text[:2]}/{text[2:4]}/{text[4:]}/".encode())
        return found

    def find_file(self, file: str) -> NamedFile | None:
        """Return the file of this name, or None."""
        return self._line_with(f"\n{file}\t".encode("utf-8", "replace"), skip=1)

    def url_without_digest(self, file: str) -> str:
        """Return where a file is that the page names without a digest, or ""."""
        start = self.text.find(f"\n{file}\t".encode("utf-8", "replace"))
        if start < 0:
            return ""
        end = self.text.find(b"\n", start + 1)
        parts = self.text[start + 1 : end].decode("utf-8", "replace").split("\t")
        return parts[4] if len(parts) == 5 and not parts[2] else ""

    def prefixes(self) -> bytes:
        """Return the first bytes of every digest, one behind the other."""
        found = _DIGESTS.findall(self.text)
        found += [one.replace(b"/", b"") for one in _POOL_STARTS.findall(self.text)]
        return bytes.fromhex(b"".join(dict.fromkeys(found)).decode())

    def _line_with(self, needle: bytes, skip: int = 0) -> NamedFile | None:
        place = self.text.find(needle)
        if place < 0:
            return None
        place += skip
        start = self.text.rfind(b"\n", 0, place) + 1
        end = self.text.find(b"\n", place)
        return self._parsed(self.text[start : end if end >= 0 else None])

    def _parsed(self, line_: bytes) -> NamedFile | None:
        parts = line_.decode("utf-8", "replace").split("\t")
        if len(parts) != 5:
            return None
        file, size, texts, project, url = parts
        digests = list(parse_digests(texts.split()))
        if digests and (match := _POOL.search(url.encode())):
            raw = bytes.fromhex(b"".join(match.groups()).decode())
            pool = Digest("blake2b-256", raw)
            digests = list(parse_digests(map(str, {*digests, pool})))
        if not digests:
            return None
        length = int(size) if size else None
        return NamedFile(self.upstream, project, file, url, tuple(digests), length)


def line(file: str, *, size: int | None, digests: str, origin: str) -> str:
    """Return the line of one file; nothing in it may have control characters.

    `origin` is its project and its URL, with a tab between them.
    """
    return f"{file}\t{'' if size is None else size}\t{digests}\t{origin}\n"
