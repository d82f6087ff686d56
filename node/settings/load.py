"""Where a node's settings come from: flags over environment over file over defaults.

The file is `config.toml` in the home folder, with the names of `Settings` as keys; the
environment has the same names in capitals behind `CARAVAN_`, lists separated by
commas. A mistake is one sentence that names the file and key, the variable or the
flag. Only `home_folder` is needed by commands that merely ask a running node, so
nothing heavy is imported at the top.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any, get_args

from node.errors import NodeError, UsageError
from node.settings import PUBLIC_NETWORK, Relay, Rendezvous, Settings, Sharing
from node.settings.gateway import (
    VARIABLE,
    read_gateway,
    read_upstreams,
    upstreams_in,
)
from node.settings.site import SiteSettings, read_site

CONFIG_FILE = "config.toml"
CONFIG_BYTES_MAX = 1024 * 1024
CONTACTS_MAX = 64
LISTEN_MAX = 8
PREFIX = "CARAVAN_"

_UNITS = {
    "": 1, "B": 1,
    "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
    "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40,
}  # fmt: skip
_SIZE = re.compile(r"([0-9]{1,18})\s*([A-Za-z]*)")
_HOST_NAME = re.compile(r"(?![0-9.]+$)[A-Za-z0-9_.-]{1,253}")
_SWITCHES = {
    "1": True, "true": True, "yes": True, "on": True,
    "0": False, "false": False, "no": False, "off": False,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value was written, and which error a mistake in it is."""

    name: str
    error: type[NodeError]
    is_text: bool = True
    """Whether everything is text there; a TOML file has types of its own."""
    folder: Path = Path()
    """What a relative path is relative to."""

    def mistake(self, problem: str) -> NodeError:
        """Return the error that says what is wrong with the value."""
        return self.error(f"{self.name}: {problem}")


Reader = Callable[[Any, Origin], Any]


def home_folder(flag: Path | None, environ: Mapping[str, str] = os.environ) -> Path:
    """Return the node's folder, absolute: flag, `CARAVAN_HOME`, or the platform's."""
    if flag is not None:
        return _absolute(flag)
    if from_environment := environ.get("CARAVAN_HOME"):
        return _absolute(Path(from_environment))
    import platformdirs  # here: only this branch needs it, and it takes its time

    return Path(platformdirs.user_data_dir("caravan", appauthor=False))


def load_settings(
    home: Path,
    flags: Mapping[str, object],
    environ: Mapping[str, str] = os.environ,
) -> Settings:
    """Return the settings of the node in `home`.

    `flags` holds what the command line gave, by setting; what is None or empty was
    not given. Raises UsageError for a flag or variable that cannot be read, NodeError
    for the file.
    """
    layers = [_from_file(home), _from_environment(environ)]
    layers.append(
        {
            name: (value, Origin(_flag_name(name), UsageError))
            for name, value in flags.items()
            if value is not None and value != ()
        }
    )
    chosen: dict[str, Any] = {}
    for layer in layers:
        read = {
            name: _READERS[name](value, origin)
            for name, (value, origin) in layer.items()
        }
        if read.get("network", chosen.get("network")) != chosen.get("network"):
            # A secret belongs to the network that it was written beside.
            chosen.pop("secret_file", None)
        if isinstance(layer.get("site", ("",))[0], str) and "site" in read:
            # An address alone opens the door that the file describes.
            site: SiteSettings = chosen.get("site", SiteSettings())
            read["site"] = replace(site, listen=read["site"].listen)
        if "upstreams" in read:
            read["upstreams"] = {**chosen.get("upstreams", {}), **read["upstreams"]}
        chosen |= read
    return _with_secret(Settings(home=home, **chosen))


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path.expanduser()))  # noqa: PTH100 (links stay)


def _flag_name(name: str) -> str:
    if name == "site":
        return "--serve"
    return "HOST:PORT" if name == "contacts" else f"--{name.replace('_', '-')}"


Layer = dict[str, tuple[object, Origin]]


