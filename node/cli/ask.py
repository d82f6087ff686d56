"""Commands that only ask the node: leave, status, peers, lookup."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from node.cli import client
from node.cli.group import CliCommand
from node.cli.session import Session
from node.cli.text import (
    count,
    duration,
    facts,
    remark,
    say,
    short_digest,
    short_node_id,
    size,
    table,
)
from node.errors import NodeError

if TYPE_CHECKING:
    from node.results import (
        LimitsStatus,
        LookupResult,
        PeersResult,
        Reachability,
        StatusResult,
        TrafficTotals,
    )

LEAVE_SECONDS_MAX = 10.0
_POLL_SECONDS = 0.02


@click.command(cls=CliCommand, examples=["caravan leave"])
@click.pass_obj
def leave(session: Session) -> None:
    """Stop this user's node, and wait until it has ended."""
    card = client.read_card(session.home)
    result = session.ask("leave")
    deadline = time.monotonic() + LEAVE_SECONDS_MAX
    while not _is_gone(card["pid"]):
        if time.monotonic() > deadline:
            raise NodeError(
                f"the node is still running after {LEAVE_SECONDS_MAX:.0f} s, "
                f"as process {card['pid']}"
            )
        time.sleep(_POLL_SECONDS)
    session.answer(result, lambda _: _leave_words(session))


@click.command(cls=CliCommand, examples=["caravan status", "caravan status --json"])
@click.pass_obj
def status(session: Session) -> None:
    """Show what the node is and does."""
    session.answer(session.ask("status"), _status_words)


@click.command(cls=CliCommand, examples=["caravan peers"])
@click.pass_obj
def peers(session: Session) -> None:
    """List the contacts of the node, with round-trip time and age."""
    session.answer(session.ask("peers"), _peers_words)


@click.command(
    cls=CliCommand,
    examples=[
        "caravan lookup sha256:2cf24dba...",
        "caravan lookup sha512-<base64 of an npm lockfile>",
        "caravan lookup --lockfile package-lock.json",
    ],
)
@click.argument("digest", required=False)
@click.option("--lockfile", metavar="FILE", help="All files that it locks.")
@click.option("--all", "everything", is_flag=True, help="For every platform.")
@click.pass_obj
def lookup(
    session: Session, /, *, digest: str | None, lockfile: str | None, everything: bool
) -> None:
    """Find the nodes that offer the file with this DIGEST.

    A digest may be written as in lockfiles: sha256:<hex>, bare hex, sha256=<hex>,
    sha256-<base64> or ni:///sha-256;<base64url>.
    """
    if (lockfile is None) == (digest is None):
        raise click.UsageError("expected either a DIGEST or --lockfile FILE")
    if lockfile is None:
        session.answer(session.ask("lookup", digest=digest), _lookup_words)
        return
    from node.cli.lockfiles import survey

    survey(session, lockfile, everything=everything)


def _leave_words(session: Session) -> None:
    from node.doctor import connected_tools

    say("the node has left")
    for tool, file in connected_tools(session.home).items():
        words = (
            f"{tool} ({file}) still points at this node: start it again, or run "
            f"`caravan connect {tool} --undo`"
        )
        remark(words)


def _status_words(status: StatusResult) -> None:
    facts(
        [
            ("version", status.version),
            ("uptime", duration(status.uptime_seconds)),
            ("node id", status.node_id),
            ("network", status.network),
            ("address", status.address),
            ("web", status.web),
            *([("site", status.site)] if status.site else []),
            ("contacts", status.contacts),
            ("reach", _reach_words(status.reachability)),
            ("artifacts", status.artifacts),
            ("held", size(status.bytes_held)),
            ("downloads", status.downloads),
            ("uploads", status.uploads),
            ("sent", _total(status.totals.sent, status.totals.sent_ever)),
            ("received", _total(status.totals.received, status.totals.received_ever)),
            ("saved", _saved(status.totals)),
            ("limits", _limits(status.limits)),
            ("folder", status.home),
            ("log", status.log),
        ]
    )
    placement = status.placement
    if placement is not None and placement.behind_seconds and status.contacts:
        words = (
            f"caution: {placement.placed} of {placement.offered} names on offer are "
            f"kept by enough nodes, {placement.unplaced} by none, for "
            f"{duration(placement.behind_seconds)}"
        )
        remark(words)
    if status.limits.full:
        remark(status.limits.full)
    for loop in status.failing:
        times = count(loop.times, "time")
        words = f"caution: {loop.name} failed {times} in a row: {loop.error}"
        remark(words)


def _total(now: int, ever: int) -> str:
    return f"{size(now)} since start, {size(ever)} in all"


def _saved(totals: TrafficTotals) -> str:
    """Say what package managers were given without asking an origin."""
    given = sum(one.bytes for one in totals.gateway_ever.values())
    part = f", {100 * totals.saved_ever // given} % of what was asked" if given else ""
    return _total(totals.saved, totals.saved_ever) + part


def _limits(limits: LimitsStatus) -> str:
    named = (
        ("store", limits.store_bytes, ""),
        ("upload", limits.upload_bytes_per_second, "/s"),
        ("download", limits.download_bytes_per_second, "/s"),
    )
    found = [f"{name} {size(most)}{unit}" for name, most, unit in named if most]
    return ", ".join(found) or "none"


def _reach_words(reach: Reachability | None) -> str:
    if reach is None:
        return "unknown"
    words = f"UDP {reach.udp}, TCP {reach.tcp}"
    if reach.since:
        ago = duration(max(time.time() - reach.since, 0.0))
        words += f", found {ago} ago by {count(len(reach.by), 'node')}"
    return f"{words}; {reach.note}" if reach.note else words


def _peers_words(found: PeersResult) -> None:
    table(
        ("node id", "address", "rtt", "age"),
        [
            (
                short_node_id(contact.node_id),
                contact.address,
                "-" if contact.rtt_ms is None else f"{contact.rtt_ms:.1f} ms",
                duration(contact.age_seconds),
            )
            for contact in found.contacts
        ],
        optional=("age", "rtt"),
    )
    if not found.contacts:
        remark("no contacts yet; `caravan join HOST:PORT --detach` names one")


def _lookup_words(found: LookupResult) -> None:
    short = sys.stdout.isatty()
    table(
        ("node id", "address", "reach"),
        [
            (
                short_node_id(each.node_id) if short else each.node_id,
                each.address,
                each.reach,
            )
            for each in found.providers
        ],
    )
    digest = short_digest(found.digest) if short else found.digest
    remark(
        f"{count(len(found.providers), 'provider')} of {digest} in "
        f"{duration(found.seconds)}, {count(found.requests, 'request')}"
    )


def _is_gone(pid: int) -> bool:
    """Tell whether the process has ended, whether or not its parent has noticed."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return False
    return state[:1] == ["Z"]
