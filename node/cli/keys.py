"""The command `key`: who may publish, and for how long. It needs no running node."""

from __future__ import annotations

import base64
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from node.cli.files import write_new
from node.cli.group import CliCommand, CommandGroup
from node.cli.numbers import Amount, WholeNumber
from node.cli.secret import new_passphrase, passphrase_for, passphrase_of
from node.cli.session import Session
from node.cli.text import count, remark, say, table
from node.errors import NodeError, NotRunningError

if TYPE_CHECKING:
    from dht import Delegation
    from node.cli.results import KeyDelegateResult, KeyShowResult

KEY_BYTES_MAX = 64 * 1024
STDIN = "-"
_HERE = "node.cli.keys"


@click.group(
    cls=CommandGroup,
    sections={
        "Commands": {
            "new": f"{_HERE}:key_new",
            "show": f"{_HERE}:key_show",
            "delegate": f"{_HERE}:key_delegate",
            "export": f"{_HERE}:key_export",
            "import": f"{_HERE}:key_import",
        }
    },
)
def key() -> None:
    """Make, show, delegate, export and import publisher keys.

    A publisher is a root key: its owner decides what the newest version of each of
    its names is. A root key cannot be replaced, so keep it safe, and publish with a
    release key that it delegates for some time. If a release key is stolen, delegate
    another one: that revokes all earlier ones.
    """


@click.command(
    "new",
    cls=CliCommand,
    examples=["caravan key new", "caravan key new root --passphrase"],
)
@click.argument("name", default="default")
@click.option(
    "--passphrase", is_flag=True, help="Ask for a passphrase and encrypt the key."
)
@click.pass_obj
def key_new(session: Session, name: str, passphrase: bool) -> None:
    """Make a publisher key, and print its publisher.

    A script that encrypts the key sets CARAVAN_PASSPHRASE.
    """
    from node.cli.results import KeyNewResult
    from node.model.keys import PublisherKeys

    chosen = new_passphrase() if passphrase else ""
    publisher = PublisherKeys(session.home).new(name, chosen)
    result = KeyNewResult(name=name, publisher=publisher, encrypted=bool(chosen))
    session.answer(result, lambda _: say(publisher))


@click.command("show", cls=CliCommand, examples=["caravan key show"])
@click.argument("name", required=False)
@click.pass_obj
def key_show(session: Session, name: str | None) -> None:
    """Show the publisher keys of this user, or the one called NAME."""
    from msgspec import convert

    from node.cli.results import KeyEntry, KeyShowResult
    from node.model.keys import DEFAULT_KEY, PublisherKeys

    keys = convert(PublisherKeys(session.home).show(), list[KeyEntry])
    if name is not None:
        keys = [one for one in keys if one.name == name]
        if not keys:
            raise NodeError(
                f"there is no key {name!r}; make it with `caravan key new {name}`"
            )
    publishers = {one.name: one.publisher for one in keys}
    result = KeyShowResult(publisher=publishers.get(name or DEFAULT_KEY), keys=keys)
    session.answer(result, _keys_words)


@click.command(
    "delegate",
    cls=CliCommand,
    examples=[
        "caravan key delegate laptop --from root --days 90",
        "caravan key delegate new-laptop --from root --days 90  # revokes `laptop`",
        "caravan key delegate server --from root --days 90 --epoch 2  # beside epoch 2",
    ],
)
@click.argument("name")
@click.option("--from", "root", required=True, metavar="ROOT", help="The root key.")
@click.option(
    "--days",
    type=Amount(),
    required=True,
    metavar="DAYS",
    help="How long it may publish.",
)
@click.option(
    "--epoch",
    type=WholeNumber(1, 2**31 - 1),
    metavar="N",
    help="A number that revokes all lower ones.  [default: one more than the last]",
)
@click.option(
    "--passphrase", is_flag=True, help="Ask for a passphrase and encrypt the new key."
)
@click.pass_obj
def key_delegate(
    session: Session,
    /,
    *,
    name: str,
    root: str,
    days: float,
    epoch: int | None,
    passphrase: bool,
) -> None:
    """Make a release key NAME that may publish for ROOT, for some days.

    Revokes every release key of a lower epoch, for all names of the publisher, once
    the network knows it. ROOT can go offline afterwards. Epochs that were given before
    are remembered beside ROOT, and compared with what the network knows if a node runs.
    """
    from node.model.keys import PublisherKeys

    keys = PublisherKeys(session.home)
    opening = passphrase_for(session.home, root)
    publisher = keys.load(root, opening).text
    made = keys.delegate(
        name,
        root,
        days=days,
        epoch=epoch,
        known_epoch=_known_epoch(session, publisher),
        passphrase=opening,
        new_passphrase=new_passphrase() if passphrase else "",
    )
    if made.delegation is None:
        raise NodeError(f"{name!r} was not delegated")
    _answer_delegated(
        session, name=name, publisher=made.text, delegation=made.delegation
    )


