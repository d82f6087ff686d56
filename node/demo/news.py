"""The story, last part: a new version comes out, and its holders are alerted."""

from __future__ import annotations

import time
from typing import Any

from node.demo.processes import NodeProcess, wait_until
from node.demo.stage import Stage, must, sha256_of, together
from node.demo.wheels import UPDATED

HEAR_SECONDS_MAX = 15.0


def new_version(stage: Stage) -> None:
    """Release a new version; every node that holds the old one is alerted."""
    old, new = stage.wheels.named(UPDATED), stage.wheels.update
    title = (
        f"{UPDATED} {new.version} comes out, and holders of {old.version} hear of it"
    )
    with stage.narrator.step("new version", title) as figures:
        say = stage.narrator.say
        traveller = stage.cast.traveller
        traveller.ask("leave")
        traveller.wait()
        say(f"{traveller.name} holds {old.version} too, and goes offline first")
        stage.cast.publisher.join()
        say(f"{stage.cast.publisher.name} is back, through the contacts it remembers")
        concerned = [*stage.cast.holders, stage.cast.reader, stage.cast.survivor]
        concerned = [node for node in concerned if _holds(stage, node)]
        started = time.monotonic()
        document = stage.cast.publisher.ask(
            *("publish", str(new.path), "--name", new.name),
            *("--version", new.version, "--note", "shown by the demo"),
        )
        published = time.monotonic() - started
        must(document["alerted"] > 0, "nobody was alerted")
        together(lambda node: wait_for_update(stage, node), concerned)
        heard = time.monotonic() - started
        say(
            f"release {document['sequence']} is signed, stored and announced in "
            f"{published:.1f} s: {document['holders']} holders found, "
            f"{document['alerted']} alerted"
        )
        say(
            f"`caravan updates` of all {len(concerned)} says "
            f"{old.version} -> {new.version} after {heard:.1f} s"
        )
        figures.update(
            sequence=document["sequence"],
            holders=document["holders"],
            alerted=document["alerted"],
            alerted_nodes=len(concerned),
            seconds_until_all_know=round(heard, 2),
        )


def return_home(stage: Stage) -> None:
    """Bring the traveller back: it learns of the new version and fetches it."""
    node, new = stage.cast.traveller, stage.wheels.update
    title = f"{node.name} was offline; it learns of the release when it comes back"
    with stage.narrator.step("return", title) as figures:
        started = time.monotonic()
        node.join()
        entry = wait_for_update(stage, node)
        seconds = time.monotonic() - started
        stage.narrator.say(
            f"joined again without naming a contact; after {seconds:.1f} s: "
            f"{entry['name']} {entry['held']} -> {entry['newest']} "
            f'("{entry["note"]}")'
        )
        node.ask("updates", "--apply")
        held = {one["digest"] for one in node.ask("list")["artifacts"]}
        must(f"sha256:{sha256_of(new.path)}" in held, "the update was not fetched")
        must(node.ask("updates")["updates"] == [], "it still shows an update")
        stage.narrator.say("`caravan updates --apply` fetched it, verified as always")
        figures.update(seconds_until_known=round(seconds, 2))


def wait_for_update(stage: Stage, node: NodeProcess) -> dict[str, Any]:
    """Wait until `updates` of a node names the new version; returns its entry."""

    def entry() -> dict[str, Any] | None:
        for one in node.ask("updates")["updates"]:
            known = (one["publisher"], one["name"], one["newest"])
            if known == (
                stage.published.publisher,
                UPDATED,
                stage.wheels.update.version,
            ):
                return dict(one)
        return None

    return wait_until(entry, HEAR_SECONDS_MAX, f"{node.name} hearing of the update")


def _holds(stage: Stage, node: NodeProcess) -> bool:
    """Tell whether a node holds the old version through its publisher's package."""
    packages = node.ask("list")["packages"]
    return stage.published.packages[UPDATED] in {one["digest"] for one in packages}
