"""Commands about packages and who is believed: publish, broadcast, follow, updates."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from node.cli.audit import dependent_words
from node.cli.completing import TargetType
from node.cli.files import absolute, target_text
from node.cli.group import CliCommand
from node.cli.secret import passphrase_for
from node.cli.session import Session
from node.cli.text import count, duration, remark, say, table

if TYPE_CHECKING:
    from node.results import (
        BroadcastResult,
        DoubtEntry,
        FollowResult,
        FollowsResult,
        PublishResult,
        UpdateEntry,
        UpdatesResult,
    )


_AUTO_WORDS = {
    "never": "",
    "security": " (fetched automatically: security releases)",
    "all": " (fetched automatically: all releases)",
}


@click.command(
    cls=CliCommand,
    examples=[
        "caravan publish hello-1.0.whl --name hello --version 1.0",
        "caravan publish hello-1.1.whl --name hello --version 1.1 \\",
        "    --depends greet-2.0.caravan --urgency security --note 'fixes a leak'",
    ],
)
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--name", required=True, help="The package's name.")
@click.option("--version", required=True, help="Its version.")
@click.option(
    "--depends",
    multiple=True,
    metavar="TARGET",
    help="A dependency: a .caravan file, a digest, or a name. May be repeated.",
)
@click.option(
    "--urgency",
    type=click.Choice(["routine", "security"]),
    default="routine",
    show_default=True,
    help="How urgent the update is for holders of an older version.",
)
@click.option("--note", default="", metavar="TEXT", help="A note about this release.")
@click.option(
    "--license", default="", metavar="SPDX", help="The licence, for example MIT."
)
@click.option("--home-page", default="", metavar="URL", help="The home page.")
@click.option(
    "--key",
    default="default",
    show_default=True,
    metavar="NAME",
    help="The publisher key that signs. The default key is made on first use.",
)
@click.pass_obj
def publish(
    session: Session,
    /,
    files: tuple[str, ...],
    depends: tuple[str, ...],
    **options: str,
) -> None:
    """Sign a package, offer it, and alert holders of older versions.

    Prints the package file, which names everything in the package. Anyone can fetch
    the package with that file, or with PUBLISHER/NAME. Asks for the passphrase of an
    encrypted key; scripts set CARAVAN_PASSPHRASE.
    """
    result = session.ask(
        "publish",
        files=[absolute(file) for file in files],
        depends=[target_text(target) for target in depends],
        passphrase=passphrase_for(session.home, options["key"]),
        **options,
    )
    session.answer(result, _publish_words)


@click.command(cls=CliCommand, examples=["caravan broadcast hello"])
@click.argument("name")
@click.pass_obj
def broadcast(session: Session, name: str) -> None:
    """Alert holders and followers of your newest release of NAME again."""
    result = session.ask("broadcast", name=name)
    session.answer(result, lambda _: say(_reach(result)))


@click.command(
    cls=CliCommand,
    examples=[
        "caravan follow PUBLISHER/hello --as alice",
        "caravan follow alice/hello --auto security",
        "caravan follow                      # what is followed",
    ],
)
@click.argument("target", metavar="[PUBLISHER/NAME]", required=False, type=TargetType())
@click.option(
    "--auto",
    type=click.Choice(["never", "security", "all"]),
    default="never",
    show_default=True,
    help="Which new versions to fetch automatically.",
)
@click.option(
    "--as", "nickname", metavar="NICKNAME", help="A short name for the publisher."
)
@click.pass_obj
def follow(
    session: Session, /, *, target: str | None, auto: str, nickname: str | None
) -> None:
    """Trust a publisher for a name, and hear of its new versions.

    PUBLISHER is the 52 characters that `caravan publish` prints, or a nickname.
    Without an argument, list what is followed.
    """
    if target is None:
        if nickname is not None:
            raise click.UsageError("--as belongs to a PUBLISHER/NAME")
        session.answer(session.ask("follows"), _follows_words)
        return
    result = session.ask("follow", target=target, auto=auto, nickname=nickname)
    session.answer(result, lambda _: _follow_words(result, target, _AUTO_WORDS[auto]))


@click.command(cls=CliCommand, examples=["caravan unfollow alice/hello"])
@click.argument("target", metavar="PUBLISHER/NAME", type=TargetType())
@click.pass_obj
def unfollow(session: Session, target: str) -> None:
    """Stop following PUBLISHER/NAME."""
    result = session.ask("unfollow", target=target)
    session.answer(result, lambda _: say(f"no longer following {target}"))


@click.command(
    cls=CliCommand,
    examples=[
        "caravan updates",
        "caravan updates --apply",
        "caravan updates --apply -o wheels/",
        "caravan updates --watch --json | while read -r line; do ...; done",
    ],
)
@click.option("--apply", is_flag=True, help="Fetch what is new.")
@click.option(
    "-o",
    "--output",
    metavar="DIR",
    help="With --apply, write the files there.  [default: where `fetch -o` wrote the "
    "versions before]",
)
@click.option(
    "--force", is_flag=True, help="In DIR, overwrite files of the same names."
)
@click.option(
    "--watch", is_flag=True, help="Keep running, and print each update as it comes."
)
@click.pass_obj
def updates(
    session: Session, /, *, apply: bool, output: str | None, force: bool, watch: bool
) -> None:
    """Show new versions of the packages that you hold or follow.

    Warnings are shown next to a release: its publisher signed two different releases
    with the same number, it has expired, or its publisher has not confirmed it for a
    long time.
    """
    if output == "":
        raise click.UsageError("expected a folder after -o")
    if output is not None and not apply:
        raise click.UsageError("-o says where --apply writes; add --apply")
    if not watch:
        result = session.ask(
            "updates",
            apply=apply,
            output=None if output is None else absolute(output),
            force=force,
        )
        session.answer(result, _updates_words)
        return
    if apply:
        raise click.UsageError(
            "--watch fetches nothing; use `caravan follow --auto` for that"
        )
    _watch(session)


def _watch(session: Session) -> None:
    """Print every update and doubt once, one line or JSON document each."""
    seen: list[str] = []
    while True:
        result: UpdatesResult = session.ask("updates", wait=True, seen=seen)
        for update in result.updates:
            if update.digest not in seen:
                seen.append(update.digest)
                session.answer(update, _new_update_words)
        for doubt in result.doubts:
            if doubt.id not in seen:
                seen.append(doubt.id)
                session.answer(doubt, _new_doubt_words)


def _new_update_words(one: UpdateEntry) -> None:
    note = f": {one.note}" if one.note else ""
    say(f"{one.name} {one.held or 'not held'} -> {one.newest} ({one.urgency}){note}")


def _new_doubt_words(one: DoubtEntry) -> None:
    say(f"{one.name} by {one.nickname or one.publisher}: {one.why}")


def _publish_words(result: PublishResult) -> None:
    say(f"published {result.name} {result.version} (release {result.sequence})")
    say(f"package file  {result.package_file}")
    say(f"digest        {result.package}")
    say(f"to fetch it   caravan fetch {result.publisher}/{result.name}")
    say(f"alerted       {_reach(result)}")


def _reach(result: PublishResult | BroadcastResult) -> str:
    """Say whom this node's own alert has reached; those nodes pass it on."""
    if not result.audience:
        return "nobody yet: no other node holds an older version or follows the name"
    words = (
        f"{result.alerted} of {result.audience} found "
        f"({count(result.holders, 'holder')} of what it replaces, "
        f"{count(result.followers, 'follower')})"
    )
    return words + (f", {result.unreachable} unreachable" if result.unreachable else "")