def _from_environment(environ: Mapping[str, str]) -> Layer:
    layer: Layer = {}
    for name in _READERS:
        variable = PREFIX + name.upper()
        if value := environ.get(variable):
            layer[name] = (value, Origin(variable, UsageError))
    if upstreams := upstreams_in(environ, PREFIX):
        variables = f"{PREFIX}{VARIABLE}..."
        layer["upstreams"] = (upstreams, Origin(variables, UsageError))
    return layer


def _from_file(home: Path) -> Layer:
    import tomllib  # here: only a node that starts reads the file

    path = home / CONFIG_FILE
    try:
        with path.open("rb") as file:
            content = file.read(CONFIG_BYTES_MAX + 1)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise NodeError(f"cannot read {path}: {error.strerror}") from error
    if len(content) > CONFIG_BYTES_MAX:
        raise NodeError(f"{path} is longer than {CONFIG_BYTES_MAX} bytes")
    try:
        document = tomllib.loads(content.decode())
    except UnicodeDecodeError as error:
        raise NodeError(f"{path} is not UTF-8 text") from error
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise NodeError(f"{path} is not valid TOML: {error}") from error
    layer: Layer = {}
    for name, value in document.items():
        if name == "sharing" and isinstance(value, dict):
            layer |= _from_sharing_table(value, path)
            continue
        if name not in _READERS or name == "sharing_of":
            known = ", ".join(_READERS)
            raise NodeError(f"{path}: there is no setting {name!r}; there are {known}")
        layer[name] = (value, Origin(f"{path}: {name}", NodeError, False, home))
    return layer


def _from_sharing_table(table: dict[str, Any], path: Path) -> Layer:
    """Split `[sharing]`: `default` counts for all that it does not name."""
    origin = Origin(f"{path}: [sharing]", NodeError, False)
    packages = dict(table)
    layer: Layer = {}
    if "default" in packages:
        layer["sharing"] = (packages.pop("default"), origin)
    layer["sharing_of"] = (packages, origin)
    return layer


def _with_secret(settings: Settings) -> Settings:
    """Fill in where a private network's secret is, or say how to make one."""
    from node.settings.networks import secret_path

    if settings.network == PUBLIC_NETWORK:
        if settings.secret_file is not None:
            raise UsageError(
                "a secret file belongs to a private network; name it with --network"
            )
        return settings
    if settings.secret_file is not None:
        return settings
    path = secret_path(settings.home, settings.network)
    if not path.exists():
        raise NodeError(
            f"the secret of the network {settings.network!r} is not here; make it with "
            f"`caravan network new {settings.network}`, or bring a member's file and "
            "name it with --secret-file"
        )
    return replace(settings, secret_file=path)


def _text(value: object, origin: Origin) -> str:
    if not isinstance(value, str) or not value:
        raise origin.mistake("a text in quotes belongs here")
    return value


def _texts(value: object, origin: Origin, most: int) -> list[str]:
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",")]
    if not isinstance(value, list | tuple) or not all(
        isinstance(part, str) for part in value
    ):
        raise origin.mistake('a list of texts like ["HOST:PORT"] belongs here')
    if len(value) > most:
        raise origin.mistake(f"at most {most} are read, not {len(value)}")
    return list(value)


def _listen(value: object, origin: Origin) -> tuple[str, ...]:
    texts = _texts(value, origin, LISTEN_MAX)
    if not texts:
        raise origin.mistake("name at least one HOST:PORT to listen on")
    return tuple(_numeric(text, origin) for text in texts)


def _contacts(value: object, origin: Origin) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for text in _texts(value, origin, CONTACTS_MAX):
        found |= dict.fromkeys(_resolved(text, origin))
    return tuple(found)


def _web(value: object, origin: Origin) -> str:
    text = _text(value, origin).replace("localhost:", "127.0.0.1:", 1)
    address = _numeric(text, origin)
    host = ip_address(address.rpartition(":")[0].strip("[]"))
    if not host.is_loopback:
        raise origin.mistake(
            f"{host} can be reached from other machines; the web door opens on a "
            "loopback address only, like 127.0.0.1:4748"
        )
    return address


def _network(value: object, origin: Origin) -> str:
    from node.settings.networks import check_name

    name = _text(value, origin)
    if name == PUBLIC_NETWORK:
        return name
    try:
        return check_name(name)
    except UsageError as error:
        raise origin.mistake(str(error)) from error


