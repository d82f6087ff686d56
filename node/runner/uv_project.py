"""`uv sync --locked` and its like: a project installed from a uv.lock as it stands.

uv asks the addresses that its lockfile names, whatever its index is, and refuses with
`--locked` an index that the lockfile does not name. So the environment is filled
through the node first, with `uv pip`; then the command runs with the index that the
lockfile was made with, and finds everything installed. Where anything of the first
fails, the command does the rest, as it would without a node.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING

from node.gateway.connecting import text_before, user_file
from node.gateway.python.configured import PIP_DEFAULT, is_gateway, text_of, uv_default

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

# What says which packages are meant, to `uv export` as well.
_FLAGS = {
    "--all-extras", "--dev", "--no-dev", "--only-dev", "--all-groups",
    "--no-default-groups", "--all-packages",
}  # fmt: skip
_SELECTING = {
    "--extra", "--no-extra", "--group", "--no-group", "--only-group", "--package",
}  # fmt: skip
# What says which project and which Python are meant, to every command.
_PLACING = {"--project", "--directory", "--python", "-p"}
_OTHERS_WITH_VALUE = {"--config-file", "--cache-dir", "--color", "--with", "--env-file"}
_CHECKS = {"--locked": "UV_LOCKED", "--frozen": "UV_FROZEN"}
_INSTALLING = ("sync", "run")


@dataclass(frozen=True, slots=True)
class LockedProject:
    """A command of uv that installs from a lockfile."""

    uv: str
    check: str
    """`--locked` or `--frozen`."""
    is_strict: bool
    """Whether the command says so itself, and may not change the lockfile."""
    selection: tuple[str, ...]
    place: tuple[str, ...]

    def export(self, file: Path) -> list[str]:
        """Return the command that writes what is to be installed into `file`."""
        return [
            self.uv, "export", "--quiet", self.check, "--no-emit-local", "--no-header",
            "--format", "requirements-txt", "--output-file", str(file),
            *self.place, *self.selection,
        ]  # fmt: skip

    def environment(self) -> list[str]:
        """Return the command that makes the environment and prints its Python."""
        say = "import sys; print(sys.executable)"
        run = ["run", "--quiet", "--frozen", "--no-sync", *self.place, "python"]
        return [self.uv, *run, "-c", say]

    def fill(self, file: Path, python: str) -> list[str]:
        """Return the command that installs what `file` names, by its digests."""
        return [
            self.uv, "pip", "install", "--quiet", "--no-deps", "--python", python,
            "--requirements", str(file),
        ]  # fmt: skip


def locked_project(
    command: Sequence[str], environ: Mapping[str, str], folder: Path
) -> LockedProject | None:
    """Return the project that a command would install from its lockfile, or None."""
    if PurePath(command[0]).stem != "uv":
        return None
    words = _Words(command[1:])
    if words.verb not in _INSTALLING or "--no-sync" in words.others:
        return None
    checks = [
        flag
        for flag, variable in _CHECKS.items()
        if flag in words.others or environ.get(variable, "").lower() in ("1", "true")
    ]
    if not checks and not _has_lockfile(folder):
        return None
    return LockedProject(
        uv=command[0],
        check=checks[0] if checks else "--locked",
        is_strict=bool(checks),
        selection=tuple(words.selection),
        place=tuple(words.place),
    )


class _Words:
    """The arguments of uv, up to the command that `uv run` runs."""

    def __init__(self, given: Sequence[str]) -> None:
        self.verb = ""
        self.selection: list[str] = []
        self.place: list[str] = []
        self.others: list[str] = []
        words = iter(given)
        for word in words:
            name, _, value = word.partition("=")
            if name in _SELECTING | _PLACING | _OTHERS_WITH_VALUE:
                self._option(name, value or next(words, ""))
            elif word in _FLAGS:
                self.selection.append(word)
            elif word.startswith("-"):
                self.others.append(word)
            elif not self.verb:
                self.verb = word
            else:
                return

    def _option(self, name: str, value: str) -> None:
        if name in _SELECTING:
            self.selection += [name, value]
        elif name in _PLACING:
            self.place += [name, value]


def without_node(
    pointed: Mapping[str, str], given: Mapping[str, str]
) -> dict[str, str]:
    """Return `pointed` with the index for uv that it would ask without a node."""
    changed = dict(pointed)
    names = ("UV_DEFAULT_INDEX", "UV_INDEX_URL")
    for name in names:
        changed.pop(name, None)
        if name in given:
            changed[name] = given[name]
    file = user_file("UV_CONFIG_FILE", "uv", "uv.toml")
    text = text_of(file)
    if not any(map(given.get, names)) and is_gateway(uv_default(text)):
        # As before `caravan connect uv --write`.
        before = uv_default(text_before(text))
        is_known = before and not is_gateway(before)
        changed[names[0]] = before if is_known else PIP_DEFAULT
    return changed


def _has_lockfile(folder: Path) -> bool:
    return any((place / "uv.lock").is_file() for place in (folder, *folder.parents))
