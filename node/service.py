"""A node: its parts started in order, joined to the network, stopped in reverse.

Its life is here. What it consists of is made in `node.layers` (disk, sockets, the two
layers), `node.composition` (the parts above them), `node.command_table` (what does
each command) and `node.doors` (HTTP).
"""

from __future__ import annotations

import asyncio
import logging
import os
from contextlib import AsyncExitStack
from typing import Any, Self

from msgspec import to_builtins

from dht import Address
from node.command_log import logged
from node.command_table import CommandTable, make_command_table
from node.commands import Command, LeaveCommand, Progress, ResultT
from node.composition import Parts, compose
from node.doors import Doors
from node.errors import NodeError, clause
from node.gateway.traffic import Traffic
from node.layers import Layers, open_layers
from node.memory import NodeMemory
from node.reach.contacts import is_named, read_contacts
from node.reach.named_contacts import NamedContacts
from node.results import LeaveResult, NodeDescription
from node.settings import Settings
from node.settings.remembered import remember
from transfer import StoreError

log = logging.getLogger(__name__)


def _no_progress(_event: dict[str, Any]) -> None:
    """Take no notice of progress."""


class Node:
    """A node; `async with Node(settings) as node` runs it, or `Node.start`.

    `layers` and `parts` are what it consists of, from its start on.
    """

    layers: Layers
    parts: Parts

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.stopped = asyncio.Event()
        self._stack = AsyncExitStack()
        self._commands: CommandTable = {}

    @classmethod
    async def start(cls, settings: Settings) -> Node:
        """Start everything and join; NodeError is one sentence for a person."""
        return await cls(settings).__aenter__()

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.stop()

    def __repr__(self) -> str:
        return f"<Node of {self.settings.home}>"

    async def stop(self) -> None:
        """Stop everything that was started, in reverse."""
        await self._stack.aclose()

    async def run(
        self, command: Command[ResultT], progress: Progress = _no_progress
    ) -> ResultT:
        """Do what a person asked; `progress` takes each progress event.

        Encoded as JSON, the result is what `--json` prints. Raises NodeError.
        """
        work = self._commands[type(command)](command, progress)
        try:
            # What it changed is on disk before it is said to be done.
            async with self.layers.storage.mirror.durable():
                try:
                    result: ResultT = await logged(command, work)
                except StoreError as error:
                    failed = NodeError(clause(error))
                except NodeError as error:
                    failed = error  # some of it may be done all the same
                else:
                    return result
        except StoreError as error:
            raise NodeError(
                f"it is in force, but not on the disk yet: {clause(error)}; it is "
                "written as soon as that is possible, and lost if the node stops before"
            ) from error
        raise failed

    def traffic(self) -> Traffic:
        """Return what package managers were given since the start."""
        return self.parts.gateway.traffic

    def leases(self) -> dict[str, int]:
        """Return how often this node held an origin lease, or followed a holder."""
        return {f"leases.{name}": n for name, n in self.parts.leases.counts.items()}

    def describe(self) -> NodeDescription:
        """Return who and where this node is."""
        site = self._doors.site
        return NodeDescription(
            node_id=self.layers.dht.node_id.hex(),
            address=str(self.address),
            web=str(self._doors.web),
            site=str(site) if site is not None else None,
        )

    @property
    def address(self) -> Address:
        """The address that others know this node by, as far as it can tell."""
        dht = self.layers.dht
        bound = dht.addresses[0]
        if dht.observed is not None:
            return Address(dht.observed.host, bound.port)
        if bound.host in ("0.0.0.0", "::"):  # noqa: S104 - a comparison
            return Address("127.0.0.1" if bound.host != "::" else "::1", bound.port)
        return bound

    async def _start(self) -> None:
        """Start from the bottom up: what is begun last is stopped first."""
        self.layers = await open_layers(self._stack, self.settings)
        self.parts = compose(self._stack, self.layers)
        self._commands = make_command_table(self, self.layers, self.parts)
        self._commands[LeaveCommand] = self._leave
        self._doors = Doors(
            self,
            self.settings,
            gateway=self.parts.gateway,
            store=self.layers.storage.store,
        )
        await self._doors.open(self._stack)
        names = await self._join()
        self.layers.home.write_card(
            {
                **to_builtins(self.describe()),
                "token": self._doors.token,
                "pid": os.getpid(),
            }
        )
        self._begin_rounds(names)

    async def _join(self) -> list[str]:
        """Join the network; return the contacts that are names, to be looked up."""
        layers = self.layers
        remember(self.settings.home, {"network": self.settings.network})
        # Those that were given may be gone; those of last time help then.
        texts = [*self.settings.contacts, *layers.storage.catalogue.contacts()]
        names = [text for text in texts if is_named(text)]
        contacts = read_contacts(
            dict.fromkeys(one for one in texts if one not in names)
        )
        layers.reaching.start(self.parts.content.router.use_port, layers.seeder.adopt)
        answered = await layers.dht.join(contacts)
        if (contacts or names) and not answered:
            log.warning("no contact has answered yet; the node keeps trying")
        return names

    def _begin_rounds(self, names: list[str]) -> None:
        """Offer what is held, and begin what a node does again and again."""
        layers, content = self.layers, self.parts.content
        background, bound = layers.background, layers.storage.bound
        background.start(content.router.sync(), "announcing what is held")
        content.repair.resume()
        parts = self.parts
        background.repeat(parts.publishing.renewal.round, "renewing own releases")
        background.repeat(parts.releases.updates.round, "reading releases")
        if bound is not None:
            background.repeat(bound.round, "measuring the disk")
        if names:
            by_name = NamedContacts(layers.dht, names)
            background.repeat(by_name.round, "looking contacts up by name")
        memory = NodeMemory(
            dht=layers.dht,
            catalogue=layers.storage.catalogue,
            totals=layers.totals,
            seeder=layers.seeder,
            leecher=layers.leecher,
            gateway=self.traffic().counts,
        )
        background.repeat(memory.round, "remembering contacts")
        self._stack.callback(memory.save)

    async def _leave(self, _command: LeaveCommand, _progress: Progress) -> LeaveResult:
        self.stopped.set()
        return LeaveResult()
