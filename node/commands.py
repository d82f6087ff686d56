"""What a person can ask of a running node: one struct for each command.

The web door decodes a request's JSON into one of these, strictly; the node answers
with the document that `caravan --json` prints. `COMMANDS` is the list that the door,
the service and the tests share.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import msgspec

Progress = Callable[[dict[str, Any]], None]
"""Takes one event: {"label": text, "done": n, "total": n or null, "unit": "bytes"}."""

Document = dict[str, Any]
"""What a command answers: the document that `--json` prints."""

Urgency = Literal["routine", "security"]
Auto = Literal["never", "security", "all"]


class Command(msgspec.Struct, forbid_unknown_fields=True):
    """A request to the node."""


class Status(Command):
    """What the node is and does."""


class Peers(Command):
    """The contacts, with round-trip time and age."""


class Doctor(Command):
    """What may be wrong around the node: clock, ports, reachability, disk, contacts."""


class Lookup(Command):
    """Who offers `digest` (in any of the forms that `Digest.parse` reads)."""

    digest: str


class Share(Command):
    """Offer files by digest alone; absolute paths."""

    files: list[str]


class Fetch(Command):
    """Download, verify, keep and offer `targets`; `output` is an absolute path."""

    targets: list[str] = []
    output: str | None = None
    dependencies: bool = True


class Prefetch(Command):
    """Fetch what a lockfile (an absolute path) names, for this machine or all."""

    lockfile: str
    everything: bool = False
    output: str | None = None


class Survey(Command):
    """Where what a lockfile names can be had."""

    lockfile: str
    everything: bool = False


class Adopt(Command):
    """Offer what package managers keep in `folders`, as far as a lockfile names it."""

    folders: list[str]
    lockfile: str | None = None


class Publish(Command):
    """Sign and offer a package made of `files` (absolute paths)."""

    files: list[str]
    name: str
    version: str
    depends: list[str] = []
    urgency: Urgency = "routine"
    note: str = ""
    license: str = ""
    home_page: str = ""
    key: str = "default"
    passphrase: str = ""


class Delegate(Command):
    """Make a publisher's delegation (base64) known, which revokes those before it."""

    delegation: str


class Broadcast(Command):
    """Alert holders and followers of the newest release of `name` again."""

    name: str


class Follow(Command):
    """Believe `publisher` about a name; `target` is PUBLISHER/NAME."""

    target: str
    auto: Auto = "never"
    nickname: str | None = None


class Unfollow(Command):
    """No longer believe PUBLISHER/NAME."""

    target: str


class Updates(Command):
    """What is new among the names that are held or followed."""

    apply: bool = False
    wait: bool = False
    """Answer when there is a release whose digest, or a doubt whose id, is new."""
    seen: list[str] = []


class List(Command):
    """What the cache holds."""


class Pin(Command):
    """Keep a digest or package, whatever the cache needs room for."""

    targets: list[str]


class Unpin(Command):
    """No longer pin a digest or package."""

    targets: list[str]


class Clean(Command):
    """Free space: what nothing needs, then what is older, then what is too much."""

    keep_bytes: int | None = None
    days: float | None = None


class Verify(Command):
    """Hash everything that is kept again."""


class Leave(Command):
    """Stop the node cleanly."""


COMMANDS: dict[str, type[Command]] = {
    struct.__name__.lower(): struct
    for struct in (
        Status, Peers, Doctor, Lookup, Share, Fetch, Prefetch, Survey, Adopt, Publish,
        Delegate, Broadcast, Follow, Unfollow,
        Updates, List, Pin, Unpin, Clean, Verify, Leave,
    )
}  # fmt: skip
