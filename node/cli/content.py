"""Commands about files: share, fetch, list, pin, unpin."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from node.cli.completing import TargetType
from node.cli.files import absolute, target_text
from node.cli.group import CliCommand
from node.cli.session import Session
from node.cli.text import count, duration, remark, say, short_digest, size, table
from node.cli.tree import draw_tree

if TYPE_CHECKING:
    from node.results import (
        FetchedArtifact,
        FetchResult,
        HeldArtifact,
        ListResult,
        ShareResult,
        UnshareResult,
    )


@click.command(
    cls=CliCommand,
    examples=[
        "caravan share *.whl",
        "caravan share disk.img",
        "caravan share --lockfile Cargo.lock",
    ],
)
@click.argument("files", nargs=-1, metavar="[FILE... | FOLDER]")
@click.option(
    "--lockfile",
    metavar="FILE",
    help="Offer what FILE locks, from the caches of package managers.",
)
@click.option(
    "--pip-cache", is_flag=True, help="Offer files of the public index in pip's cache."
)
@click.pass_obj
def share(
    session: Session,
    /,
    *,
    files: tuple[str, ...],
    lockfile: str | None,
    pip_cache: bool,
) -> None:
    """Offer files by their digests.

    The node keeps a copy, so you may change or delete the FILEs afterwards. Prints the
    digest of each: anyone who knows it can fetch the file. A folder gets one digest
    more, by which all of it can be fetched.
    """
    is_of_tools = lockfile is not None or pip_cache
    if is_of_tools == bool(files):
        raise click.UsageError("expected either a FILE, --lockfile FILE or --pip-cache")
    if is_of_tools:
        from node.cli.lockfiles import adopt

        adopt(session, lockfile)
        return
    result = session.ask("share", files=[absolute(file) for file in files])
    session.answer(result, _share_words)


@click.command(
    cls=CliCommand,
    examples=[
        "caravan fetch sha256:2cf24dba... -o hello.txt",
        "caravan fetch cryptography.caravan -o wheels/",
        "caravan fetch PUBLISHER/NAME",
        "caravan fetch --lockfile uv.lock",
    ],
)
@click.argument(
    "targets", nargs=-1, metavar="[TARGET]...", type=TargetType(has_files=True)
)
@click.option(
    "-o",
    "--output",
    metavar="PATH",
    help="Write a copy there: a file for one artifact, a folder for several, - for "
    "stdout.",
)
@click.option(
    "--force", is_flag=True, help="In a folder, overwrite files of the same names."
)
@click.option(
    "--no-dependencies", is_flag=True, help="Fetch only the TARGETs themselves."
)
@click.option(
    "--yes", is_flag=True, help="Fetch also what needs unusually many other packages."
)
@click.option(
    "--lockfile", metavar="FILE", help="Fetch what FILE locks for this machine."
)
@click.option(
    "--all", "everything", is_flag=True, help="With --lockfile, for every platform."
)
@click.option(
    "--strict", is_flag=True, help="With --lockfile, fail if a digest is missing."
)
@click.pass_obj
def fetch(
    session: Session,
    /,
    *,
    targets: tuple[str, ...],
    output: str | None,
    force: bool,
    no_dependencies: bool,
    yes: bool,
    lockfile: str | None,
    everything: bool,
    strict: bool,
) -> None:
    """Download, verify, keep and offer files and packages.

    TARGET is a digest, a .caravan package file, a name that you follow, or
    PUBLISHER/NAME[@VERSION]; a package brings its dependencies. The node downloads
    from all peers that offer the file at once, and verifies every byte.
    """
    if output == "":
        raise click.UsageError("expected a path after -o")
    if (lockfile is None) != bool(targets):
        raise click.UsageError("expected either a TARGET or --lockfile FILE")
    if lockfile is not None:
        from node.cli.lockfiles import prefetch

        prefetch(
            session,
            lockfile,
            output=_output(output),
            force=force,
            everything=everything,
            strict=strict,
        )
        return
    _fetch_targets(
        session,
        output,
        targets=[target_text(target) for target in targets],
        dependencies=not no_dependencies,
        force=force,
        yes=yes,
    )


def _fetch_targets(session: Session, output: str | None, **wishes: object) -> None:
    """Fetch what `wishes` say; the node writes files, this process writes streams."""
    from node.cli.streams import STDOUT, is_stream, write_stream

    session.if_interrupted = (
        "What was downloaded and verified is kept; the same command continues from it."
    )
    if output is None or not is_stream(output):
        result = session.ask("fetch", output=_output(output), **wishes)
        session.answer(result, lambda _: _fetch_words(result, is_written=bool(output)))
        return
    if output == STDOUT and session.json:
        raise click.UsageError("expected -o - or --json, not both: each writes stdout")
    result = session.ask("fetch", output=None, **wishes)
    write_stream(result, output)
    if output != STDOUT:
        session.answer(result, lambda _: _stream_words(result, output))


@click.command(
    cls=CliCommand,
    examples=[
        "caravan unshare disk.img",
        "caravan unshare sha256:2cf24dba... --remove",
    ],
)
@click.argument("targets", nargs=-1, required=True, metavar="FILE|DIGEST...")
@click.option("--remove", is_flag=True, help="Also remove the node's copy.")
@click.pass_obj
def unshare(session: Session, targets: tuple[str, ...], remove: bool) -> None:
    """Stop offering files that were shared or fetched.

    Packages that contain or need them are no longer offered either. `caravan share`
    offers a file again.
    """
    chosen = [absolute(one) if Path(one).is_file() else one for one in targets]
    result = session.ask("unshare", targets=chosen, remove=remove)
    session.answer(result, _unshare_words)


def _unshare_words(result: UnshareResult) -> None:
    table(
        ("digest", "size", "file"),
        [(one.digest, size(one.size), one.file or "-") for one in result.artifacts],
    )
    done = "removed" if result.removed else "no longer offered"
    remark(f"{count(len(result.artifacts), 'file')} {done}")


@click.command("list", cls=CliCommand, examples=["caravan list", "caravan list --tree"])
@click.option("--tree", is_flag=True, help="Show packages with their dependencies.")
@click.pass_obj
def list_artifacts(session: Session, tree: bool) -> None:
    """List the files that this node keeps and offers."""
    session.answer(session.ask("list"), _tree_words if tree else _list_words)


_pinned_targets = click.argument(
    "targets",
    nargs=-1,
    required=True,
    metavar="TARGET...",
    type=TargetType(has_digests=True),
)


@click.command(cls=CliCommand, examples=["caravan pin sha256:2cf24dba..."])
@_pinned_targets
@click.pass_obj
def pin(session: Session, targets: tuple[str, ...]) -> None:
    """Keep files or packages even when the store needs room."""
    result = session.ask("pin", targets=[target_text(target) for target in targets])
    session.answer(result, lambda _: say(f"pinned: {' '.join(targets)}"))


@click.command(cls=CliCommand, examples=["caravan unpin sha256:2cf24dba..."])
@_pinned_targets
@click.pass_obj
def unpin(session: Session, targets: tuple[str, ...]) -> None:
    """No longer pin files or packages."""
    result = session.ask("unpin", targets=[target_text(target) for target in targets])
    session.answer(result, lambda _: say(f"no longer pinned: {' '.join(targets)}"))


def _output(path: str | None) -> str | None:
    """Return -o for the node; a slash at the end, which means a folder, is kept."""
    if path is None:
        return None
    return absolute(path) + (os.sep if path.endswith(os.sep) else "")


def _share_words(result: ShareResult) -> None:
    table(
        ("digest", "size", "file"),
        [
            (artifact.digest, size(artifact.size), Path(artifact.file).name)
            for artifact in result.artifacts
        ],
    )
    if result.folder:
        say(f"the whole folder: caravan fetch {result.folder} -o FOLDER/")


def _fetch_words(result: FetchResult, *, is_written: bool) -> None:
    """Print what was fetched; on a terminal without what would only fill the line."""
    short = sys.stdout.isatty()
    table(
        ("digest", "size", "from", "file"),
        [
            (
                short_digest(artifact.digest) if short else artifact.digest,
                size(artifact.size),
                _origin(artifact),
                (artifact.file or Path(artifact.path).name) if short else artifact.path,
            )
            for artifact in result.artifacts
        ],
        optional=("from", "size"),
    )
    if short:
        _say_where(result, is_written=is_written)


def _say_where(result: FetchResult, *, is_written: bool) -> None:
    """Say where what was fetched is, and how to get a copy with its name.

    A path has a line of its own and is never cut: it is there to be copied.
    """
    first = result.artifacts[0]
    if is_written:
        if len(result.artifacts) == 1:
            say(f"written to {first.path}")
        else:
            folder = os.path.commonpath(
                [Path(one.path).parent for one in result.artifacts]
            )
            say(f"{count(len(result.artifacts), 'file')} written to {folder}{os.sep}")
        return
    if len(result.artifacts) == 1:
        say(f"kept at {first.path}")
    else:
        say(f"kept in the store of the node, the first at {first.path}")
    remark("for a copy with its own name: the same command with -o FOLDER/")


def _stream_words(result: FetchResult, path: str) -> None:
    # On stderr: the path may lead to this process's stdout.
    total = sum(artifact.size for artifact in result.artifacts)
    remark(f"{size(total)} written to {path}")


def _origin(artifact: FetchedArtifact) -> str:
    if not artifact.sources:
        return "held already"
    return f"{count(len(artifact.sources), 'peer')} in {duration(artifact.seconds)}"


def _state(artifact: HeldArtifact) -> str:
    """Say what is special about a file: pinned, or offered to nobody."""
    words = ["pinned"] if artifact.pinned else []
    words += ["not offered"] if artifact.private else []
    return ", ".join(words) or "-"


def _list_words(result: ListResult) -> None:
    table(
        ("digest", "size", "state", "file"),
        [
            (
                artifact.digest,
                size(artifact.size),
                _state(artifact),
                artifact.file or "-",
            )
            for artifact in result.artifacts
        ],
        optional=("state", "size"),
    )
    _say_held(result)


def _tree_words(result: ListResult) -> None:
    draw_tree(result)
    _say_held(result)


def _say_held(result: ListResult) -> None:
    remark(f"{count(result.count, 'file')}, {size(result.bytes_held)}")
