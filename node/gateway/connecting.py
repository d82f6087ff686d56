"""Package managers' configuration files: which lines, where, and how to take them out.

What is written lies between two marks, or in a file of our own. What was there before
is kept: a line that would be in the way is commented out behind a mark, and put back by
`undo`. The rest of the file stays as it is, byte by byte.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from node.errors import NodeError

CONNECTED_FILE = "connected.json"
_BEGIN = "# >>> caravan >>>"
_BEGIN_JOINED = _BEGIN + " (the line before had no end)"
_END = "# <<< caravan <<<"
_ASIDE = "# caravan put aside: "


@dataclass(frozen=True, slots=True)
class InTheWay:
    """What a tool's file says already, found by the reader of that tool's files."""

    lines: Sequence[int] = ()
    """The numbers, from 0, of the lines that are put aside."""
    before: str = ""
    """The index that the tool uses, or ""."""
    refusal: str = ""
    """Why the lines cannot be put in, or ""."""


Inspect = Callable[[str], InTheWay]
"""Reads the text of a tool's file, whatever its line ends."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one tool is pointed at a node."""

    tool: str
    home: Path
    file: Path | None
    """None for a tool that has no file for this: the environment leads it here."""
    lines: str
    if_down: str
    """What the tool does while nothing answers there."""
    goes_on: bool = False
    """Whether it then goes on to its origin by itself."""
    for_once: str = ""
    """The command that does without the lines, or ""."""
    environment: dict[str, str] = field(default_factory=dict)
    """The variables that do the same as the lines, where the tool reads any."""
    notes: list[str] = field(default_factory=list)
    section: str = ""
    """The header below which the lines belong, or "" for the end of the file."""
    inspect: Inspect = lambda _text: InTheWay()
    is_toml: bool = False

    @property
    def shown(self) -> str:
        """The lines as they stand in a file that holds nothing else."""
        return f"[{self.section}]\n{self.lines}" if self.section else self.lines

    def write(self) -> None:
        """Put the lines into the tool's file; NodeError where that cannot be done."""
        if self.file is None:
            raise NodeError(
                f"{self.tool} has no file for this; put the lines that `caravan "
                f"connect {self.tool}` shows into the environment, or call it with "
                f"`caravan run -- {self.tool} ...`"
            )
        is_new = not self.file.exists()
        before = read_file(self.file)
        text = _without(before)
        if text != before:  # it is connected already
            is_new = remembered_for(self.home, self.tool).get("new") is True
        found = self.inspect(text)
        if found.refusal:
            raise NodeError(
                f"{self.file}: {found.refusal}; put the lines there by hand, "
                f"`caravan connect {self.tool}` shows them"
            )
        lines = lines_of(text)
        for number in found.lines:
            lines[number] = _ASIDE + lines[number]
        fresh = self._with_lines("".join(lines), "\r\n" if "\r\n" in text else "\n")
        if self.is_toml:
            self._check_toml(self.file, fresh)
        replace_file(self.file, fresh)
        self._remember({"file": str(self.file), "before": found.before, "new": is_new})

    def undo(self) -> bool:
        """Take the lines out and put back what was there; False if none were."""
        if self.file is None:
            return False
        text = read_file(self.file)
        clean = _without(text)
        if clean == text:
            return False
        noted = remembered_for(self.home, self.tool)
        if clean.strip() or noted.get("new") is False:
            replace_file(self.file, clean)
        else:
            with suppress(OSError):
                self.file.unlink()
        self._remember(None)
        return True

    def _check_toml(self, file: Path, text: str) -> None:
        import tomllib  # not for `--help`, which loads this module

        try:
            tomllib.loads(text.removeprefix("\ufeff"))
        except tomllib.TOMLDecodeError as error:
            raise NodeError(
                f"{file} would not be valid TOML with these lines ({error}); put "
                f"them there by hand, `caravan connect {self.tool}` shows them"
            ) from error

    def _with_lines(self, text: str, end: str) -> str:
        body = self.lines.replace("\n", end)
        block = f"{_BEGIN}{end}{body}{end}{_END}{end}"
        if self.section and (place := _end_of_header(text, self.section)) is not None:
            start, rest = text[:place], text[place:]
            if start.endswith("\n"):
                return start + block + rest
            return start + end + block.replace(_BEGIN, _BEGIN_JOINED, 1)
        if self.section:
            block = block.replace(end, f"{end}[{self.section}]{end}", 1)
        if text and not text.endswith("\n"):
            return text + end + block.replace(_BEGIN, _BEGIN_JOINED, 1)
        return text + block

    def _remember(self, entry: dict[str, object] | None) -> None:
        """Keep in the node's folder what the tool used before; None forgets it."""
        path = self.home / CONNECTED_FILE
        noted = _remembered(self.home)
        noted.pop(self.tool, None)
        if entry is not None:
            noted[self.tool] = entry
        replace_file(path, json.dumps(noted, indent=1) + "\n")


