"""Which part of the node does what each command asks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from node import commands
from node.commands import Command, Progress
from node.composition import Parts
from node.content.audit import Auditor
from node.content.cleaning import Cleaning
from node.content.fetch_command import FetchCommands
from node.content.inventory import Inventory
from node.content.pins import Pins
from node.content.unshare import Unsharer
from node.gateway.prefetch import Lockfiles
from node.gateway.service import Gateway
from node.inspect import Described, Inspector
from node.layers import Layers
from node.model.names import is_file_name
from node.rates import Rates
from node.reach.named_contacts import JoinCommands
from node.releases.delegate_command import DelegationPublisher
from node.releases.follow_command import FollowCommands
from node.releases.package_builder import PackageBuilder
from node.releases.publish import ReleasePublisher
from node.releases.update_output import UpdateOutput
from node.wallclock import now
from transfer import Digest

Run = Callable[[Any, Progress], Awaitable[Any]]
"""Does one command, and returns its result."""
CommandTable = dict[type[Command[Any]], Run]


def make_command_table(node: Described, layers: Layers, parts: Parts) -> CommandTable:
    """Return what does each command, but for those that end or open the node."""
    return {
        **_node_commands(node, layers, parts),
        **_content_commands(layers, parts),
        **_store_commands(layers, parts),
        **_lockfile_commands(layers, parts),
        **_publisher_commands(layers, parts),
        **_follower_commands(layers, parts),
    }


def _node_commands(node: Described, layers: Layers, parts: Parts) -> CommandTable:
    inspector = Inspector(
        node=node,
        catalogue=layers.storage.catalogue,
        dht=layers.dht,
        store=layers.storage.store,
        seeder=layers.seeder,
        leecher=layers.leecher,
        router=parts.content.router,
        fetcher=parts.content.fetcher,
        settings=layers.settings,
        background=layers.background,
        totals=layers.totals,
        reachability=layers.reaching.reachability,
    )
    return {
        commands.StatusCommand: inspector.status,
        commands.PeersCommand: inspector.peers,
        commands.DoctorCommand: inspector.doctor,
        commands.LookupCommand: inspector.lookup,
        commands.TransfersCommand: inspector.transfers,
        commands.LimitCommand: Rates(layers.seeder, layers.leecher).limit,
        commands.InviteCommand: layers.reaching.invite,
        commands.MeetCommand: JoinCommands(layers.dht).meet,
    }


def _content_commands(layers: Layers, parts: Parts) -> CommandTable:
    store, catalogue = layers.storage.store, layers.storage.catalogue
    content, gateway = parts.content, parts.gateway

    async def index_names(digests: Sequence[Digest]) -> list[str]:
        return await _index_names(gateway, digests)

    fetch_command = FetchCommands(
        store=store,
        catalogue=catalogue,
        trust_store=layers.storage.trust_store,
        fetcher=content.fetcher,
        closures=content.closures,
        versions=parts.releases.newest,
        sharer=content.sharer,
        router=content.router,
        withdrawal=content.withdrawal,
        output=content.output,
        index_names=index_names,
    )
    unsharer = Unsharer(store, catalogue, content.router)
    return {
        commands.ShareCommand: content.sharer.share,
        commands.UnshareCommand: unsharer.unshare,
        commands.FetchCommand: fetch_command.fetch,
    }


async def _index_names(gateway: Gateway, digests: Sequence[Digest]) -> list[str]:
    """Return the file names that package indexes gave files, "" where none did."""
    return [
        next((one.file for one in named if is_file_name(one.file)), "")
        for named in await gateway.named_many(digests)
    ]


def _store_commands(layers: Layers, parts: Parts) -> CommandTable:
    store, catalogue = layers.storage.store, layers.storage.catalogue
    router = parts.content.router
    pins = Pins(
        store=store,
        catalogue=catalogue,
        trust_store=layers.storage.trust_store,
        router=router,
    )
    cleaning = Cleaning(store, catalogue, router, now=now)
    return {
        commands.ListCommand: Inventory(store, catalogue).list,
        commands.PinCommand: pins.pin,
        commands.UnpinCommand: pins.unpin,
        commands.CleanCommand: cleaning.clean,
        commands.VerifyCommand: cleaning.verify,
    }


def _lockfile_commands(layers: Layers, parts: Parts) -> CommandTable:
    lockfiles = Lockfiles(
        parts.gateway,
        store=layers.storage.store,
        catalogue=layers.storage.catalogue,
        router=parts.content.router,
        output=parts.content.output,
    )
    auditor = Auditor(
        store=layers.storage.store,
        catalogue=layers.storage.catalogue,
        withdrawal=parts.content.withdrawal,
        router=parts.content.router,
        locked=lockfiles.digests,
    )
    return {
        commands.PrefetchCommand: lockfiles.prefetch,
        commands.SurveyCommand: lockfiles.survey,
        commands.AdoptCommand: lockfiles.adopt,
        commands.OriginsCommand: lockfiles.origins,
        commands.AuditCommand: auditor.audit,
    }


def _publisher_commands(layers: Layers, parts: Parts) -> CommandTable:
    catalogue, trust_store = layers.storage.catalogue, layers.storage.trust_store
    content, releases = parts.content, parts.releases
    builder = PackageBuilder(
        store=layers.storage.store,
        catalogue=catalogue,
        trust_store=trust_store,
        sharer=content.sharer,
        fetcher=content.fetcher,
        closures=content.closures,
        releases=releases.newest,
        folder=layers.settings.home / "packages",
        now=now,
    )
    publisher = ReleasePublisher(
        catalogue=catalogue,
        keys=parts.publishing.keys,
        builder=builder,
        releases=releases.newest,
        pipeline=releases.pipeline,
    )
    delegations = DelegationPublisher(
        dht=layers.dht,
        trust_store=trust_store,
        releases=releases.newest,
        renewal=parts.publishing.renewal,
        now=now,
    )
    return {
        commands.PublishCommand: publisher.publish,
        commands.BroadcastCommand: publisher.broadcast,
        commands.DelegateCommand: delegations.delegate,
        commands.EpochCommand: delegations.epoch,
    }


def _follower_commands(layers: Layers, parts: Parts) -> CommandTable:
    content, releases = parts.content, parts.releases
    follows = FollowCommands(
        trust_store=layers.storage.trust_store,
        releases=releases.newest,
        updates=releases.updates,
        router=content.router,
        withdrawal=content.withdrawal,
        background=layers.background,
        output=UpdateOutput(
            layers.storage.store, layers.storage.catalogue, content.output
        ),
    )
    return {
        commands.FollowCommand: follows.follow,
        commands.FollowsCommand: follows.follows,
        commands.UnfollowCommand: follows.unfollow,
        commands.UpdatesCommand: follows.updates,
    }
