"""The story, second part: one forges a release, another sends wrong bytes."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from dht import Address, Contact, Dht, Network, ReleaseRecord, provider_key, release_key
from node.demo.narrator import size_text
from node.demo.processes import LiarProcess, ProcessError
from node.demo.stage import Stage, must, sha256_of, sources_of, together
from node.demo.wheels import TOP, UPDATED
from node.errors import VerificationError
from node.model.keys import parse_publisher

DAY_SECONDS = 86_400.0
HONEST_FEW = 5


@dataclasses.dataclass(frozen=True, slots=True)
class ForgeryOutcome:
    """What became of a forged record."""

    stored: int
    believed: bool
    sent_to: int


def forged_release(stage: Stage) -> None:
    """Sign a release in the publisher's name with another key, and tell everybody."""
    title = f"A stranger forges a security release of {UPDATED}"
    with stage.narrator.step("forged record", title) as figures:
        watchers = [*stage.cast.holders, stage.cast.traveller]
        before = together(lambda node: node.ask("updates")["updates"], watchers)
        outcome = asyncio.run(_forge(stage))
        after = together(lambda node: node.ask("updates")["updates"], watchers)
        stage.narrator.say(
            f"sent to {outcome.sent_to} holders and to the nodes that keep records: "
            f"stored by {outcome.stored}"
        )
        must(outcome.stored == 0, "a node stored the forged record")
        must(not outcome.believed, "the network hands out the forged record")
        must(before == after, "`caravan updates` changed")
        stage.narrator.say(
            f"`caravan updates` of {len(watchers)} holders is unchanged: "
            "a release counts only with its publisher's signature"
        )
        figures.update(sent_to=outcome.sent_to, stored=outcome.stored)


def wrong_bytes(stage: Stage) -> None:
    """Offer a file by its right digest, and send other bytes of it."""
    wheel = stage.wheels.named(TOP)
    digest = sha256_of(wheel.path)
    title = "A lying peer offers a file and sends corrupted chunks of it"
    with (
        stage.narrator.step("corrupted chunk", title) as figures,
        contextlib.ExitStack() as stack,
    ):
        say = stage.narrator.say
        contact = stage.cast.holders[0].address
        alone = LiarProcess(stage.folder, "liar-alone")
        stack.callback(alone.kill)
        alone.offer(stage.wheels.update.path, contact)
        _refused(stage, alone)
        say(
            f"{stage.wheels.update.path.name} is offered by the liar alone: refused, "
            "exit code 5, nothing written"
        )
        liar = LiarProcess(stage.folder, "liar-among-others")
        stack.callback(liar.kill)
        chunks = liar.offer(wheel.path, contact)["chunks"]
        target = stage.folder / "out" / f"contested-{wheel.path.name}"
        started = time.monotonic()
        document = stage.cast.traveller.ask("fetch", digest, "-o", str(target))
        seconds = time.monotonic() - started
        must(sha256_of(target) == digest, "the file has wrong bytes")
        counted = sources_of(document["artifacts"])
        must(liar.address not in counted, "bytes of the liar were kept")
        say(
            f"{wheel.path.name} is offered by {len(counted)} honest peers and a liar "
            f"with a flipped bit in each of {chunks} chunks"
        )
        banned = f"{liar.address} is banned" in stage.cast.traveller.log
        # Among many honest peers it may be over before the liar's turn has come.
        must(banned or len(counted) > HONEST_FEW, "nobody named the liar")
        fate = "banned at its first chunk" if banned else "never asked"
        say(
            f"{size_text(wheel.size)} arrived intact in {seconds:.1f} s; the liar, "
            f"{liar.address}, was {fate}"
        )
        figures.update(
            exit_code_alone=VerificationError.exit_code, chunks=chunks, banned=banned
        )


def _refused(stage: Stage, liar: LiarProcess) -> None:
    """See that what only the liar offers is refused, and that nothing is written."""
    target = stage.folder / "out" / "refused"
    digest = str(liar.ready["digest"])
    answer = stage.cast.traveller.run("fetch", digest, "-o", str(target))
    must(
        answer.exit_code == VerificationError.exit_code,
        f"wrong bytes ended with exit code {answer.exit_code}: {answer.said}",
    )
    must(not target.exists(), "wrong bytes were written")
    held = {one["digest"] for one in stage.cast.traveller.ask("list")["artifacts"]}
    must(digest not in held, "wrong bytes are in the store")


async def _forge(stage: Stage) -> ForgeryOutcome:
    """Store and push a record that names the publisher, signed by somebody else."""
    # Read-only: nobody needs to find the stranger again.
    network = Network()
    stranger = Dht(Ed25519PrivateKey.generate(), network=network, read_only=True)
    publisher = parse_publisher(stage.published.publisher)
    key = release_key(network, publisher, UPDATED)
    async with contextlib.AsyncExitStack() as stack:
        await stranger.start([Address("127.0.0.1", 0)])
        stack.push_async_callback(stranger.close)
        await stranger.join([Address.parse(stage.cast.holders[0].address)])
        genuine = (await stranger.find_record(key)).newest
        if not isinstance(genuine, ReleaseRecord):
            raise ProcessError("the genuine release was not found")
        forged = forge(genuine)
        stored = await stranger.store_record(forged)
        digest = bytes.fromhex(sha256_of(stage.wheels.named(UPDATED).path))
        holders = await _holders(stranger, provider_key(network, "sha256", digest))
        await stranger.notify(forged, holders)
        found = (await stranger.find_record(key)).newest
        believed = found is None or found.raw != genuine.raw
        return ForgeryOutcome(stored.stored, believed, len(holders))


def forge(genuine: ReleaseRecord) -> ReleaseRecord:
    """Return a newer release in the publisher's name with a stranger's signature."""
    stranger = Ed25519PrivateKey.generate()
    own = stranger.public_key().public_bytes_raw()
    now = time.time()
    record = ReleaseRecord.sign(
        stranger,
        publisher=own,
        name=genuine.name,
        version="666",
        epoch=genuine.epoch,
        sequence=genuine.sequence + 1,
        package=bytes(32),
        urgency="security",
        issued_at=now,
        expires_at=now + DAY_SECONDS,
    )
    raw = record.raw.replace(own, genuine.publisher)
    return dataclasses.replace(
        record, raw=raw, publisher=genuine.publisher, signer=genuine.publisher
    )


async def _holders(stranger: Dht, key: bytes) -> list[Contact]:
    """Return everybody who offers a key."""
    async with contextlib.aclosing(stranger.find_providers(key)) as providers:
        return [provider.contact async for provider in providers]