def exports(environment: dict[str, str]) -> str:
    """Return the lines that set variables in a shell."""
    return "\n".join(f"export {name}={text}" for name, text in environment.items())


def plain_host(base: str) -> str:
    """Return the host of a URL without TLS on another machine, or "".

    Some tools trust such a host only where their settings name it.
    """
    parts = urlsplit(base)
    host = parts.hostname or ""
    is_here = host in ("127.0.0.1", "localhost", "::1")
    return "" if is_here or parts.scheme == "https" else host


OTHER_SPELLINGS = {
    "UV_DEFAULT_INDEX": ("UV_INDEX_URL",),
    "npm_config_registry": ("NPM_CONFIG_REGISTRY",),
}
"""Variables that mean the same to a tool."""
_FILES_UNREAD = {"UV_DEFAULT_INDEX": "UV_NO_CONFIG"}
"""Variables with which a tool reads none of its files."""


def outranking(environment: Mapping[str, str]) -> list[str]:
    """Return the variables, set by the user, that count more than a tool's file."""
    ours = {name.lower(): text for name, text in environment.items()}
    for name, text in environment.items():
        for other in (*OTHER_SPELLINGS.get(name, ()), _FILES_UNREAD.get(name, name)):
            ours[other.lower()] = text
    return [
        name
        for name, text in os.environ.items()
        if text and name.lower() in ours and text != ours[name.lower()]
    ]


def remembered_for(home: Path, tool: str) -> dict[str, Any]:
    """Return what was noted when a tool was connected to the node at `home`."""
    found = _remembered(home).get(tool)
    return found if isinstance(found, dict) else {}


def used_before(home: Path, tool: str) -> str:
    """Return the index that a tool used before it was connected to this node, or ""."""
    url = str(remembered_for(home, tool).get("before") or "")
    return url if url.startswith(("http://", "https://")) else ""


def user_file(variable: str, folder: str, file: str) -> Path:
    """Return a user's configuration file, where its tool looks for it."""
    if named := os.environ.get(variable):
        return Path(named)
    xdg = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(xdg) / folder / file


def lines_of(text: str) -> list[str]:
    """Return the lines of a text with their ends; only a newline ends one."""
    *most, last = text.split("\n")
    return [f"{line}\n" for line in most] + ([last] if last else [])


def _remembered(home: Path) -> dict[str, Any]:
    try:
        noted = json.loads((home / CONNECTED_FILE).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return noted if isinstance(noted, dict) else {}


def _end_of_header(text: str, section: str) -> int | None:
    """Return where the line `[section]` of a file ends, or None."""
    place = 0
    for line in lines_of(text):
        place += len(line)
        head = re.split("[#;]", line, maxsplit=1)[0].strip()
        if head == f"[{section}]":
            return place
    return None


def _without(text: str) -> str:
    """Return a file's text as it was before the lines were put in."""
    kept: list[str] = []
    inside = False
    for line in lines_of(text):
        bare = line.rstrip("\r\n")
        if bare in (_BEGIN, _BEGIN_JOINED):
            inside = True
            if bare == _BEGIN_JOINED and kept:
                kept[-1] = kept[-1].removesuffix("\n").removesuffix("\r")
        elif bare == _END and inside:
            inside = False
        elif not inside:
            kept.append(line.removeprefix(_ASIDE))
    return "".join(kept)


def text_before(text: str) -> str:
    """Return a file's text as it was before `connect` wrote into it."""
    return _without(text)


def read_file(path: Path) -> str:
    """Return a file's text, "" where there is none; NodeError.

    Bytes that are no UTF-8 come back unchanged in `replace_file`.
    """
    try:
        if path.exists() and not path.is_file():
            raise NodeError(f"{path} is no regular file")
        with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
            return file.read()
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise NodeError(f"cannot read {path}: {error.strerror}") from error


def replace_file(path: Path, text: str) -> None:
    """Replace a file at once, with its permissions and owner; a link stays a link.

    Raises NodeError, and leaves the file as it was.
    """
    target = path.resolve()
    if target.exists() and not target.is_file():
        # A variable that names /dev/null for "no file" is usual.
        raise NodeError(f"{path} is no regular file; nothing is written there")
    fresh = target.with_name(f".caravan-{secrets.token_hex(8)}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        known = target.stat() if target.exists() else None
        mode = 0o600 if known is None else known.st_mode & 0o777
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(
            descriptor, "w", encoding="utf-8", errors="surrogateescape", newline=""
        ) as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if known is not None and os.geteuid() == 0:
            os.chown(fresh, known.st_uid, known.st_gid)
        fresh.chmod(mode)
        fresh.replace(target)
    except OSError as error:
        with suppress(OSError):
            fresh.unlink()
        raise NodeError(f"cannot write {path}: {error.strerror}") from error
