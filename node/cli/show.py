"""The command `show`: what a package file says, once its signature is verified."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import click

from node.cli.group import CliCommand
from node.cli.session import Session
from node.cli.text import count, facts, size, table
from node.errors import NodeError, VerificationError

if TYPE_CHECKING:
    from node.cli.results import ShowResult
    from node.model.packages import Package


@click.command(cls=CliCommand, examples=["caravan show cryptography-45.0.caravan"])
@click.argument("file", metavar="FILE")
@click.pass_obj
def show(session: Session, file: str) -> None:
    """Verify a package file and print its contents.

    Needs no running node.

    Exits with code 5 if FILE is not a package file, 6 if its publisher did not sign
    it or it breaks a rule. Whether it is the newest release, only the network knows.
    """
    from node.model.packages import PACKAGE_FILE_BYTES_MAX, Package, is_package_file

    try:
        with Path(file).open("rb") as stream:
            content = stream.read(PACKAGE_FILE_BYTES_MAX + 1)
    except OSError as error:
        raise NodeError(f"cannot read {file}: {error.strerror}") from error
    if not is_package_file(content):
        raise VerificationError(f"{file} is not a package file")
    session.answer(_described(Package.verify(content)), _words)


def _described(package: Package) -> ShowResult:
    from msgspec import to_builtins

    from node.cli.results import ShowResult

    body = package.body
    return ShowResult(
        digest=f"sha256:{hashlib.sha256(package.raw).hexdigest()}",
        format=body.format,
        publisher=body.publisher,
        name=body.name,
        version=body.version,
        epoch=body.epoch,
        sequence=body.sequence,
        issued=to_builtins(body.issued),
        artifacts=body.artifacts,
        dependencies=body.dependencies,
        replaces=body.replaces,
        previous=body.previous,
        urgency=body.urgency,
        note=body.note,
        license=body.license,
        home_page=body.home_page,
        signed_by="release" if body.delegation else "root",
    )


def _words(package: ShowResult) -> None:
    facts(
        [
            ("package", f"{package.name} {package.version}"),
            ("publisher", package.publisher),
            ("digest", package.digest),
            ("signed", f"by its {package.signed_by} key, {package.issued}"),
            ("release", f"{package.sequence} (epoch {package.epoch})"),
            ("urgency", package.urgency),
            *(
                (label, value)
                for label, value in (
                    ("note", package.note),
                    ("licence", package.license),
                    ("home page", package.home_page),
                    ("before it", package.previous),
                )
                if value
            ),
            ("replaces", count(len(package.replaces), "artifact")),
        ]
    )
    print()
    table(
        ("file", "size", "digest", "purl"),
        [
            (one.file, size(one.size), one.digest, one.purl or "-")
            for one in package.artifacts
        ],
    )
    if package.dependencies:
        print()
        table(
            ("needs", "version", "digest"),
            [
                (one.name or one.kind, one.version or "-", one.digest)
                for one in package.dependencies
            ],
        )