def _updates_words(result: UpdatesResult) -> None:
    table(
        ("name", "held", "newest", "urgency", "publisher", "confirmed", "note"),
        [
            (
                update.name,
                update.held or "-",
                update.newest,
                update.urgency,
                update.nickname or update.publisher,
                _confirmed(update),
                update.note,
            )
            for update in result.updates
        ],
    )
    for doubt in result.doubts:
        publisher = doubt.nickname or doubt.publisher
        words = f"caution: {doubt.name} by {publisher}: {doubt.why}"
        remark(words)
    for one in result.dependents:
        remark(dependent_words(one))
    if not result.updates and not result.doubts:
        remark("everything is up to date")
    elif result.updates and result.applied:
        _applied_words(result)


def _applied_words(result: UpdatesResult) -> None:
    """Say what was fetched, and where its files are."""
    fetched = count(len(result.updates), "update")
    paths = [path for update in result.updates for path in update.paths]
    if not paths:
        remark(f"{fetched} fetched; for copies: the same with -o DIR")
        return
    remark(f"{fetched} fetched")
    for path in paths:
        remark(f"written to {path}")


def _confirmed(update: UpdateEntry) -> str:
    """Say how many nodes confirmed a release, and how long ago."""
    if not update.confirmed:
        return "by an alert alone"
    ago = max(0.0, time.time() - update.confirmed_at)
    return f"by {count(update.confirmed, 'node')}, {duration(ago)} ago"


def _follow_words(result: FollowResult, target: str, auto: str) -> None:
    """Confirm a publisher's text by its release: a slip in it has no release."""
    say(f"following {target}{auto}")
    if result.newest is None:
        words = (
            f"no release of {result.name} by this publisher is known yet; check the "
            "publisher's text if there should be one"
        )
        remark(words)
    else:
        say(f"newest release: {result.newest}")


def _follows_words(result: FollowsResult) -> None:
    if not result.follows:
        say("nothing is followed; `caravan follow PUBLISHER/NAME` follows a name")
        return
    rows = [
        [one.name, one.newest or "-", one.auto, one.nickname or one.publisher]
        for one in result.follows
    ]
    table(("name", "newest", "auto", "publisher"), rows)
