"""Who is believed, with real processes: policies, pins, strangers, thieves, absence.

One publisher with a release key, four users and a stranger; the tests follow each other
as a story does, on one network.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from dht import Address, Contact, Dht, ReleaseRecord
from node.demo.processes import NodeProcess, wait_until
from node.model.keys import PublisherKeys
from tests.end_to_end.caravan import (
    Caravan,
    held_digests,
    random_file,
    source_addresses,
)

pytestmark = pytest.mark.timeout(120)
YEAR = 365 * 86_400.0


@dataclass
class Story:
    """The nodes and what was published so far."""

    caravan: Caravan
    folder: Path
    bootstrap: NodeProcess
    publisher: NodeProcess
    pinned: NodeProcess
    eager: NodeProcess
    traveller: NodeProcess
    stranger: NodeProcess
    root: PublisherKeys
    name: str = ""
    released: dict[str, dict[str, Any]] = field(default_factory=dict)

    def publish(self, node, name, version, *options, size=150_000):
        """Publish a random file; remembers the document and the file's digest."""
        file = self.folder / f"{node.name}-{name}-{version}.whl"
        _, digest = random_file(file, size, seed=hash((node.name, name, version)))
        document = node.ask(
            *("publish", str(file), "--name", name, "--version", version, *options)
        )
        document["artifact"] = f"sha256:{digest}"
        self.released[f"{node.name} {name} {version}"] = document
        return document

    def artifact(self, name, version):
        return self.released[f"publisher {name} {version}"]["artifact"]

    def update(self, node):
        """Return what a user is told about `app`, or None."""
        entries = node.ask("updates")["updates"]
        return next((one for one in entries if one["name"] == "app"), None)


@pytest.fixture(scope="module")
def story(shared: Caravan, tmp_path_factory: pytest.TempPathFactory) -> Story:
    """Publish `base` and `app` 1.0, and let three users fetch `app`."""
    names = ("bootstrap", "publisher", "pinned", "eager", "traveller", "stranger")
    nodes = shared.network(*names)
    folder = tmp_path_factory.mktemp("files")
    root = PublisherKeys(folder / "offline")
    publisher = root.new("root")
    story = Story(shared, folder, *nodes, root=root, name=f"{publisher}/app")
    delegate(story, "laptop", story.publisher)
    base = story.publish(story.publisher, "base", "1.0", "--key", "laptop")
    assert base["publisher"] == publisher
    story.publish(
        *(story.publisher, "app", "1.0", "--key", "laptop", "--depends"),
        base["package"],
    )
    for node in (story.pinned, story.eager, story.traveller):
        node.ask("fetch", story.name)
        assert story.artifact("base", "1.0") in held_digests(node)
    story.pinned.ask("pin", story.name)
    story.eager.ask("follow", story.name, "--auto", "security")
    return story


def delegate(story: Story, key: str, node: NodeProcess) -> dict[str, Any]:
    """Delegate a release key on the offline machine and bring it to a node."""
    story.root.delegate(key, "root", days=30)
    file = story.folder / f"{key}.key"
    file.write_text(story.root.export(key))
    return node.ask("key", "import", key, str(file))


def providers(node: NodeProcess, digest: str) -> set[str]:
    found = node.run("lookup", digest).document.get("providers", [])
    return {one["address"] for one in found}


def test_a_security_release_reaches_each_user_as_he_wishes(story):
    """One fetches it by himself, one is told and keeps the pinned version."""
    old = story.artifact("app", "1.0")
    assert story.traveller.stop() == 0
    second = story.publish(
        *(story.publisher, "app", "1.1", "--key", "laptop", "--urgency", "security"),
        *("--note", "mends a leak", "--license", "MIT"),
        *("--depends", story.released["publisher base 1.0"]["package"]),
    )
    assert second["sequence"] == 2
    assert second["alerted"] >= 2
    wait_until(
        lambda: second["artifact"] in held_digests(story.eager),
        *(30, "the eager user having the security release"),
    )
    told = wait_until(
        lambda: story.update(story.pinned), 30, "the pinned user being told"
    )
    assert (told["held"], told["newest"], told["note"]) == (
        *("1.0", "1.1", "mends a leak"),
    )
    assert second["artifact"] not in held_digests(story.pinned)

    # Only he who pinned the vulnerable version still gives it away.
    fetched = story.bootstrap.ask("fetch", old)
    assert source_addresses(fetched) == {story.pinned.address}
    refused = story.eager.run("fetch", old)
    assert refused.exit_code == 6
    assert "mends a leak" in refused.said
    story.eager.ask("pin", old)
    assert story.eager.run("fetch", old).exit_code == 0
    story.eager.ask("unpin", old)