def _path(value: object, origin: Origin) -> Path:
    path = value if isinstance(value, Path) else Path(_text(value, origin))
    return _absolute(origin.folder / path.expanduser())


def _switch(value: object, origin: Origin) -> bool:
    if isinstance(value, bool):
        return value
    if origin.is_text and isinstance(value, str) and value.lower() in _SWITCHES:
        return _SWITCHES[value.lower()]
    raise origin.mistake("true or false belongs here")


def _relay(value: object, origin: Origin) -> str:
    if isinstance(value, str) and value in get_args(Relay):
        return value
    raise origin.mistake('expected "off", "members" or "all"')


def _rendezvous(value: object, origin: Origin) -> str:
    if isinstance(value, str) and value in get_args(Rendezvous):
        return value
    raise origin.mistake('expected "off" or "mainline"')


def _sharing(value: object, origin: Origin) -> str:
    if isinstance(value, str) and value in get_args(Sharing):
        return value
    raise origin.mistake('"all", "published" or "none" belongs here')


def _sharing_of(value: object, origin: Origin) -> dict[str, str]:
    """Read what is offered of single packages, by PUBLISHER/NAME."""
    from node.model.keys import parse_publisher
    from node.model.names import is_name

    if not isinstance(value, dict):
        raise origin.mistake("it is written in config.toml, in the table [sharing]")
    for target, sharing in value.items():
        publisher, _, name = target.partition("/")
        try:
            parse_publisher(publisher)
        except UsageError as error:
            raise origin.mistake(str(error)) from error
        if not is_name(name):
            raise origin.mistake(f"{target!r} is not PUBLISHER/NAME")
        _sharing(sharing, origin)
    return value


def _size(value: object, origin: Origin) -> int:
    """Read a number of bytes: 1000000, "500 MB" or "20 GiB"."""
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    if isinstance(value, str) and (match := _SIZE.fullmatch(value.strip())):
        number, unit = int(match[1]), match[2].upper()
        if unit in _UNITS and number > 0:
            return number * _UNITS[unit]
    raise origin.mistake('a number of bytes belongs here, like 1000000 or "20 GiB"')


def parse_size(text: str, name: str) -> int:
    """Read a number of bytes as people write it; UsageError names where it stands."""
    return _size(text, Origin(name, UsageError))


def _site(value: object, origin: Origin) -> SiteSettings:
    return read_site(value, origin.mistake, origin.folder)


def _numeric(text: str, origin: Origin) -> str:
    """Return an address whose host is an IP, in its canonical form."""
    from dht import Address

    try:
        return str(Address.parse(text))
    except ValueError as error:
        raise origin.mistake(str(error)) from error


def _resolved(text: str, origin: Origin) -> list[str]:
    """Return the numeric addresses of a contact; a host name may have several."""
    from dht import Address

    host, _, port = text.rpartition(":")
    if not _HOST_NAME.fullmatch(host) or not port.isascii() or not port.isdigit():
        return [_numeric(text, origin)]
    try:
        found = socket.getaddrinfo(host, int(port), type=socket.SOCK_DGRAM)
        return [str(Address(str(address[4][0]), int(port))) for address in found]
    except (OSError, UnicodeError) as error:
        # Not a mistake in writing: the name may be known again in a minute.
        raise NodeError(
            f"{origin.name}: the host {host!r} is not known here"
        ) from error
    except (OverflowError, ValueError) as error:
        raise origin.mistake(f"{text!r} is not HOST:PORT: {error}") from error


_READERS: dict[str, Reader] = {
    "listen": _listen,
    "web": _web,
    "contacts": _contacts,
    "network": _network,
    "secret_file": _path,
    "encryption": _switch,
    "weak_digests": _switch,
    "lan": _switch,
    "port_mapping": _switch,
    "relay": _relay,
    "rendezvous": _rendezvous,
    "sharing": _sharing,
    "sharing_of": _sharing_of,
    "withdraw": _switch,
    "store_bytes": _size,
    "upload_bytes_per_second": _size,
    "download_bytes_per_second": _size,
    "upstreams": read_upstreams,
    "gateway": read_gateway,
    "site": _site,
}
