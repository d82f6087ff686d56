"""The command `show`: what a package file says, once its signature is verified."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from node.cli.group import Command
from node.cli.session import Session
from node.cli.text import count, facts, size, table
from node.errors import NodeError, VerificationError

if TYPE_CHECKING:
    from node.model.packages import Package


@click.command(cls=Command, examples=["caravan show cryptography-45.0.caravan"])
@click.argument("file", metavar="FILE")
@click.pass_obj
def show(session: Session, file: str) -> None:
    """Verify a package file and print what is in it; no node is needed.

    Ends with exit code 5 for a file that is none, 6 for one that is not signed by
    its publisher or breaks a rule. Whether it is the newest, only the network knows.
    """
    from node.model.packages import PACKAGE_FILE_BYTES_MAX, Package, is_package_file

    try:
        with Path(file).open("rb") as stream:
            content = stream.read(PACKAGE_FILE_BYTES_MAX + 1)
    except OSError as error:
        raise NodeError(f"cannot read {file}: {error.strerror}") from error
    if not is_package_file(content):
        raise VerificationError(f"{file} is not a package file")
    session.answer(_document(Package.verify(content)), _words)


def _document(package: Package) -> dict[str, Any]:
    from msgspec import to_builtins

    body: dict[str, Any] = to_builtins(package.body)
    delegated = bool(body.pop("delegation"))
    digest = f"sha256:{hashlib.sha256(package.raw).hexdigest()}"
    return {"digest": digest, **body, "signed_by": "release" if delegated else "root"}


def _words(document: dict[str, Any]) -> None:
    facts(
        [
            ("package", f"{document['name']} {document['version']}"),
            ("publisher", document["publisher"]),
            ("digest", document["digest"]),
            ("signed", f"by its {document['signed_by']} key, {document['issued']}"),
            ("release", f"{document['sequence']} (epoch {document['epoch']})"),
            ("urgency", document["urgency"]),
            *(
                (label, document[field])
                for label, field in (
                    ("note", "note"),
                    ("licence", "license"),
                    ("home page", "home_page"),
                    ("before it", "previous"),
                )
                if document[field]
            ),
            ("replaces", count(len(document["replaces"]), "artifact")),
        ]
    )
    print()
    table(
        ("file", "size", "digest", "purl"),
        [
            (one["file"], size(one["size"]), one["digest"], one["purl"] or "-")
            for one in document["artifacts"]
        ],
    )
    if document["dependencies"]:
        print()
        table(
            ("needs", "version", "digest"),
            [
                (one["name"] or one["kind"], one["version"] or "-", one["digest"])
                for one in document["dependencies"]
            ],
        )