@click.command(
    "export", cls=CliCommand, examples=["caravan key export default -o default.key"]
)
@click.argument("name", default="default")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write it to a new file that only you can read.",
)
@click.pass_obj
def key_export(session: Session, name: str, output: Path | None) -> None:
    """Print the private key NAME as PEM, for a copy elsewhere.

    Anyone who has the copy can publish as you, unless the key is encrypted.
    """
    from msgspec import convert

    from node.cli.results import KeyEntry, KeyExportResult
    from node.model.keys import PublisherKeys

    keys = PublisherKeys(session.home)
    pem = keys.export(name)
    known = convert(keys.show(), list[KeyEntry])
    publisher = next(one.publisher for one in known if one.name == name)
    result = KeyExportResult(name=name, publisher=publisher, private_key=pem)
    if output is None:
        session.answer(result, lambda _: print(pem, end=""))
        return
    write_new(output, pem.encode())
    session.answer(result, lambda _: say(f"written: {output}"))


@click.command(
    "import",
    cls=CliCommand,
    examples=["caravan key import laptop laptop.key", "caravan key import laptop -"],
)
@click.argument("name")
@click.argument("file")
@click.pass_obj
def key_import(session: Session, name: str, file: str) -> None:
    """Keep an exported key under NAME.

    FILE is what `caravan key export` wrote, or - to read it from stdin.
    """
    from node.cli.results import KeyImportResult
    from node.model.keys import PublisherKeys

    content = _read(file)
    keys = PublisherKeys(session.home)
    publisher = keys.import_(
        name,
        content,
        passphrase_of(content, name),
        source="what came on stdin" if file == STDIN else file,
    )
    delegation = keys.delegation(name)
    if delegation is not None:
        _answer_delegated(
            session, name=name, publisher=publisher, delegation=delegation
        )
        return
    result = KeyImportResult(name=name, publisher=publisher)
    session.answer(result, lambda _: say(publisher))


def _read(file: str) -> bytes:
    if file == STDIN:
        return sys.stdin.buffer.read(KEY_BYTES_MAX)
    try:
        with Path(file).open("rb") as stream:
            return stream.read(KEY_BYTES_MAX)
    except OSError as error:
        raise NodeError(f"cannot read {file}: {error.strerror}") from error


def _answer_delegated(
    session: Session, *, name: str, publisher: str, delegation: Delegation
) -> None:
    """Tell the node that runs here, if one does, and say what is known now."""
    from node.cli.results import KeyDelegateResult
    from node.model.keys import PublisherKeys

    revoked = PublisherKeys(session.home).revoked_by(delegation)
    text = base64.b64encode(delegation.raw).decode()
    stored: int | None
    try:
        stored = session.ask("delegate", delegation=text).stored
    except NotRunningError:
        stored = None
    result = KeyDelegateResult(
        name=name,
        publisher=publisher,
        epoch=delegation.epoch,
        ends=delegation.not_after,
        stored=stored,
        revokes=[f"{one.name} (epoch {one.epoch})" for one in revoked],
    )
    session.answer(result, _delegated_words)


def _known_epoch(session: Session, publisher: str) -> int:
    """Return the highest epoch that the network knows; 0 where no node runs here."""
    try:
        epoch: int = session.ask("epoch", publisher=publisher).epoch
    except NotRunningError:
        return 0
    return epoch


def _delegated_words(result: KeyDelegateResult) -> None:
    say(f"publisher     {result.publisher}")
    say(f"release key   {result.name}, until {_day(result.ends)}")
    say(f"epoch         {result.epoch}")
    say(f"revoked       {', '.join(result.revokes) or 'no key that was made here'}")
    if result.stored is None:
        say("announced     not yet: a node that starts with this key announces it")
    elif not result.stored:
        say("announced     not yet: the node announces it once it has contacts")
    else:
        say(f"announced     to {count(result.stored, 'node')}")


def _keys_words(result: KeyShowResult) -> None:
    table(
        ("name", "publisher", "kind", "epoch", "until", "encrypted"),
        [
            (
                one.name,
                one.publisher or "-",
                one.kind,
                one.epoch or "-",
                _day(one.ends) if one.ends else "-",
                "encrypted" if one.encrypted else "-",
            )
            for one in result.keys
        ],
    )
    if not result.keys:
        remark("no publisher key yet; make one with `caravan key new`")


def _day(seconds: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(seconds))
