"""Readers: each turns what was written for one setting into the value that is used."""

from __future__ import annotations

import re
import socket
from ipaddress import ip_address
from pathlib import Path
from typing import Any, get_args

from node.errors import UsageError, clause
from node.settings import (
    DEFAULT_PORT,
    PUBLIC_NETWORK,
    LogFormat,
    LogLevel,
    Relay,
    Rendezvous,
    Sharing,
)
from node.settings.home import absolute
from node.settings.site import read_site as read_site_table
from node.settings.source import SettingSource, read_as_switch

CONTACTS_MAX = 64
LISTEN_MAX = 8
PORT_MIN = 1024
"""Nodes send nothing to lower ports (docs/protocol-dht.md), so none can be reached."""

_UNITS = {
    "": 1, "B": 1,
    "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
    "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40,
}  # fmt: skip
_SIZE = re.compile(r"([0-9]{1,18})\s*([A-Za-z]*)")
_HOST_NAME = re.compile(r"(?![0-9.]+$)[A-Za-z0-9_.-]{1,253}")


def read_text(value: object, source: SettingSource) -> str:
    """Read a text that is not empty."""
    if not isinstance(value, str) or not value:
        raise source.mistake("expected a quoted string")
    return value


def read_listen(value: object, source: SettingSource) -> tuple[str, ...]:
    """Read the addresses that others reach this node at."""
    texts = _texts(value, source, LISTEN_MAX)
    if not texts:
        raise source.mistake("expected at least one HOST:PORT")
    found = tuple(_numeric(text, source) for text in texts)
    for address in found:
        port = int(address.rpartition(":")[2])
        if 0 < port < PORT_MIN:
            raise source.mistake(
                f"nodes do not connect to ports below {PORT_MIN}, so nobody could "
                f"reach this node at port {port}; choose a port from {PORT_MIN} up"
            )
    return found


def read_contacts(value: object, source: SettingSource) -> tuple[str, ...]:
    """Read the addresses of other nodes; a host may be a name."""
    found: dict[str, None] = {}
    for text in _texts(value, source, CONTACTS_MAX):
        found |= dict.fromkeys(_resolved(text, source))
    return tuple(found)


def read_web(value: object, source: SettingSource) -> str:
    """Read a loopback address."""
    text = read_text(value, source).replace("localhost:", "127.0.0.1:", 1)
    address = _numeric(text, source)
    host = ip_address(address.rpartition(":")[0].strip("[]"))
    if not host.is_loopback:
        raise source.mistake(
            f"{host} can be reached from other machines; expected a loopback address, "
            "for example 127.0.0.1:4748"
        )
    return address


def read_network(value: object, source: SettingSource) -> str:
    """Read the name of the public network or of a private one."""
    from node.settings.networks import check_name

    name = read_text(value, source)
    if name == PUBLIC_NETWORK:
        return name
    try:
        return check_name(name)
    except UsageError as error:
        raise source.mistake(str(error)) from error


def read_path(value: object, source: SettingSource) -> Path:
    """Read the path of a file."""
    path = value if isinstance(value, Path) else Path(read_text(value, source))
    return absolute(source.folder / path.expanduser())


def read_switch(value: object, source: SettingSource) -> bool:
    """Read true or false; a variable may also say yes, no, on, off, 1 or 0."""
    said = read_as_switch(value, source)
    if said is None:
        raise source.mistake("expected true or false")
    return said


def read_relay(value: object, source: SettingSource) -> str:
    """Read for whom this node relays."""
    return _choice(value, source, get_args(Relay))


def read_rendezvous(value: object, source: SettingSource) -> str:
    """Read where first contacts are looked for."""
    return _choice(value, source, get_args(Rendezvous))


def read_log_level(value: object, source: SettingSource) -> str:
    """Read from which level on records are logged."""
    return _choice(value, source, get_args(LogLevel))


def read_log_format(value: object, source: SettingSource) -> str:
    """Read how log records are written."""
    return _choice(value, source, get_args(LogFormat))


def read_sharing(value: object, source: SettingSource) -> str:
    """Read what is offered."""
    return _choice(value, source, get_args(Sharing))


