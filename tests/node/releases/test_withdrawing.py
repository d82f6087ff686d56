"""Security releases between real nodes: what is withheld, kept, marked, given again."""

from __future__ import annotations

import pytest

from node.commands import (
    AuditCommand,
    FetchCommand,
    FollowCommand,
    LookupCommand,
    PinCommand,
    PublishCommand,
    UpdatesCommand,
)
from node.errors import RefusedError
from node.service import Node
from tests.node.running import running, until
from transfer import Digest


async def publish(node: Node, folder, name: str, version: str, **more):
    """Publish one file, whose content is `text` or its name and version."""
    file = folder / f"{name}-{version}.txt"
    file.write_text(more.pop("text", f"{name} {version}"))
    return await node.run(
        PublishCommand(files=[str(file)], name=name, version=version, **more)
    )


def file_of(node: Node, package: str) -> str:
    ((_, artifact),) = node.layers.storage.catalogue.files_of(package)
    return artifact


async def providers(node: Node, digest: str) -> set[str]:
    found = await node.run(LookupCommand(digest=digest))
    return {one.address for one in found.providers}


async def test_a_dependent_of_a_replaced_package_is_fetched_whole_and_marked(tmp_path):
    """The dependency's publisher cannot take others' packages away."""
    async with (
        running(tmp_path / "lib") as author,
        running(tmp_path / "app", author) as other,
        running(tmp_path / "holder", author) as holder,
    ):
        lib = await publish(author, tmp_path, "lib", "1")
        app = await publish(other, tmp_path, "app", "1", depends=[lib.package])
        target = f"{app.publisher}/app"
        await holder.run(FetchCommand(targets=[target]))
        needed = file_of(author, lib.package)
        fixed = await publish(
            author, tmp_path, "lib", "2", urgency="security", note="closes a hole"
        )
        await until(
            lambda: (
                holder.parts.releases.newest.known(*_name(holder, lib)).record.version
                == "2"
            )
        )
        async with running(tmp_path / "late", author) as late:
            fetched = await late.run(FetchCommand(targets=[target]))
            assert needed in {one.digest for one in fetched.artifacts}
        await other.run(FetchCommand(targets=[app.package]))
        given_by = await providers(holder, needed)
        assert {str(holder.address), str(other.address)} <= given_by
        assert str(author.address) not in given_by
        for node in (holder, other):
            (marked,) = (await node.run(UpdatesCommand())).dependents
            assert (marked.name, marked.dependency) == ("app", lib.package)
            assert marked.replaced_by == "lib 2"
            assert marked.replaced_by_digest == fixed.package
            audit = await node.run(AuditCommand())
            (found,) = audit.found
            assert (found.digest, found.fixed, found.given) == (needed, "2", True)
            assert found.note == "closes a hole"
            assert audit.dependents == [marked]
        (alone,) = (await author.run(AuditCommand())).found
        assert (alone.held, alone.given) == (True, False)


def _name(node: Node, lib) -> tuple[bytes, str]:
    row = node.layers.storage.catalogue.package(lib.package)
    assert row is not None
    return (row.publisher, row.name)


async def test_a_file_that_is_released_again_is_given_again(tmp_path):
    """2 was broken, and 3 goes back to the file of 1."""
    async with (
        running(tmp_path / "author") as author,
        running(tmp_path / "node", author) as node,
    ):
        first = await publish(author, tmp_path, "tool", "1", text="good old")
        target = f"{first.publisher}/tool"
        await node.run(FetchCommand(targets=[target]))
        await node.run(FollowCommand(target=target, auto="all"))
        old = file_of(author, first.package)
        await publish(author, tmp_path, "tool", "2", urgency="security")
        await until(
            lambda: not node.parts.content.router.may_serve(_digest(old), whole=True)
        )
        with pytest.raises(RefusedError, match="withdrawn"):
            await node.run(FetchCommand(targets=[old]))
        assert not node.parts.content.router.may_serve(_digest(old), whole=True)
        await publish(author, tmp_path, "tool", "3", text="good old")
        await until(
            lambda: node.parts.content.router.may_serve(_digest(old), whole=True)
        )
        fetched = await node.run(FetchCommand(targets=[target]))
        assert fetched.artifacts[0].digest == old
        async with running(tmp_path / "third", author) as third:
            assert str(node.address) in await providers(third, old)


async def test_a_pin_gives_a_withheld_file_again(tmp_path):
    async with running(tmp_path / "author") as author:
        first = await publish(author, tmp_path, "tool", "1")
        await publish(author, tmp_path, "tool", "2", urgency="security")
        old = file_of(author, first.package)
        assert not author.parts.content.router.may_serve(_digest(old), whole=True)
        await author.run(PinCommand(targets=[old]))
        assert author.parts.content.router.may_serve(_digest(old), whole=True)


def _digest(text: str) -> Digest:
    return Digest.parse(text)
