"""`caravan lockfile clean`: a lockfile without this node's address."""

from __future__ import annotations

import re
from pathlib import Path

import click

from node.cli.answer import Fields
from node.cli.group import CliCommand, CommandGroup
from node.cli.session import Session
from node.cli.text import count, say
from node.errors import NodeError

# An address of a gateway on this machine: of this node, or of one that `caravan run`
# had started.
_HERE = r"https?://(?:127\.0\.0\.1|localhost|\[::1\])(?::[0-9]{1,5})?"
_PATH = r"((?:pypi|npm|cargo)(?:-[a-z0-9-]{1,31})?(?:/[^\s\"'<>#,;|\\)\]}]*+)?)"
# What bun takes for granted: it writes "" for a tarball of this registry, and asks the
# registry that it is configured to use.
_BUNS_OWN = "https://registry.npmjs.org/"
_TEXT_BYTES_MAX = 64 * 1024 * 1024


@click.group(
    cls=CommandGroup,
    sections={"Commands": {"clean": "node.cli.lockfile_clean:clean_lockfile"}},
)
def lockfile() -> None:
    """Keep this node's address out of lockfiles."""


@click.command(
    "clean",
    cls=CliCommand,
    examples=["caravan lockfile clean yarn.lock", "caravan lockfile clean uv.lock"],
)
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--site", metavar="URL", help="Addresses of this site door as well.")
@click.pass_obj
def clean_lockfile(
    session: Session, *, files: tuple[str, ...], site: str | None
) -> None:
    """Replace this node's address in lockfiles by the origins'.

    Some tools write the address of the index that they used into their lockfile. Each
    address of this gateway is replaced by that of the same file or index at its origin.
    The digests stay as they are.
    """
    base = f"(?:{_HERE}|{re.escape(site.rstrip('/'))})" if site else _HERE
    ours = re.compile(rf"(?:sparse\+)?{base}/{_PATH}")
    replaced: dict[str, int] = {}
    errors: list[NodeError] = []
    for file in files:
        try:
            replaced[file] = _clean(session, Path(file), ours)
        except NodeError as error:
            errors.append(error)
    if errors and not session.json:
        _words(replaced)
    if errors:
        errors[0].details = {"replaced": replaced, **errors[0].details}
        raise errors[0]
    result = Fields(replaced=replaced)
    session.answer(result, lambda _: _words(replaced))


def _clean(session: Session, path: Path, ours: re.Pattern[str]) -> int:
    """Clean one file; returns how many addresses were replaced. NodeError."""
    from node.gateway.connecting import read_file, replace_file

    try:
        length = path.stat().st_size
    except OSError as error:
        raise NodeError(f"cannot read {path}: {error.strerror}") from error
    if length > _TEXT_BYTES_MAX:
        raise NodeError(f"{path} is too large for a lockfile")
    text = read_file(path)
    found = list(dict.fromkeys(match[1] for match in ours.finditer(text)))
    if not found:
        return 0
    result = session.ask("origins", paths=found)
    urls = dict(zip(found, result.urls, strict=True))
    unknown = [one for one, url in urls.items() if not url]
    if unknown:
        raise NodeError(
            f"{path} is as it was: the origin of {unknown[0]} is not known here"
            + (f", nor of {len(unknown) - 1} more" if unknown[1:] else "")
        )
    is_buns = path.name == "bun.lock"

    def origin(match: re.Match[str]) -> str:
        url = _origin_in(match[0], urls[match[1]])
        return "" if is_buns and url.startswith(_BUNS_OWN) else url

    fresh, number = ours.subn(origin, text)
    replace_file(path, fresh)
    return number


def _origin_in(address: str, url: str) -> str:
    """Return what stands in the place of one of our addresses, ending as it does."""
    prefix = "sparse+" if address.startswith("sparse+") else ""
    return prefix + (url if address.endswith("/") else url.rstrip("/"))


def _words(replaced: dict[str, int]) -> None:
    for file, number in replaced.items():
        done = f"{count(number, 'address')} replaced" if number else "unchanged"
        say(f"{file}: {done}")
