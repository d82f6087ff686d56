"""Package managers' configuration files: which lines, where, and how to take them out.

What is written lies between two marks, or in a file of our own. What was there before
is kept: a line that would have been in the way is commented out behind a mark, and
put back by `undo`.
"""

from __future__ import annotations

import configparser
import json
import os
import re
import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from node.errors import NodeError

TOOLS = ("pip", "uv", "opam", "npm", "cargo", "apt")
CONNECTED_FILE = "connected.json"
UV_LOCK_NOTE = (
    "`uv lock` and `uv sync` write the index that they used into uv.lock; to keep the "
    "gateway out of it, lock with `uv --no-config lock` and install with "
    "`uv export --frozen -o r.txt; uv pip sync --require-hashes r.txt`."
)
APT_NOTE = (
    "Set the mirror you use now as [upstreams] debian in config.toml, add it to that "
    "file as the next line with priority:2, and name the file in your sources: "
    "URIs: mirror+file:/etc/apt/caravan-mirrors.list"
)
OPAM_NOTE = (
    "For what publishers that you follow have published: `opam repository add "
    "published {base}/opam/published --rank=-1 --all-switches`."
)
_BEGIN = "# >>> caravan >>>"
_END = "# <<< caravan <<<"
_ASIDE = "# caravan put aside: "
_BLOCK = re.compile(rf"^{_BEGIN}\n.*?^{_END}\n?", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Connection:
    """How one tool is pointed at a node."""

    tool: str
    home: Path
    file: Path
    lines: str
    if_down: str
    notes: list[str] = field(default_factory=list)
    section: str = ""
    """The header below which the lines belong, or "" for the end of the file."""
    replaces: str = ""
    """A pattern of lines that would be in the way, and are put aside."""
    conflicts: str = ""
    """A pattern of lines beside which the file would not be valid."""

    @property
    def shown(self) -> str:
        """The lines as they stand in a file that holds nothing else."""
        return f"[{self.section}]\n{self.lines}" if self.section else self.lines

    def write(self) -> None:
        """Put the lines into the tool's file; NodeError where that cannot be done."""
        text = _without(_read(self.file))
        if self.conflicts and re.search(self.conflicts, text, re.MULTILINE):
            raise NodeError(
                f"{self.file} says already where {self.tool} gets its files; put the "
                f"lines there by hand, `caravan connect {self.tool}` shows them"
            )
        before = self._before(text)
        if self.replaces:
            text = re.sub(
                self.replaces, lambda m: _ASIDE + m[0], text, flags=re.MULTILINE
            )
        _write(self.file, self._with_lines(text))
        self._note(before)

    def undo(self) -> bool:
        """Take the lines out and put back what was there; False if none were."""
        text = _read(self.file)
        clean = _without(text)
        if clean == text:
            return False
        if clean.strip():
            _write(self.file, clean)
        else:
            with suppress(OSError):
                self.file.unlink()
        self._note(None)
        return True

    def _with_lines(self, text: str) -> str:
        block = f"{_BEGIN}\n{self.lines}\n{_END}\n"
        if not self.section:
            return (text if not text or text.endswith("\n") else text + "\n") + block
        header = f"[{self.section}]"
        if match := re.search(rf"^\s*{re.escape(header)}\s*$\n?", text, re.MULTILINE):
            place = match.end()
            start = text[:place] if text[:place].endswith("\n") else text + "\n"
            return start + block + text[place:]
        whole = f"{_BEGIN}\n{header}\n{self.lines}\n{_END}\n"
        return (text if not text or text.endswith("\n") else text + "\n") + whole

    def _before(self, text: str) -> str:
        """Return the index that the file named, for the gateway to ask."""
        if self.tool == "npm":
            found = re.search(r"^\s*registry\s*=\s*(\S+)", text, re.MULTILINE)
            return found[1] if found else ""
        if self.tool != "pip":
            return ""
        parser = configparser.RawConfigParser(strict=False)
        with suppress(configparser.Error):
            parser.read_string(text)
            return parser.get("global", "index-url", fallback="")
        return ""

    def _note(self, before: str | None) -> None:
        """Keep in the node's folder what the tool used before; None forgets it."""
        path = self.home / CONNECTED_FILE
        try:
            noted = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError):
            noted = {}
        noted.pop(self.tool, None)
        if before is not None:
            noted[self.tool] = {"file": str(self.file), "before": before}
        _write(path, json.dumps(noted, indent=1) + "\n")


