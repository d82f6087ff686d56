"""Reads `[site]`: the door through which other machines use this node's gateway."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from node.errors import NodeError, UsageError, clause
from node.settings.source import SWITCH_WORDS

Mistake = Callable[[str], NodeError]

DEFAULT_NETWORKS = (
    "127.0.0.0/8",
    "::1/128",
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "169.254.0.0/16",
    "100.64.0.0/10",
    "fc00::/7",
    "fe80::/10",
)
"""Loopback, private and link-local ranges, and the shared range of RFC 6598."""
LISTEN_MAX = 8
NETWORKS_MAX = 256
HOSTS_MAX = 256
TOKEN_CHARACTERS_MIN = 16
TOKEN_CHARACTERS_MAX = 256
_TOKEN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~")


@dataclass(frozen=True, slots=True)
class SiteSettings:
    """The site door; it is closed while `listen` is empty.

    `networks` are the clients' addresses in CIDR form, `hosts` the names that a client
    may use for this machine. With `token_file`, every request must carry the token.
    `private` serves what an upstream gave for a credential too.
    """

    listen: tuple[str, ...] = ()
    networks: tuple[str, ...] = DEFAULT_NETWORKS
    hosts: tuple[str, ...] = ()
    token_file: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    private: bool = False
    metrics: bool = False


def site_in(environ: Mapping[str, str], prefix: str) -> dict[str, object]:
    """Return what variables like CARAVAN_SITE_HOSTS say.

    CARAVAN_SITE alone is the address.
    """
    found: dict[str, object] = {}
    for name in SiteSettings.__dataclass_fields__:
        suffix = "" if name == "listen" else f"_{name.upper()}"
        if value := environ.get(f"{prefix}SITE{suffix}"):
            is_switch = _READERS[name] is _switch
            found[name] = SWITCH_WORDS.get(value.lower(), value) if is_switch else value
    return found


def site_variables(prefix: str) -> set[str]:
    """Return the variables that `site_in` reads."""
    names = SiteSettings.__dataclass_fields__.keys() - {"listen"}
    return {f"{prefix}SITE", *(f"{prefix}SITE_{name.upper()}" for name in names)}


def read_site(value: object, mistake: Mistake, folder: Path) -> dict[str, Any]:
    """Read the table `[site]`, or the address that `--serve` gives, field by field.

    `mistake` makes the error for a sentence; relative paths start at `folder`.
    """
    table = {"listen": value} if isinstance(value, str) else value
    if not isinstance(table, Mapping):
        raise mistake('expected a table, for example listen = "0.0.0.0:4749"')
    unknown = table.keys() - set(SiteSettings.__dataclass_fields__)
    if unknown:
        known = ", ".join(SiteSettings.__dataclass_fields__)
        raise mistake(f"unknown setting {min(unknown)!r}; expected one of {known}")
    return {name: _READERS[name](one, mistake, folder) for name, one in table.items()}


def read_token(path: Path) -> str:
    """Return the token in a file; raise UsageError or NodeError."""
    try:
        with path.open("rb") as file:
            text = file.read(TOKEN_CHARACTERS_MAX + 2).decode("ascii", "replace")
    except OSError as error:
        raise NodeError(f"cannot read the token in {path}: {error.strerror}") from error
    token = text.strip()
    if not TOKEN_CHARACTERS_MIN <= len(token) <= TOKEN_CHARACTERS_MAX or not (
        _TOKEN.issuperset(token)
    ):
        raise UsageError(
            f"{path}: expected a token of {TOKEN_CHARACTERS_MIN} to "
            f"{TOKEN_CHARACTERS_MAX} letters, digits or -._~"
        )
    return token


def _texts(value: object, mistake: Mistake, most: int) -> list[str]:
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",")]
    if not isinstance(value, list | tuple) or not all(
        isinstance(part, str) and part for part in value
    ):
        raise mistake("expected a list of strings")
    if len(value) > most:
        raise mistake(f"expected at most {most} values, not {len(value)}")
    return list(value)


def _listen(value: object, mistake: Mistake, _folder: Path) -> tuple[str, ...]:
    from dht import Address

    found = []
    for text in _texts(value, mistake, LISTEN_MAX):
        try:
            found.append(str(Address.parse(text)))
        except ValueError as error:
            raise mistake(clause(error)) from error
    return tuple(found)


def _networks(value: object, mistake: Mistake, _folder: Path) -> tuple[str, ...]:
    texts = _texts(value, mistake, NETWORKS_MAX)
    for text in texts:
        try:
            ip_network(text)
        except ValueError as error:
            raise mistake(
                f'networks: expected a range such as "10.0.0.0/8": {error}'
            ) from error
    return tuple(texts)


def _hosts(value: object, mistake: Mistake, _folder: Path) -> tuple[str, ...]:
    return tuple(text.lower() for text in _texts(value, mistake, HOSTS_MAX))


def _path(value: object, mistake: Mistake, folder: Path) -> Path:
    if not isinstance(value, str) or not value:
        raise mistake("expected the path of a file")
    return (folder / Path(value).expanduser()).absolute()


def _switch(value: object, mistake: Mistake, _folder: Path) -> bool:
    if not isinstance(value, bool):
        raise mistake("expected true or false")
    return value


_READERS: dict[str, Callable[[Any, Mistake, Path], Any]] = {
    "listen": _listen,
    "networks": _networks,
    "hosts": _hosts,
    "token_file": _path,
    "certificate": _path,
    "key": _path,
    "private": _switch,
    "metrics": _switch,
}
