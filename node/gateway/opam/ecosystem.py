"""opam, as the gateway knows it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from node.gateway.ecosystem import Ecosystem
from node.gateway.upstream import Upstream

if TYPE_CHECKING:
    from node.gateway.connecting import Recipe
    from node.gateway.index import IndexContext, PackageIndex
    from node.gateway.locked import LockfileReader


class Opam(Ecosystem):
    """Archive mirrors and repositories of opam."""

    name = "opam"
    tools = ("opam",)
    lockfiles = "opam files"

    def recipe(self, tool: str, home: Path, base: str) -> Recipe:  # noqa: ARG002
        """Return how opam is pointed at the gateway at `base`."""
        from node.gateway.opam.connect import opam

        return opam(home, base)

    def upstream(self, home: Path, url: str) -> Upstream | None:  # noqa: ARG002
        """Return the repository at `url`, or the one that opam itself uses."""
        authorities = os.environ.get("CURL_CA_BUNDLE")  # opam downloads with curl
        files = (Path(authorities),) if authorities else ()
        return Upstream(self.name, url or "https://opam.ocaml.org/", ca_files=files)

    def lockfile_reader(self, file: str) -> LockfileReader | None:
        """Return what reads an opam file, or None for another file."""
        from node.gateway.opam.lockfiles import read_opam_file

        is_opam = file == "opam" or file.endswith((".opam", ".opam.locked"))
        return read_opam_file if is_opam else None

    def caches(self, environ: Mapping[str, str], home: Path) -> dict[str, Path]:
        """Return where opam caches archives."""
        root = Path(environ.get("OPAMROOT") or home / ".opam")
        return {"opam": root / "download-cache"}

    def index(self, context: IndexContext, upstream: str) -> PackageIndex:
        """Return the opam mirror on an upstream."""
        from node.gateway.opam.index import OpamIndex

        return OpamIndex(context, upstream)


ECOSYSTEM = Opam()
