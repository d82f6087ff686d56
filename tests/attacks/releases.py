"""Attacks on releases: framing, poison for the update loop, withdrawal misused."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import hashlib
import json
import time
from collections.abc import Iterator

import msgpack  # type: ignore[import-untyped]
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from dht import Network, RecordError, ReleaseRecord, release_key
from node.demo.processes import NodeProcess
from node.model.keys import parse_publisher
from node.model.packages import PAYLOAD_TYPE
from tests.attacks.lab import Lab, Outcome, holds, repeat, stranger

DAY_SECONDS = 86_400


def re_encoded(raw: bytes) -> Iterator[bytes]:
    """Yield other bytes that carry the same signed body."""
    kind, body, *rest = msgpack.unpackb(raw)
    pack = msgpack.packb
    tail = b"".join(pack(part) for part in rest)
    count = 2 + len(rest)
    yield bytes([0x90 + count, 0xCC, kind]) + pack(body) + tail
    yield b"\xdc" + count.to_bytes(2, "big") + pack(kind) + pack(body) + tail
    yield bytes([0x91 + count]) + pack(kind) + pack(body) + tail + b"\xc0"


def framing(lab: Lab) -> Outcome:
    """Re-encode a record, so that its publisher seems to have signed two."""
    publisher, first, second, keeper = lab.nodes(
        "publisher", "first", "second", "keeper"
    )
    who, _ = lab.publish(publisher, "tool", "1")
    for follower in (first, second):
        follower.ask("follow", f"{who}/tool", "--auto", "security")
    asyncio.run(_frame(keeper, who))
    lab.publish(publisher, "tool", "2", "--urgency", "security")
    done = 0
    for follower in (first, second):
        done += holds(follower, "tool", "2")
        done += follower.ask("updates")["doubts"] == []
    return Outcome(tried=4, done=done)


async def _frame(contact: NodeProcess, who: str) -> None:
    key = release_key(Network(), parse_publisher(who), "tool")
    async with stranger(contact) as dht:
        record = (await dht.find_record(key)).newest
        assert isinstance(record, ReleaseRecord)
        everybody = [one.contact for one in dht.contacts()]
        for raw in re_encoded(record.raw):
            forged = dataclasses.replace(record, raw=raw)
            for send in (dht.store_record(forged), dht.notify(forged, everybody)):
                try:
                    await send
                except RecordError:
                    continue


def bad_package(lab: Lab) -> Outcome:
    """Release what is no package file to followers of other names as well."""
    good, evil, victim = lab.nodes("good", "evil", "victim")
    who, _ = lab.publish(good, "tool", "1")
    bad, _ = lab.publish(evil, "game", "1")
    victim.ask("follow", f"{who}/tool", "--auto", "security")
    victim.ask("follow", f"{bad}/game", "--auto", "all")
    for sequence, junk in enumerate((_foreign_key_id(), b"no package at all"), 2):
        evil.ask("share", str(lab.file(junk)))
        asyncio.run(_release(evil, "game", sequence, junk))
    victim.stop()
    victim.join()
    time.sleep(3)
    done = int(victim.run("updates").exit_code == 0)
    lab.publish(good, "tool", "2", "--urgency", "security")
    done += holds(victim, "tool", "2")
    return Outcome(tried=2, done=done)


def _foreign_key_id() -> bytes:
    """Return an envelope whose key id has the right length and no ASCII letter."""
    body = base64.b64encode(b'{"format": 1}').decode()
    signature = {"keyid": "\N{LATIN SMALL LETTER E WITH ACUTE}" * 52, "sig": ""}
    envelope = {"payload": body, "payloadType": PAYLOAD_TYPE, "signatures": [signature]}
    return json.dumps(envelope, ensure_ascii=False).encode()


async def _release(node: NodeProcess, name: str, sequence: int, file: bytes) -> None:
    """Store a record, signed with a node's own publisher key, that points to a file."""
    pem = (node.home / "publishers" / "default.key").read_bytes()
    key = load_pem_private_key(pem, None)
    now = time.time()
    record = ReleaseRecord.sign(
        key,  # type: ignore[arg-type]
        publisher=key.public_key().public_bytes_raw(),  # type: ignore[union-attr]
        name=name,
        version=str(sequence),
        epoch=0,
        sequence=sequence,
        package=hashlib.sha256(file).digest(),
        urgency="routine",
        issued_at=now,
        expires_at=now + DAY_SECONDS,
    )
    async with stranger(node) as dht:
        await dht.store_record(record)


def replaced_dependency(lab: Lab) -> Outcome:
    """Replace a dependency by a security release; its dependents stay whole."""
    library, application, holder = lab.nodes("library", "application", "holder")
    _, package = lab.publish(library, "lib", "1")
    other, _ = lab.publish(application, "app", "1", "--depends", package)
    target = f"{other}/app"
    holder.ask("fetch", target)
    lab.publish(library, "lib", "2", "--urgency", "security")
    time.sleep(3)
    late = lab.node("late", library)
    fetchers = [holder, application, late]
    done, _ = repeat(
        len(fetchers),
        lambda number: (
            fetchers[number].run("fetch", target, "-o", f"{lab.out()}/").exit_code == 0
        ),
    )
    return Outcome(tried=len(fetchers), done=done)


def file_that_returns(lab: Lab) -> Outcome:
    """Release a file again that a security release had replaced."""
    publisher, follower = lab.nodes("publisher", "follower")
    old = lab.file(b"good and old")
    release = ("publish", str(old), "--name", "tool", "--version")
    who = publisher.ask(*release, "1")["publisher"]
    follower.ask("fetch", f"{who}/tool")
    follower.ask("follow", f"{who}/tool", "--auto", "all")
    lab.publish(publisher, "tool", "2", "--urgency", "security")
    holds(follower, "tool", "2")
    publisher.ask(*release, "3", "--note", "2 was broken")
    done = int(holds(follower, "tool", "3"))
    late = lab.node("late", publisher)
    for node in (follower, late):
        answer = node.run("fetch", f"{who}/tool", "-o", f"{lab.out()}/")
        done += answer.exit_code == 0
    return Outcome(tried=3, done=done)


def lost_key_file(lab: Lab) -> Outcome:
    """Delegate again after a release key was carried away; it must be revoked."""
    node = lab.node("owner")
    node.ask("key", "new", "root")
    first = node.ask("key", "delegate", "laptop", "--from", "root", "--days", "90")
    (node.home / "publishers" / "laptop.key").unlink()
    second = node.ask("key", "delegate", "laptop-2", "--from", "root", "--days", "90")
    return Outcome(tried=1, done=second["epoch"] > first["epoch"])