def test_who_was_away_is_told_on_return(story):
    """He reads it as soon as he has joined, and what he held is withdrawn."""
    story.traveller.join()
    told = wait_until(
        lambda: story.update(story.traveller), 30, "the traveller being told"
    )
    assert (told["held"], told["newest"]) == ("1.0", "1.1")
    assert told["urgency"] == "security"
    assert told["confirmed"] >= 1
    assert story.traveller.run("fetch", story.artifact("app", "1.0")).exit_code == 6


def test_a_stranger_with_the_same_name_changes_nothing(story):
    """His `app` is another name; nobody who holds or follows ours hears of it."""
    before = [story.update(node) for node in (story.pinned, story.traveller)]
    his = story.publish(story.stranger, "app", "9.9", "--urgency", "security")
    assert his["publisher"] != story.name.partition("/")[0]
    for node, was in zip((story.pinned, story.traveller), before, strict=True):
        now = story.update(node)
        assert (now["newest"], now["digest"]) == (was["newest"], was["digest"])
    assert his["artifact"] not in held_digests(story.eager)


def test_a_package_without_its_dependencies_is_not_offered(story):
    """--no-dependencies fetches, and announces nothing that could not be used."""
    story.stranger.ask("fetch", story.name, "--no-dependencies")
    newest = story.artifact("app", "1.1")
    assert newest in held_digests(story.stranger)
    assert story.artifact("base", "1.0") not in held_digests(story.stranger)
    assert story.stranger.address not in providers(story.bootstrap, newest)
    story.stranger.ask("fetch", story.name)
    wait_until(
        lambda: story.stranger.address in providers(story.bootstrap, newest),
        *(30, "the whole package being offered"),
    )


async def _push(story: Story, record: ReleaseRecord) -> int:
    """Store and push a record as an attacker does, with no program of ours."""
    dht = Dht(Ed25519PrivateKey.generate())
    await dht.start([Address("127.0.0.1", 0)])
    try:
        await dht.join([Address.parse(story.bootstrap.address)])
        victims = [
            Contact(bytes(status.contact.public_key), status.contact.address)
            for status in dht.contacts()
        ]
        report = await dht.store_record(record)
        await dht.notify(record, victims)
        return report.stored
    finally:
        await dht.close()


def test_a_stolen_release_key_is_revoked_by_a_new_epoch(story):
    """Its owner delegates another; what the thief signs is believed by nobody."""
    stolen = story.root.load("laptop")
    fresh = delegate(story, "fresh", story.publisher)
    assert fresh["epoch"] == 2
    assert fresh["stored"] >= 1
    own = story.publisher.run(
        "publish", __file__, "--name", "app", "--version", "2.0", "--key", "laptop"
    )
    assert own.exit_code == 1
    assert "revoked" in own.said

    # The publisher's own release counts again, under the new epoch.
    def reinstated():
        answer = story.stranger.run("fetch", story.name)
        return answer.exit_code == 0

    wait_until(reinstated, 30, "the release of the new epoch being found")
    evil = ReleaseRecord.sign(
        stolen.private_key,
        publisher=stolen.publisher,
        name="app",
        version="6.6",
        epoch=1,
        sequence=50,
        package=bytes(32),
        urgency="security",
        issued_at=int(time.time()),
        expires_at=int(time.time() + YEAR),
        delegation=stolen.delegation,
    )
    asyncio.run(_push(story, evil))
    third = story.publish(
        *(story.publisher, "app", "1.2", "--key", "fresh", "--urgency", "security"),
        *("--depends", story.released["publisher base 1.0"]["package"]),
    )
    assert third["sequence"] == 2  # number 1 of epoch 2 is 1.1, signed anew
    wait_until(
        lambda: third["artifact"] in held_digests(story.eager),
        *(30, "the eager user having the release of the new epoch"),
    )
    asyncio.run(_push(story, evil))
    for node in (story.pinned, story.eager, story.traveller):
        entry = story.update(node)
        assert entry is None or entry["newest"] == "1.2", entry


def test_the_publishers_machine_may_be_gone_for_good(story):
    """A newcomer still finds the newest release, the file and all that it needs."""
    story.publisher.kill()
    newcomer = story.caravan.join("newcomer", story.bootstrap.address)
    document = newcomer.ask("fetch", story.name)
    fetched = {artifact["digest"] for artifact in document["artifacts"]}
    assert {story.artifact("app", "1.2"), story.artifact("base", "1.0")} <= fetched