def read_sharing_of(value: object, source: SettingSource) -> dict[str, str]:
    """Read what is offered of single packages, by PUBLISHER/NAME."""
    from node.model.keys import parse_publisher
    from node.model.names import is_name

    if not isinstance(value, dict):
        raise source.mistake("expected the table [sharing] of config.toml")
    for target, sharing in value.items():
        publisher, _, name = target.partition("/")
        try:
            parse_publisher(publisher)
        except UsageError as error:
            raise source.mistake(str(error)) from error
        if not is_name(name):
            raise source.mistake(f"expected PUBLISHER/NAME, not {target!r}")
        read_sharing(sharing, source)
    return value


def read_size(value: object, source: SettingSource) -> int:
    """Read a number of bytes: 1000000, "500 MB" or "20 GiB"."""
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    if isinstance(value, str) and (match := _SIZE.fullmatch(value.strip())):
        number, unit = int(match[1]), match[2].upper()
        if unit in _UNITS and number > 0:
            return number * _UNITS[unit]
    raise source.mistake('expected a size, for example 1000000 or "20 GiB"')


def read_count(value: object, source: SettingSource) -> int:
    """Read a whole number above zero; a variable says it in digits."""
    if source.is_text and isinstance(value, str) and value.isdecimal():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    raise source.mistake("expected a number above zero, for example 1000")


def parse_size(text: str, name: str) -> int:
    """Read a number of bytes as people write it; UsageError names where it stands."""
    return read_size(text, SettingSource(name, UsageError))


def read_site(value: object, source: SettingSource) -> dict[str, Any]:
    """Read the site door's table or address."""
    return read_site_table(value, source.mistake, source.folder)


def _choice(value: object, source: SettingSource, choices: tuple[str, ...]) -> str:
    if isinstance(value, str) and value in choices:
        return value
    *others, last = (f'"{one}"' for one in choices)
    raise source.mistake(f"expected {', '.join(others)} or {last}")


def _texts(value: object, source: SettingSource, most: int) -> list[str]:
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",")]
    if not isinstance(value, list | tuple) or not all(
        isinstance(part, str) for part in value
    ):
        raise source.mistake('expected a list, for example ["HOST:PORT"]')
    if len(value) > most:
        raise source.mistake(f"expected at most {most} addresses, not {len(value)}")
    return list(value)


def _numeric(text: str, source: SettingSource) -> str:
    """Return an address whose host is an IP, in its canonical form."""
    from dht import Address

    try:
        return str(Address.parse(text))
    except ValueError as error:
        raise source.mistake(clause(error)) from error


def with_port(text: str) -> str:
    """Return a contact as a person types it with a port, the usual one if it has none.

    A single word is not taken for a host: a port or a dot says that it is one.
    """
    try:
        host = ip_address(text.removeprefix("[").removesuffix("]"))
    except ValueError:
        is_host = _HOST_NAME.fullmatch(text) and ("." in text or text == "localhost")
        return f"{text}:{DEFAULT_PORT}" if is_host else text
    bracketed = f"[{host}]" if host.version == 6 else str(host)
    return f"{bracketed}:{DEFAULT_PORT}"


def _resolved(text: str, source: SettingSource) -> list[str]:
    """Return the numeric addresses of a contact; a host name may have several.

    A name that is not known now stays as it is: it may be known in a minute.
    """
    from dht import Address

    host, _, port = text.rpartition(":")
    if _HOST_NAME.fullmatch(text):
        raise source.mistake(f"expected a port too, for example {text}:{DEFAULT_PORT}")
    if not _HOST_NAME.fullmatch(host) or not port.isascii() or not port.isdigit():
        return [_numeric(text, source)]
    try:
        found = socket.getaddrinfo(host, int(port), type=socket.SOCK_DGRAM)
        return [str(Address(str(address[4][0]), int(port))) for address in found]
    except (OSError, UnicodeError):
        return [text]
    except (OverflowError, ValueError) as error:
        raise source.mistake(f"{text!r} is not HOST:PORT: {error}") from error
