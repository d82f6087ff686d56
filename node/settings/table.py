"""Every setting, once: how it is read, and what people are told about it.

`load` reads settings by this table, `caravan config` prints it, `caravan config init`
writes it as a commented `config.toml`, and docs/settings.md is made from it.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

from node.settings.gateway import read_gateway, read_upstreams
from node.settings.source import Reader
from node.settings.values import (
    read_contacts,
    read_count,
    read_listen,
    read_log_format,
    read_log_level,
    read_network,
    read_path,
    read_relay,
    read_rendezvous,
    read_sharing,
    read_sharing_of,
    read_site,
    read_size,
    read_switch,
    read_web,
)


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting: a field of `Settings`, or the part of one that a table has."""

    name: str
    read: Reader
    summary: str
    """One sentence or two, for people."""
    default: str
    """The default as it is written in TOML, or in words where it cannot be."""
    example: str
    """A line, or several, of `config.toml`."""
    flag: str = ""
    """The option of `caravan join` that sets it."""


_ALL = (
    Setting(
        name="listen",
        read=read_listen,
        summary="Addresses at which other nodes reach this one, over UDP and TCP; port "
        "0 is any free one. Ports below 1024 are refused: no node connects to them.",
        default='["0.0.0.0:4747", "[::]:4747"]',
        example='listen = ["0.0.0.0:4747", "[::]:4747"]',
        flag="--listen",
    ),
    Setting(
        name="web",
        read=read_web,
        summary="Address of the web door (page, API, gateways); loopback only.",
        default='"127.0.0.1:4748"',
        example='web = "127.0.0.1:4748"',
        flag="--web",
    ),
    Setting(
        name="contacts",
        read=read_contacts,
        summary="Nodes to join through, in addition to those that are remembered.",
        default="none",
        example='contacts = ["node.example.org:4747"]',
        flag="HOST:PORT",
    ),
    Setting(
        name="network",
        read=read_network,
        summary="The network that this node belongs to: the public one, or a private "
        "one made with `caravan network new`.",
        default='"caravan"',
        example='network = "lab"',
        flag="--network",
    ),
    Setting(
        name="secret_file",
        read=read_path,
        summary="The secret of the private network.",
        default="networks/NAME.secret in the node's folder",
        example='secret_file = "networks/lab.secret"',
        flag="--secret-file",
    ),
    Setting(
        name="encryption",
        read=read_switch,
        summary="Encrypt transfers (TLS 1.3). Switch it off only on a trusted "
        "network, on all nodes.",
        default="true",
        example="encryption = true",
    ),
    Setting(
        name="weak_digests",
        read=read_switch,
        summary="Also look up MD5 and SHA-1 digests. Anybody can make two files with "
        "one such digest.",
        default="false",
        example="weak_digests = false",
    ),
    Setting(
        name="lan",
        read=read_switch,
        summary="Announce this node on the local network, and meet other nodes there.",
        default="true",
        example="lan = true",
    ),
    Setting(
        name="port_mapping",
        read=read_switch,
        summary="Ask the router to forward the node's port (NAT-PMP, PCP, UPnP).",
        default="true",
        example="port_mapping = true",
    ),
    Setting(
        name="relay",
        read=read_relay,
        summary='For whom this node relays: "off", "members" of its private network, '
        'or "all".',
        default='"members"',
        example='relay = "members"',
    ),
    Setting(
        name="rendezvous",
        read=read_rendezvous,
        summary='Where first contacts are looked for: "off", or "mainline" for the '
        "DHT of BitTorrent.",
        default='"off"',
        example='rendezvous = "off"',
    ),
    Setting(
        name="sharing",
        read=read_sharing,
        summary='What this node offers to others: "all" that it holds, only what was '
        '"published" here, or "none".',
        default='"all"',
        example='sharing = "all"',
    ),
    Setting(
        name="sharing_of",
        read=read_sharing_of,
        summary="What this node offers of single packages. In config.toml, [sharing] "
        "becomes a table: `default` for the rest, and a line for each package.",
        default="no exceptions",
        example='[sharing]\ndefault = "all"\n"PUBLISHER/NAME" = "none"',
    ),
    Setting(
        name="withdraw",
        read=read_switch,
        summary="Stop offering what a security release replaces.",
        default="true",
        example="withdraw = true",
    ),
    Setting(
        name="closure_packages",
        read=read_count,
        summary="The most packages that one fetch brings without --yes.",
        default="1000",
        example="closure_packages = 1000",
    ),
    Setting(
        name="closure_bytes",
        read=read_size,
        summary="The most bytes of packages that one fetch brings without --yes.",
        default='"20 GiB"',
        example='closure_bytes = "20 GiB"',
    ),
    Setting(
        name="closure_depth",
        read=read_count,
        summary="How many packages may depend on each other in a row, without --yes.",
        default="100",
        example="closure_depth = 100",
    ),
    Setting(
        name="store_bytes",
        read=read_size,
        summary="The most bytes that the store keeps; the oldest files make room.",
        default="80 % of the disk, and 2 GiB stay free",
        example='store_bytes = "20 GiB"',
    ),
    Setting(
        name="upload_bytes_per_second",
        read=read_size,
        summary="The most bytes sent to peers in a second.",
        default="no limit",
        example='upload_bytes_per_second = "5 MiB"',
    ),
    Setting(
        name="download_bytes_per_second",
        read=read_size,
        summary="The most bytes received from peers in a second.",
        default="no limit",
        example='download_bytes_per_second = "20 MiB"',
    ),
    Setting(
        name="upstreams",
        read=read_upstreams,
        summary="Package indexes that the gateways ask: pypi, npm, cargo, opam, "
        'debian. "none" switches one off; `share = false` keeps its files private. '
        "In the environment: CARAVAN_UPSTREAM_PYPI and so on.",
        default="the public index of each; for pypi, the index that pip uses here",
        example="[upstreams]\n"
        'pypi = "https://pypi.org/simple"\n'
        'npm = { url = "https://npm.example.org", share = false }',
    ),
    Setting(
        name="gateway",
        read=read_gateway,
        summary="How package managers are served. Without `stream`, a file is sent "
        'only once all of it is verified; `names` says whether "upstream" or '
        '"network" wins where both have a name. With `lease`, the nodes of a private '
        "or local network ask an origin once for all of them; with `member_pages`, "
        "members of a private network also give one another index pages, which no "
        "digest vouches for.",
        default="stream, lease and member_pages true, no names",
        example="[gateway]\nstream = true\nlease = true\nmember_pages = true\n\n"
        '[gateway.names]\nexample = "network"',
    ),
    Setting(
        name="site",
        read=read_site,
        summary="The site door, for package managers on other machines: addresses, "
        "networks that may use it, host names, token_file, certificate and key.",
        default="closed",
        example='[site]\nlisten = "0.0.0.0:4749"\nnetworks = ["192.168.0.0/16"]',
        flag="--serve",
    ),
    Setting(
        name="log_level",
        read=read_log_level,
        summary='What is written to node.log: "debug", "info", "warning" or "error".',
        default='"info"',
        example='log_level = "info"',
        flag="--log-level",
    ),
    Setting(
        name="log_format",
        read=read_log_format,
        summary='How lines of the log are written: "text", or one "json" object each.',
        default='"text"',
        example='log_format = "text"',
        flag="--log-format",
    ),
)

