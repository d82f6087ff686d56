"""opam: a mirror of archives, and a repository of what was published in the network.

opam asks its mirrors for an archive by the first checksum of the opam file, which is
often an MD5. The repository's index says which stronger digests belong to it.
"""

from __future__ import annotations

import asyncio
import io
import re

from node.gateway import limits
from node.gateway.answers import Answer, FileAnswer, GatewayRequest, PageAnswer, Route
from node.gateway.archives import members_of
from node.gateway.index import IndexContext
from node.gateway.named_file import NamedFile
from node.gateway.named_files import NamedFiles
from node.gateway.opam.opam_file import archives_in
from node.gateway.opam.published import PublishedRepository
from node.gateway.origin import OriginPage
from node.gateway.page_cache import StoredPage
from node.gateway.pages import PageMissingError, PageRequest, ReadPage, UnreachableError
from node.gateway.published import UpstreamSays
from node.gateway.urls import opam_digest

INDEX = "index.tar.gz"
_OPAM_FILE = re.compile(r"(?:\./)?packages/(?:[^/]+/)*([^/]+)/(opam|url)")


class OpamIndex:
    """Answers what opam asks a mirror and a repository."""

    def __init__(self, context: IndexContext, upstream: str) -> None:
        self._context = context
        self._upstream = upstream
        self._learned_at = float("-inf")
        self.published = PublishedRepository(context, upstream, self.says)

    def routes(self) -> list[Route]:
        """Return the routes of a mirror, and of the published repository."""
        root = f"/{self._upstream}"
        return [
            Route(f"{root}/published/index.tar.gz", self._packed, is_mirror=True),
            Route(f"{root}/published/{{path:packages/.+}}", self._opam_file),
            Route(
                f"{root}/{{algorithm}}/{{folder}}/{{hex}}", self._archive,
                is_mirror=True,
            ),
        ]  # fmt: skip

    async def learn(self, name: str = "") -> None:  # noqa: ARG002 - it has one page
        """Read the repository's index, if that was not done just now.

        Does nothing where no repository is configured or it cannot be asked. Waits
        for a while only, and once: opam goes to the origin meanwhile.
        """
        now = asyncio.get_running_loop().time()
        is_configured = self._context.upstreams.get(self._upstream) is not None
        if not is_configured or now - self._learned_at < limits.PAGE_FRESH_SECONDS:
            return
        try:
            async with asyncio.timeout(limits.LEARN_SECONDS_MAX):
                await self._page()
        except (PageMissingError, UnreachableError, TimeoutError):
            pass
        self._learned_at = asyncio.get_running_loop().time()

    async def says(self, name: str) -> UpstreamSays:
        """Say whether the repository has a package of this name, in any version."""
        if self._context.upstreams.get(self._upstream) is None:
            return "has it not"
        try:
            page = await self._page()
        except (PageMissingError, UnreachableError):
            return "nothing"
        if f"\n={name}\n".encode() in page.files.text:
            return "has it"
        is_old = self._context.pages.age(page) > limits.ABSENT_SECONDS
        return "nothing" if is_old else "has it not"

    async def origin_of(self, path: str) -> str:  # noqa: ARG002
        """Return "": opam's lockfiles name origins."""
        return ""

    # --- routes --------------------------------------------------------------------

    async def _archive(self, request: GatewayRequest) -> Answer:
        given = request.parameters
        digest = opam_digest(given["algorithm"], given["folder"], given["hex"])
        if digest is not None and await self._context.resolver.held(digest) is None:
            await self.learn()
        return FileAnswer(digest)

    async def _packed(self, request: GatewayRequest) -> Answer:
        body = await self.published.packed(request.base)
        return PageAnswer(body, "application/gzip")

    async def _opam_file(self, request: GatewayRequest) -> Answer:
        text = await self.published.opam_file(request.parameters["path"], request.base)
        return PageAnswer(text.encode(), "text/plain; charset=utf-8")

    async def _page(self) -> StoredPage:
        upstream = self._context.upstream(self._upstream)

        def read(page: OriginPage) -> ReadPage:
            return read_index(page.body, upstream.name)

        return await self._context.pages.get(PageRequest(upstream, INDEX, "*/*", read))


def read_index(body: bytes, upstream: str) -> ReadPage:
    """Read a packed repository: archives and names; ValueError where it is none.

    An opam file that cannot be read is left out. Blocks.
    """
    files: list[NamedFile] = []
    names: set[str] = set()
    for member, archive in members_of(io.BytesIO(body)):
        match = _OPAM_FILE.fullmatch(member.name)
        if match is None or not member.isfile():
            continue
        names.add(match[1].partition(".")[0])
        if member.size > limits.ARCHIVE_MEMBER_BYTES_MAX:
            continue
        if (file := archive.extractfile(member)) is None:
            continue
        text = file.read().decode("utf-8", "replace")
        if match[2] == "url":  # of a repository for opam 1.2
            text = f"url {{\n{text}\n}}"
        try:
            files += [
                NamedFile(upstream, match[1], one.file, one.url, one.digests)
                for one in archives_in(text)
                if one.digests
            ]
        except ValueError:
            continue
    if not names:
        raise ValueError("it has no packages")
    found = NamedFiles.of(upstream, files)
    marks = "".join(f"={name}\n" for name in sorted(names) if name.isprintable())
    return ReadPage(NamedFiles(upstream, found.text + marks.encode()))