def connection(tool: str, home: Path, web: str) -> Connection:
    """Return how `tool` is pointed at the node whose door is at `web`."""
    return _MAKERS[tool](home, f"http://{web}")


def _pip(home: Path, base: str) -> Connection:
    return Connection(
        "pip",
        home,
        _config("PIP_CONFIG_FILE", "pip", "pip.conf"),
        f"index-url = {base}/pypi/simple",
        "pip fails after 8 seconds of trying; `caravan connect pip --undo`, or "
        "`pip install --index-url URL` for once.",
        section="global",
        replaces=r"^\s*index-url\s*[=:].*$",
    )


def _uv(home: Path, base: str) -> Connection:
    return Connection(
        "uv",
        home,
        _config("UV_CONFIG_FILE", "uv", "uv.toml"),
        f'[[index]]\nname = "caravan"\nurl = "{base}/pypi/simple"\ndefault = true',
        "uv fails after some seconds of trying; `caravan connect uv --undo`, or "
        "`uv --no-config` for once.",
        [UV_LOCK_NOTE],
        conflicts=r"^\s*(?:default\s*=\s*true|index-url\s*=)",
    )


def _opam(home: Path, base: str) -> Connection:
    root = Path(os.environ.get("OPAMROOT") or Path.home() / ".opam")
    return Connection(
        "opam",
        home,
        root / "config",
        f'archive-mirrors: ["{base}/opam"]',
        "opam goes to the origin at once.",
        [OPAM_NOTE.format(base=base)],
        replaces=r"^archive-mirrors:.*$",
    )


def _npm(home: Path, base: str) -> Connection:
    named = os.environ.get("NPM_CONFIG_USERCONFIG")
    return Connection(
        "npm",
        home,
        Path(named) if named else Path.home() / ".npmrc",
        f"registry={base}/npm/\nomit-lockfile-registry-resolved=true",
        "npm fails after about a minute of trying; `caravan connect npm --undo`.",
        replaces=r"^\s*(?:registry|omit-lockfile-registry-resolved)\s*=.*$",
    )


def _cargo(home: Path, base: str) -> Connection:
    root = Path(os.environ.get("CARGO_HOME") or Path.home() / ".cargo")
    return Connection(
        "cargo",
        home,
        root / "config.toml",
        "[source.crates-io]\n"
        'replace-with = "caravan"\n'
        "[source.caravan]\n"
        f'registry = "sparse+{base}/cargo/index/"',
        "cargo fails; `caravan connect cargo --undo`. Cargo.lock is not touched.",
        conflicts=r"^\s*\[source\.(?:crates-io|caravan)\]",
    )


def _apt(home: Path, base: str) -> Connection:
    return Connection(
        "apt",
        home,
        Path("/etc/apt/caravan-mirrors.list"),
        f"{base}/debian/\tpriority:1",
        "apt goes on to the next mirror after some seconds.",
        [APT_NOTE],
    )


_MAKERS: dict[str, Callable[[Path, str], Connection]] = {
    "pip": _pip,
    "uv": _uv,
    "opam": _opam,
    "npm": _npm,
    "cargo": _cargo,
    "apt": _apt,
}


def _config(variable: str, folder: str, file: str) -> Path:
    """Return a user's configuration file, where its tool looks for it."""
    if named := os.environ.get(variable):
        return Path(named)
    xdg = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(xdg) / folder / file


def _without(text: str) -> str:
    """Return a file's text as it was before the lines were put in."""
    return _BLOCK.sub("", text).replace(_ASIDE, "")


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise NodeError(f"cannot read {path}: {error}") from error


def _write(path: Path, text: str) -> None:
    """Replace a file at once, with its permissions; a link stays a link."""
    target = path.resolve()
    fresh = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        mode = target.stat().st_mode & 0o777 if target.exists() else 0o600
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        fresh.replace(target)
    except OSError as error:
        with suppress(OSError):
            fresh.unlink()
        raise NodeError(f"cannot write {path}: {error.strerror}") from error