SETTINGS = {setting.name: setting for setting in _ALL}

_VARIABLES = {
    "CARAVAN_HOME": "The node's folder, unless --home names it.",
    "CARAVAN_PASSPHRASE": "The passphrase of a publisher key, for machines.",
    "CARAVAN_TRACE": "With any value, an internal error prints a traceback.",
    "CARAVAN_DEMO_WHEELS": "A folder where the demo keeps what it downloads.",
}
OTHER_VARIABLES = {*_VARIABLES, "CARAVAN_CHECKOUT", "CARAVAN_RUN"}
"""Variables that are no settings; scripts that start nodes may have the last two."""


_SETTINGS_HEAD = """# Settings

Flags of `caravan join` take precedence over environment variables; then come
`config.toml` in the node's folder, what the node remembers, and the defaults. `caravan
config` shows which value is used and where it comes from; `caravan config init` writes
a `config.toml` with all settings as comments. A setting `NAME` is the variable
`CARAVAN_NAME` in the environment, with lists separated by commas. Unknown settings and
variables are refused."""


def commented_config() -> str:
    """Return a config.toml in which every setting stands as a comment."""
    head = """\
# Settings of a Caravan node. Remove the # of a line to change it.
# `caravan config` shows which value is used, and where it comes from."""
    parts = [head]
    plain = [one for one in _ALL if not one.example.startswith("[")]
    tables = [one for one in _ALL if one.example.startswith("[")]
    for setting in (*plain, *tables):  # in TOML, tables come last
        lines = textwrap.wrap(setting.summary, 76)
        lines.append(f"Default: {setting.default}")
        words = "\n".join(f"# {line}" for line in lines)
        example = "\n".join(f"#{line}" for line in setting.example.splitlines())
        parts.append(f"{words}\n{example}")
    return "\n\n".join(parts) + "\n"


def settings_page() -> str:
    """Return docs/settings.md."""
    parts = [_SETTINGS_HEAD]
    for setting in _ALL:
        flag = f"\n- Flag: `{setting.flag}`" if setting.flag else ""
        parts.append(
            f"## {setting.name}\n\n{textwrap.fill(setting.summary, 88)}\n\n"
            f"- Default: {setting.default}{flag}\n\n```toml\n{setting.example}\n```"
        )
    rows = "\n".join(f"| `{name}` | {words} |" for name, words in _VARIABLES.items())
    parts.append(f"## Other variables\n\n| variable | meaning |\n|---|---|\n{rows}")
    return "\n\n".join(parts) + "\n"
