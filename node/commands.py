"""What a person can ask of a running node: one struct for each command.

The web door decodes a request's JSON into one of these, strictly; the node answers
with the struct of `node.results` that the command names, which `caravan --json` prints.
`COMMANDS` is the list that the door, the service and the tests share.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, Literal, TypeVar

import msgspec

from node import results

Progress = Callable[[dict[str, Any]], None]
"""Takes one event: {"label": text, "done": n, "total": n or null, "unit": "bytes"}.

Two things with one label differ in their "key", a digest.
"""

Urgency = Literal["routine", "security"]
Auto = Literal["never", "security", "all"]


ResultT = TypeVar("ResultT", bound=results.Result)


class Command(msgspec.Struct, Generic[ResultT], forbid_unknown_fields=True):
    """A request to the node, which answers with a `ResultT`."""


class StatusCommand(Command[results.StatusResult]):
    """What the node is and does."""


class PeersCommand(Command[results.PeersResult]):
    """The contacts, with round-trip time and age."""


class DoctorCommand(Command[results.DoctorResult]):
    """What may be wrong around the node: clock, ports, reachability, disk, contacts."""


class LookupCommand(Command[results.LookupResult]):
    """Who offers `digest` (in any of the forms that `Digest.parse` reads).

    With `trace`, progress events show which nodes are asked on the way: {"key": hex,
    "steps": [{"node_id", "address", "state", "hop"}]}.
    """

    digest: str
    trace: bool = False


class ShareCommand(Command[results.ShareResult]):
    """Offer files by digest alone, or one folder; absolute paths."""

    files: list[str]


class UnshareCommand(Command[results.UnshareResult]):
    """Offer `targets` (digests, or absolute paths of files) no more.

    With `remove`, the store's copies go too.
    """

    targets: list[str]
    remove: bool = False


class FetchCommand(Command[results.FetchResult]):
    """Download, verify, keep and offer `targets`; `output` is an absolute path.

    In a folder, `force` overwrites files that an earlier fetch did not write. `yes`
    brings also what exceeds the bounds of a closure.
    """

    targets: list[str] = []
    output: str | None = None
    force: bool = False
    yes: bool = False
    dependencies: bool = True


class PrefetchCommand(Command[results.PrefetchResult]):
    """Fetch what a lockfile (an absolute path) names, for this machine or all."""

    lockfile: str
    everything: bool = False
    output: str | None = None
    force: bool = False
    strict: bool = False


class SurveyCommand(Command[results.SurveyResult]):
    """Where what a lockfile names can be had."""

    lockfile: str
    everything: bool = False


class AdoptCommand(Command[results.AdoptResult]):
    """Offer what package managers keep in `folders`, as far as a lockfile names it."""

    folders: list[str]
    lockfile: str | None = None


class OriginsCommand(Command[results.OriginsResult]):
    """Where the files and indexes at `paths` of this node's gateway come from."""

    paths: list[str]


class PublishCommand(Command[results.PublishResult]):
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


class DelegateCommand(Command[results.DelegateResult]):
    """Make a publisher's delegation (base64) known, which revokes those before it."""

    delegation: str


class EpochCommand(Command[results.EpochResult]):
    """Which epoch of a publisher (its text) counts, as far as the network knows."""

    publisher: str


class BroadcastCommand(Command[results.BroadcastResult]):
    """Alert holders and followers of the newest release of `name` again."""

    name: str


class FollowCommand(Command[results.FollowResult]):
    """Believe `publisher` about a name; `target` is PUBLISHER/NAME."""

    target: str
    auto: Auto = "never"
    nickname: str | None = None


class FollowsCommand(Command[results.FollowsResult]):
    """What is followed, and the newest version that is known of each."""


class UnfollowCommand(Command[results.UnfollowResult]):
    """No longer believe PUBLISHER/NAME."""

    target: str


class UpdatesCommand(Command[results.UpdatesResult]):
    """What is new among the names that are held or followed."""

    apply: bool = False
    output: str | None = None
    """With `apply`: the folder (an absolute path) that the files are written to; None
    for where `fetch` wrote the versions before."""
    force: bool = False
    wait: bool = False
    """Answer when there is a release whose digest, or a doubt whose id, is new."""
    seen: list[str] = []


class AuditCommand(Command[results.AuditResult]):
    """What security releases replaced of what is held, or a lockfile names."""

    lockfile: str | None = None


class ListCommand(Command[results.ListResult]):
    """What the cache holds."""


class PinCommand(Command[results.PinResult]):
    """Keep a digest or package, whatever the cache needs room for."""

    targets: list[str]


class UnpinCommand(Command[results.UnpinResult]):
    """No longer pin a digest or package."""

    targets: list[str]


class CleanCommand(Command[results.CleanResult]):
    """Free space: what nothing needs, then what is older, then what is too much."""

    keep_bytes: int | None = None
    days: float | None = None
    dry_run: bool = False
    """Only say what would go."""


class VerifyCommand(Command[results.VerifyResult]):
    """Hash everything that is kept again."""


class InviteCommand(Command[results.InviteResult]):
    """One line with which another machine joins this network.

    `network` is refused where it is not this node's; `seconds` is for how long the
    invitation is taken.
    """

    network: str | None = None
    seconds: int = 7 * 86_400


class MeetCommand(Command[results.MeetResult]):
    """Join through further contacts, each HOST:PORT, while the node runs."""

    contacts: list[str]


class TransfersCommand(Command[results.TransfersResult]):
    """The downloads under way."""


class LimitCommand(Command[results.LimitResult]):
    """Change the rates of the running node, in bytes per second; None is no limit."""

    upload_bytes_per_second: int | None = None
    download_bytes_per_second: int | None = None


class OpenCommand(Command[results.OpenResult]):
    """Make a link that signs one browser in at the dashboard."""


class LeaveCommand(Command[results.LeaveResult]):
    """Stop the node cleanly."""


COMMANDS: dict[str, type[Command[Any]]] = {
    struct.__name__.removesuffix("Command").lower(): struct
    for struct in (
        StatusCommand, PeersCommand, DoctorCommand, LookupCommand, ShareCommand,
        UnshareCommand, FetchCommand, PrefetchCommand, SurveyCommand, AdoptCommand,
        OriginsCommand, PublishCommand,
        DelegateCommand, EpochCommand, BroadcastCommand, FollowCommand, FollowsCommand,
        UnfollowCommand, UpdatesCommand, AuditCommand, ListCommand, PinCommand,
        UnpinCommand, CleanCommand, VerifyCommand, InviteCommand, MeetCommand,
        TransfersCommand,
        LimitCommand, OpenCommand, LeaveCommand,
    )
}  # fmt: skip
