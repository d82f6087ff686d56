"""The command `service`: a systemd unit that keeps this node running.

For root it is a unit of the system, for everybody else one of the user.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from node.cli.answer import Fields
from node.cli.group import CliCommand, CommandGroup
from node.cli.text import facts, say
from node.errors import NodeError

if TYPE_CHECKING:
    from node.cli.session import Session

UNIT = "caravan.service"
SYSTEMCTL_SECONDS_MAX = 30.0
_HERE = "node.cli.service_command"
_TEMPLATE = """\
[Unit]
Description=Caravan node (peer-to-peer software packages)
Documentation=man:caravan(1)
After=network-online.target
Wants=network-online.target

[Service]
Type=exec
ExecStart={command}
Restart=on-failure
RestartSec=5
TimeoutStopSec=15
UMask=0077
NoNewPrivileges=yes
PrivateTmp=yes
ProtectSystem=full
LockPersonality=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK

[Install]
WantedBy={target}
"""


@click.group(
    cls=CommandGroup,
    sections={
        "Commands": {
            "install": f"{_HERE}:service_install",
            "remove": f"{_HERE}:service_remove",
            "status": f"{_HERE}:service_status",
        }
    },
)
def service() -> None:
    """Keep this node running, from boot on, with systemd.

    Root gets a system unit, other users get a user unit. A user unit starts when the
    user logs in; with `loginctl enable-linger` it starts at boot.
    """


@click.command("install", cls=CliCommand, examples=["caravan service install"])
@click.option("--no-start", is_flag=True, help="Write the unit, and do not start it.")
@click.pass_obj
def service_install(session: Session, no_start: bool) -> None:
    """Write the systemd unit, start the node now, and at every boot.

    The node gets its settings from config.toml in its folder, as always. Stop a node
    that runs on the folder first: `caravan leave`.
    """
    path = unit_path()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(unit_text(session.home), "utf-8")
    except OSError as error:
        raise NodeError(f"cannot write {path}: {error.strerror}") from error
    started = False
    if not no_start:
        _systemctl("daemon-reload")
        _systemctl("enable", "--now", UNIT)
        started = True
    result = Fields(unit=str(path), started=started)
    session.answer(result, lambda _: _install_words(path, started=started))


@click.command("remove", cls=CliCommand, examples=["caravan service remove"])
@click.pass_obj
def service_remove(session: Session) -> None:
    """Stop the node that the unit runs, and remove the unit."""
    path = unit_path()
    was_there = path.exists()
    if was_there and _is_running_here():
        _systemctl("disable", "--now", UNIT)
    path.unlink(missing_ok=True)
    if was_there and _is_running_here():
        _systemctl("daemon-reload")
    words = f"removed {path}" if was_there else f"there is no unit {path}"
    session.answer(Fields(unit=str(path), removed=was_there), lambda _: say(words))


@click.command("status", cls=CliCommand, examples=["caravan service status"])
@click.pass_obj
def service_status(session: Session) -> None:
    """Say whether the unit is there, starts at boot, and runs."""
    path = unit_path()
    result = Fields(
        unit=str(path),
        installed=path.exists(),
        enabled=_asked("is-enabled") == "enabled",
        active=_asked("is-active") == "active",
    )
    session.answer(result, lambda _: facts([(k, _plain(v)) for k, v in result.items()]))


def _plain(value: object) -> object:
    return ("no", "yes")[value] if isinstance(value, bool) else value


def unit_path() -> Path:
    """Return where the unit of this user belongs."""
    if os.geteuid() == 0:
        return Path("/etc/systemd/system") / UNIT
    config = os.environ.get("XDG_CONFIG_HOME") or Path("~/.config").expanduser()
    return Path(config) / "systemd/user" / UNIT


def unit_text(home: Path, *, is_system: bool | None = None) -> str:
    """Return the unit that runs the node of `home`."""
    is_system = os.geteuid() == 0 if is_system is None else is_system
    words = (sys.executable, "-m", "node.cli.main", "--home", str(home), "join")
    return _TEMPLATE.format(
        command=" ".join(map(_quoted, words)),
        target="multi-user.target" if is_system else "default.target",
    )


def _quoted(word: str) -> str:
    """Return a word as a unit file has it (man 5 systemd.service)."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped.replace("$", "$$")}"'


def _is_running_here() -> bool:
    """Tell whether systemd runs this machine: not so in most containers."""
    return Path("/run/systemd/system").exists() and bool(shutil.which("systemctl"))


def _systemctl(*words: str) -> None:
    if not _is_running_here():
        raise NodeError(
            f"systemd does not run this machine; the unit is {unit_path()}. Start the "
            "node with `caravan join --detach` instead"
        )
    done = _run(*words)
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise NodeError(f"systemctl {' '.join(words)} failed: {' '.join(said[:1])}")


def _asked(verb: str) -> str:
    return _run(verb, UNIT).stdout.strip() if _is_running_here() else ""


def _run(*words: str) -> subprocess.CompletedProcess[str]:
    scope = [] if os.geteuid() == 0 else ["--user"]
    try:
        return subprocess.run(
            ["systemctl", *scope, *words],
            capture_output=True,
            text=True,
            check=False,
            timeout=SYSTEMCTL_SECONDS_MAX,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NodeError(f"systemctl {' '.join(words)} failed: {error}") from error


def _install_words(path: Path, *, started: bool) -> None:
    say(f"written: {path}")
    say("the node runs, and starts at boot" if started else "not started")
