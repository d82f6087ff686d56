"""What can be wrong around a node, and what to do about it.

Each check is one question with one answer. Those of a stopped node are here as well,
for the command line: this module imports nothing that is slow to import.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

CONNECTED_MARK = "# >>> caravan >>>"
"""Begins what `caravan connect` writes into a tool's file."""

_PASSED_BY = {
    "pip": {"pdm": "pdm", "poetry": "poetry", "uv": "uv"},
    "npm": {"yarn-berry": "yarn"},
    "yarn": {"yarn-berry": "yarn"},
}
"""Tools, by their programs, that need lines of their own though another has some."""

_OF_LOCKFILES = {
    "uv": (
        "; `uv sync --frozen` passes it by, and `--locked` refuses it: `caravan run -- "
        "uv sync --locked`"
    ),
    "yarn": "; a yarn.lock that names the origin passes it by",
    "bun": "; a bun.lock that names another registry than npm's passes it by",
}
"""What a tool does with a lockfile that was made without the node."""

FREE_BYTES_MIN = 1 << 30
"""Below this, a download may meet a full disk."""

PLACING_SECONDS = 300.0
"""For so long it is no fault that not everything on offer is placed."""

CLOCK_SKEW_SECONDS = 600
"""How far another's clock may be off (docs/protocol-dht.md)."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at; `hint` says what was seen, or what to do."""

    name: str
    ok: bool
    hint: str


def check_folder(home: Path) -> Check:
    """Whether the node can write in its folder."""
    folder = _nearest_existing(home)
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        return Check(
            "folder",
            ok=False,
            hint=f"cannot write in {folder}: {error.strerror}; fix its permissions, "
            "or choose another folder with --home",
        )
    return Check("folder", ok=True, hint=str(home))


def check_disk(home: Path) -> Check:
    """Whether there is room for downloads."""
    try:
        free = shutil.disk_usage(_nearest_existing(home)).free
    except OSError as error:
        return Check("disk", ok=False, hint=f"cannot look at {home}: {error.strerror}")
    room = f"{free / 2**30:.1f} GiB free"
    if free < FREE_BYTES_MIN:
        hint = f"only {room}; `caravan clean --keep-bytes SIZE` frees space"
        return Check("disk", ok=False, hint=hint)
    return Check("disk", ok=True, hint=room)


def check_clock(now: float, newest: float, refused: int = 0) -> Check:
    """Whether the clock can be right.

    `newest` is the latest time (unix seconds) that this node has noted; `refused`
    counts datagrams of a private network whose time was too far from ours.
    """
    behind = newest - now
    if behind > CLOCK_SKEW_SECONDS:
        seen = f"it is {behind / 60:.0f} minutes behind what this node noted before"
    elif refused:
        seen = f"{refused} datagrams came from clocks more than two minutes away"
    else:
        return Check("clock", ok=True, hint="no sign that it is wrong")
    return Check("clock", ok=False, hint=f"{seen}; let the system set its clock (NTP)")


def check_ports(listen: Sequence[tuple[str, int]]) -> Check:
    """Whether a node could listen there, with TCP and UDP; for when none runs."""
    for host, port in listen:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        for kind, word in ((socket.SOCK_STREAM, "TCP"), (socket.SOCK_DGRAM, "UDP")):
            problem = _binding_problem(family, kind, (host, port))
            if problem:
                hint = (
                    f"{word} {port} on {host}: {problem}; stop the program that uses "
                    "it, or choose another port with --listen HOST:PORT"
                )
                return Check("ports", ok=False, hint=hint)
    names = ", ".join(f"{host} {port}" for host, port in listen)
    return Check("ports", ok=True, hint=f"free: {names}")


def connected_tools(home: Path) -> dict[str, Path]:
    """Return the package managers that `caravan connect` pointed at this node.

    Each with its file, as long as that still has the lines.
    """
    try:
        noted = json.loads((home / "connected.json").read_bytes())
        files = {str(tool): Path(entry["file"]) for tool, entry in noted.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}
    return {tool: file for tool, file in files.items() if CONNECTED_MARK in _text(file)}


