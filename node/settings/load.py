"""Where a node's settings come from.

Flags take precedence over the environment; then come the file, what the node remembers,
and the defaults.

The file is `config.toml` in the home folder, with the names of `Settings` as keys; the
environment has the same names in capitals behind `CARAVAN_`, lists separated by
commas. A mistake is one sentence that names the file and key, the variable or the
flag, and says what was expected. `node.settings.table` lists every setting.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from node.errors import NodeError, UsageError
from node.settings import ECOSYSTEMS, PUBLIC_NETWORK, Settings
from node.settings.gateway import VARIABLE, merge_upstreams, upstreams_in
from node.settings.remembered import check_network, read_remembered
from node.settings.site import SiteSettings, site_in, site_variables
from node.settings.source import SettingSource
from node.settings.table import OTHER_VARIABLES, SETTINGS

CONFIG_FILE = "config.toml"
CONFIG_BYTES_MAX = 1024 * 1024
PREFIX = "CARAVAN_"

Layer = dict[str, tuple[object, SettingSource]]


@dataclass(frozen=True, slots=True)
class LoadedSettings:
    """The settings, and where each that is not a default comes from, by name."""

    settings: Settings
    sources: Mapping[str, str]


def load_settings(
    home: Path,
    flags: Mapping[str, object],
    environ: Mapping[str, str] = os.environ,
) -> Settings:
    """Return the settings of the node in `home`; see `load_with_sources`."""
    return load_with_sources(home, flags, environ).settings


def load_with_sources(
    home: Path,
    flags: Mapping[str, object],
    environ: Mapping[str, str] = os.environ,
) -> LoadedSettings:
    """Return the settings of the node in `home`, each with its source.

    `flags` holds what the command line gave, by setting; what is None or empty was
    not given. Raises UsageError for a flag or variable that cannot be read, NodeError
    for the file.
    """
    chosen: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for layer in (
        _from_remembered(home),
        _from_file(home),
        _from_environment(environ),
        _from_flags(flags),
    ):
        read = {
            name: SETTINGS[name].read(value, source)
            for name, (value, source) in layer.items()
        }
        if read.get("network", chosen.get("network")) != chosen.get("network"):
            # A secret belongs to the network that it was written beside.
            chosen.pop("secret_file", None)
            sources.pop("secret_file", None)
        if "site" in read:  # an address alone opens the door that the file describes
            read["site"] = replace(chosen.get("site", SiteSettings()), **read["site"])
        if "upstreams" in read:
            read["upstreams"] = merge_upstreams(
                chosen.get("upstreams", {}), read["upstreams"]
            )
        chosen |= read
        sources |= {name: source.name for name, (_, source) in layer.items()}
    check_network(home, chosen.get("network", PUBLIC_NETWORK))
    return LoadedSettings(_with_secret(Settings(home=home, **chosen)), sources)


def _from_remembered(home: Path) -> Layer:
    source = SettingSource("remembered", NodeError, is_text=False, folder=home)
    return {name: (value, source) for name, value in read_remembered(home).items()}


def _from_flags(flags: Mapping[str, object]) -> Layer:
    return {
        name: (value, SettingSource(SETTINGS[name].flag, UsageError))
        for name, value in flags.items()
        if value is not None and value != ()
    }


def _from_environment(environ: Mapping[str, str]) -> Layer:
    layer: Layer = {}
    for name in SETTINGS:
        variable = PREFIX + name.upper()
        if value := environ.get(variable):
            layer[name] = (value, SettingSource(variable, UsageError))
    if upstreams := upstreams_in(environ, PREFIX):
        variables = f"{PREFIX}{VARIABLE}..."
        layer["upstreams"] = (upstreams, SettingSource(variables, UsageError))
    if site := site_in(environ, PREFIX):
        layer["site"] = (site, SettingSource(f"{PREFIX}SITE...", UsageError))
    check_variables(environ)
    return layer


def check_variables(environ: Mapping[str, str]) -> None:
    """Refuse a variable that looks like a setting and is none: a misspelt one."""
    known = {PREFIX + name.upper() for name in SETTINGS} | OTHER_VARIABLES
    known |= {f"{PREFIX}{VARIABLE}{name.upper()}" for name in ECOSYSTEMS}
    known |= site_variables(PREFIX)
    for variable in sorted(environ):
        if variable.startswith(PREFIX + VARIABLE):
            continue  # `read_upstreams` refuses what is no upstream
        if variable.startswith(PREFIX) and variable not in known:
            from difflib import get_close_matches

            close = get_close_matches(variable, known, 1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise UsageError(
                f"there is no setting for the variable {variable}{hint} (`caravan "
                "config` lists all settings)"
            )


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
        raise NodeError(f"{path}: expected at most {CONFIG_BYTES_MAX} bytes")
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
        if name not in SETTINGS or name == "sharing_of":
            known = ", ".join(SETTINGS)
            raise NodeError(f"{path}: there is no setting {name!r}; expected {known}")
        source = SettingSource(f"{path}: {name}", NodeError, is_text=False, folder=home)
        layer[name] = (value, source)
    return layer


def _from_sharing_table(table: dict[str, Any], path: Path) -> Layer:
    """Split `[sharing]`: `default` counts for all that it does not name."""
    source = SettingSource(f"{path}: [sharing]", NodeError, is_text=False)
    packages = dict(table)
    layer: Layer = {}
    if "default" in packages:
        layer["sharing"] = (packages.pop("default"), source)
    layer["sharing_of"] = (packages, source)
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
            f"the secret of the network {settings.network!r} is not here; get the file "
            "of a member and name it with --secret-file, or make a new network with "
            f"`caravan network new {settings.network}`"
        )
    return replace(settings, secret_file=path)
