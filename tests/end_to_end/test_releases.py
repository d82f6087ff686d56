"""Packages with dependencies are published twice; holders hear of it, away or not."""

from __future__ import annotations

import pytest

from node.demo.processes import wait_until
from tests.end_to_end.caravan import (
    Caravan,
    at_once,
    held_digests,
    random_file,
    wait_for_providers,
)

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def nodes(shared: Caravan):
    """Start a bootstrap node, a publisher, two holders and a follower."""
    return shared.network("bootstrap", "publisher", "holder", "traveller", "follower")


@pytest.fixture(scope="module")
def first(nodes, tmp_path_factory):
    """Version 1.0 of `app`, which needs `library`, which needs `base`."""
    folder = tmp_path_factory.mktemp("packages")
    publisher = nodes[1]
    released, needs = {}, []
    for seed, name in enumerate(("base", "library", "app")):
        file, digest = random_file(folder / f"{name}-1.0.bin", 300_000, seed + 10)
        document = publish(publisher, file, name, "1.0", needs)
        released[name] = {**document, "artifact": f"sha256:{digest}"}
        needs = [document["package"]]
    return released


def publish(node, file, name, version, depends=(), **options):
    """Publish one file as a package."""
    arguments = ["publish", str(file), "--name", name, "--version", version]
    for digest in depends:
        arguments += ["--depends", digest]
    for option, value in options.items():
        arguments += [f"--{option}", value]
    return node.ask(*arguments)


def update_of(node, name):
    """Return the entry of `updates` for a name, or None."""
    entries = node.ask("updates")["updates"]
    return next((entry for entry in entries if entry["name"] == name), None)


def wait_for_update(node, name, version):
    """Wait until `updates` of a node names this newest version."""

    def known():
        entry = update_of(node, name)
        return entry if entry and entry["newest"] == version else None

    return wait_until(known, 30, f"{node.name} hearing of {name} {version}")


def test_publishing_says_what_it_did(first):
    """Each release is signed by one publisher and starts at sequence 1."""
    assert {document["publisher"] for document in first.values()} == {
        first["app"]["publisher"]
    }
    assert len(first["app"]["publisher"]) == 52
    assert [document["sequence"] for document in first.values()] == [1, 1, 1]
    assert first["app"]["alerted"] == 0


def test_a_new_version_reaches_every_holder(nodes, first, tmp_path):
    """Two hold the old version, one of them is away; all learn of the new one."""
    _, publisher, holder, traveller, follower = nodes
    target = f"{first['app']['publisher']}/app"

    # Fetching by name brings the dependencies, which are then held and offered too.
    answers = at_once(lambda node: node.ask("fetch", target), [holder, traveller])
    wanted = {document["artifact"] for document in first.values()}
    for node, answer in zip([holder, traveller], answers, strict=True):
        assert wanted <= {artifact["digest"] for artifact in answer["artifacts"]}
        assert wanted <= held_digests(node)
    assert follower.ask("follow", target)["publisher"] == first["app"]["publisher"]
    for document in first.values():
        wait_for_providers(
            follower, document["artifact"], {holder.address, traveller.address}
        )

    assert traveller.stop() == 0
    file, digest = random_file(tmp_path / "app-1.1.bin", 300_000, seed=20)
    second = publish(
        *(publisher, file, "app", "1.1", [first["library"]["package"]]),
        urgency="security",
        note="mends a leak",
    )
    assert second["sequence"] == 2
    assert second["holders"] >= 1
    assert second["alerted"] >= 1

    for node, held in ((holder, "1.0"), (follower, None)):
        entry = wait_for_update(node, "app", "1.1")
        assert entry["held"] == held
        assert entry["publisher"] == first["app"]["publisher"]
        assert (entry["urgency"], entry["note"]) == ("security", "mends a leak")
        assert entry["digest"] == second["package"]

    # Who was away reads it after coming back, without naming a contact.
    traveller.join()
    assert wait_for_update(traveller, "app", "1.1")["held"] == "1.0"

    # Taking it fetches the new file only, and then there is no news any more.
    holder.ask("updates", "--apply")
    assert f"sha256:{digest}" in held_digests(holder)
    assert update_of(holder, "app") is None


def test_an_older_version_is_found_by_walking_back(nodes, first, tmp_path):
    """PUBLISHER/NAME@VERSION names a version that was replaced."""
    bootstrap = nodes[0]
    if first["app"]["sequence"] == 1:
        file, _ = random_file(tmp_path / "base-1.1.bin", 100_000, seed=30)
        publish(nodes[1], file, "base", "1.1")
    target = f"{first['base']['publisher']}/base@1.0"
    document = bootstrap.ask("fetch", target)
    digests = [artifact["digest"] for artifact in document["artifacts"]]
    assert first["base"]["artifact"] in digests


def test_the_same_version_is_not_published_twice(nodes, first, tmp_path):
    """A second release of one version would mean two things by one name."""
    file, _ = random_file(tmp_path / "library-1.0.bin", 1_000, seed=40)
    answer = nodes[1].run(
        *("publish", str(file), "--name", "library", "--version", "1.0")
    )
    assert answer.exit_code == 1
    assert "published already" in answer.said


def test_a_package_file_names_everything_in_it(nodes, first, tmp_path):
    """Fetching a mailed `.caravan` file brings the package and all that it needs."""
    document = nodes[4].ask(
        "fetch", first["library"]["package_file"], "-o", f"{tmp_path}/out/"
    )
    digests = {artifact["digest"] for artifact in document["artifacts"]}
    assert {first["library"]["artifact"], first["base"]["artifact"]} <= digests
    assert (tmp_path / "out" / "library-1.0.bin").stat().st_size == 300_000


def test_alerts_can_be_sent_again(nodes, first):
    """`broadcast` finds the holders and followers of the newest release."""
    document = nodes[1].ask("broadcast", "library")
    assert {"holders", "followers", "alerted", "unreachable"} <= set(document)