def check_tools(home: Path, web: str | None) -> Check:
    """Whether tools that point at this node reach it; `web` is None while none runs."""
    tools = connected_tools(home)
    if not tools:
        return Check("tools", ok=True, hint="no package manager points at this node")
    names = ", ".join(tools)
    if web is None:
        first = next(iter(tools))
        hint = (
            f"{names}: still pointed at this node, which is not running; start it, or "
            f"undo it with `caravan connect {first} --undo`"
        )
        return Check("tools", ok=False, hint=hint)
    for tool, file in tools.items():
        if web not in _text(file):
            hint = (
                f"{tool} ({file}) points at another address than {web}; run `caravan "
                f"connect {tool} --write`"
            )
            return Check("tools", ok=False, hint=hint)
    hint = f"{names}: pointed at this node"
    if passing := _passing_by(tools):
        hint += f"; {', '.join(passing)} not: `caravan connect {passing[0]}`"
    for tool in tools:
        hint += _OF_LOCKFILES.get(tool, "")
    return Check("tools", ok=True, hint=hint)


def _passing_by(connected: Mapping[str, Path]) -> list[str]:
    """Return tools of this machine that do not read what was written for others."""
    found: dict[str, None] = {}
    for tool, others in _PASSED_BY.items():
        for name, program in others.items() if tool in connected else ():
            if name not in connected and shutil.which(program):
                found[name] = None
    return list(found)


def _text(file: Path) -> str:
    try:
        return file.read_text("utf-8", "replace")
    except OSError:
        return ""


def check_contacts(known: int, *, is_private: bool) -> Check:
    """Whether the node knows anybody."""
    if known:
        return Check("contacts", ok=True, hint=f"{known} in the routing table")
    hint = "no other node is known; name one that is running: caravan join HOST:PORT"
    if is_private:
        hint += " (members of a private network need the same secret file)"
    return Check("contacts", ok=False, hint=hint)


def check_placement(
    *,
    offered: int,
    placed: int,
    unplaced: int,
    behind_seconds: float | None,
    contacts: int,
) -> Check:
    """Whether others can find what this node offers (see `dht.PlacementReport`)."""
    name, behind = "placement", behind_seconds or 0.0
    kept = f"{placed} of {offered} names are kept by enough nodes"
    if not contacts or behind < PLACING_SECONDS:
        return Check(name, ok=True, hint=kept)
    hint = (
        f"{kept}, {unplaced} by none, for {behind / 60:.0f} minutes: others may not "
        "find them; see reachability, and offer less with `caravan unshare` if the "
        "network is full"
    )
    return Check(name, ok=False, hint=hint)


def check_reachability(
    udp: str, tcp: str, port: int, *, contacts: int, is_local: bool, note: str = ""
) -> Check:
    """Whether others reach this node; `udp` and `tcp` are words of `Reachability`.

    `is_local` says that only nodes of this machine or network are known.
    """
    name = "reachability"
    is_called = tcp in ("punched", "relayed")
    if not contacts:
        return Check(name, ok=False, hint="unknown until the node has contacts")
    if is_local:
        hint = "only nodes of this machine or network are known; nobody else has tried"
        return Check(name, ok=True, hint=hint)
    hint = f"UDP {udp}, TCP {tcp}"
    if is_called:
        # Called through others, it serves; a forwarded port would serve faster.
        hint += f": files are served all the same; faster with {port} forwarded"
    elif "unreachable" in (udp, tcp):
        shut = "UDP and TCP" if udp == tcp else "UDP" if udp == "unreachable" else "TCP"
        hint += (
            f": other nodes tried and could not; let {shut} {port} through the "
            "firewall, and forward it in the router"
        )
    if note:
        hint += f"; {note}"
    return Check(name, ok=is_called or "unreachable" not in (udp, tcp), hint=hint)


def _nearest_existing(folder: Path) -> Path:
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder


def _binding_problem(
    family: socket.AddressFamily, kind: socket.SocketKind, address: tuple[str, int]
) -> str:
    with contextlib.suppress(OSError), socket.socket(family, kind) as probe:
        if kind == socket.SOCK_STREAM:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            probe.bind(address)
        except OSError as error:
            return os.strerror(error.errno) if error.errno else str(error)
    return ""  # where a family is missing, nothing of it is listened on
