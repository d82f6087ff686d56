"""The rules of the house, held by a test: layers, borders, sizes, clocks.

Every rule is a small function from one parsed file to the sentences that say what is
wrong with it. Each is tried on a bad sample as well, because a check that cannot fail
is worth nothing.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[1]
LAYERS = ("dht", "transfer", "node")

FILE_LINES_MAX = 600
FUNCTION_LINES_MAX = 60

FORBIDDEN_LAYERS = {"dht": {"node", "transfer"}, "transfer": {"node", "dht"}}

# A third party that reaches into many files cannot be replaced: these have one door.
DOORS: dict[str, tuple[str, ...]] = {
    "kademlia": ("dht/routing.py",),
    "asyncio_dgram": ("dht/transport.py",),
    "msgpack": ("dht/packing.py", "transfer/connection/wire.py"),
    "click": ("node/cli/",),
    "rich": ("node/cli/", "node/demo/"),
    "aiohttp": ("node/web/",),
}
ANYWHERE = {
    "blake3", "cryptography", "msgspec", "packageurl", "packaging", "platformdirs",
    "uvloop",
}  # fmt: skip

# The simulator replays a run from its seed, so the DHT asks its arguments for the time
# and for chance. `random.Random` is a type that an argument can have; the functions of
# the module share one hidden generator.
HIDDEN_INPUTS = {
    "time": {"time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "sleep"},
    "datetime": {"now", "utcnow", "today"},
    "uuid": {"uuid1", "uuid4"},
    "os": {"urandom", "getrandom"},
    "secrets": {"token_bytes", "token_hex", "randbelow", "randbits", "choice"},
    "random": {
        "betavariate", "choice", "choices", "expovariate", "gauss", "getrandbits",
        "lognormvariate", "normalvariate", "randbytes", "randint", "random",
        "randrange", "sample", "seed", "shuffle", "triangular", "uniform",
    },
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Source:
    """One Python file: its path below the checkout, its text and its syntax tree."""

    path: str
    text: str
    tree: ast.Module

    @classmethod
    def of(cls, path: str, text: str) -> Source:
        return cls(path, text, ast.parse(text, path))

    @property
    def layer(self) -> str:
        return self.path.split("/", 1)[0]


@cache
def sources(*folders: str) -> tuple[Source, ...]:
    """Every Python file below `folders`."""
    return tuple(
        Source.of(path.relative_to(ROOT).as_posix(), path.read_text("utf-8"))
        for folder in folders
        for path in sorted((ROOT / folder).rglob("*.py"))
    )


def imported_modules(source: Source) -> Iterator[str]:
    """Yield the absolute name of every module that a file imports, however it does."""
    package = source.path.removesuffix(".py").split("/")[:-1]
    for node in ast.walk(source.tree):
        match node:
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module=module, level=level):
                above = package[: len(package) - level + 1] if level else []
                yield ".".join([*above, *([module] if module else [])])
            case ast.Call(
                func=ast.Attribute(attr="import_module") | ast.Name(id="__import__"),
                args=[ast.Constant(value=str(name)), *_],
            ):
                yield name


def imported_packages(source: Source) -> set[str]:
    """Return the top-level packages that a file imports."""
    return {module.split(".", 1)[0] for module in imported_modules(source)}


def layer_breaches(source: Source) -> list[str]:
    """Return the imports that run up or across: from the DHT to the node, say."""
    crossed = imported_packages(source) & FORBIDDEN_LAYERS.get(source.layer, set())
    return [f"{source.path} imports {name}" for name in sorted(crossed)]


def border_breaches(source: Source) -> list[str]:
    """Return the third parties that are not declared or not in their door."""
    known = {*sys.stdlib_module_names, *LAYERS, *ANYWHERE, "_typeshed"}
    found = []
    for name in sorted(imported_packages(source) - known):
        if name not in DOORS:
            found.append(f"{source.path} imports {name}, which setup.cfg does not name")
        elif not source.path.startswith(DOORS[name]):
            found.append(f"{source.path} imports {name}; only {DOORS[name]} may")
    return found


def length_breaches(source: Source) -> list[str]:
    """Return the files and functions that are too long to be read in one go."""
    lines = source.text.count("\n")
    found = []
    if lines > FILE_LINES_MAX:
        found.append(f"{source.path} has {lines} lines")
    for node in ast.walk(source.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > FUNCTION_LINES_MAX:
                found.append(f"{source.path}: {node.name} has {length} lines")
    return found


def hidden_inputs(source: Source) -> list[str]:
    """Return the calls that ask the machine for the time or for chance."""
    found = []
    for node in ast.walk(source.tree):
        match node:
            case ast.ImportFrom(module=str(module), names=names):
                taken = {alias.name for alias in names} & HIDDEN_INPUTS.get(
                    module, set()
                )
                found += [f"from {module} import {name}" for name in sorted(taken)]
            case ast.Call(func=ast.Attribute(value=ast.Name(id=module), attr=name)):
                if name in HIDDEN_INPUTS.get(module, set()):
                    found.append(f"{module}.{name}()")
            case ast.Call(
                func=ast.Attribute(value=ast.Attribute(attr=module), attr=name)
            ):
                if name in HIDDEN_INPUTS.get(module, set()):
                    found.append(f"{module}.{name}()")
    return [f"{source.path} calls {call}" for call in found]


def docstring_breaches(source: Source) -> list[str]:
    """Return the modules that do not say what they are; an empty one need not."""
    if source.text.strip() and not ast.get_docstring(source.tree):
        return [f"{source.path} has no docstring"]
    return []


def test_imports_run_from_the_node_to_the_layers_and_never_back():
    """The DHT and the transfer layer know neither the node nor each other."""
    checked = sources("dht", "transfer")
    assert [breach for source in checked for breach in layer_breaches(source)] == []


def test_third_parties_enter_by_their_door():
    """Each dependency is declared, and the larger ones are imported in one place."""
    checked = sources(*LAYERS)
    assert [breach for source in checked for breach in border_breaches(source)] == []


@pytest.mark.parametrize("name", sorted(DOORS))
def test_every_door_is_used(name):
    """A door that nothing goes through is a rule about a file that is not there."""
    users = [
        source.path for source in sources(*LAYERS) if name in imported_packages(source)
    ]
    assert users, f"nothing imports {name}"


def test_files_and_functions_can_be_read_in_one_go():
    """No file is longer than 600 lines, no function longer than 60."""
    checked = sources(*LAYERS, "tests")
    assert [breach for source in checked for breach in length_breaches(source)] == []


def test_the_dht_is_told_the_time_and_its_chances():
    """Nothing in the DHT reads a clock or a generator that a test cannot replace."""
    checked = [source for source in sources("dht") if source.path != "dht/clock.py"]
    assert [breach for source in checked for breach in hidden_inputs(source)] == []


def test_every_module_says_what_it_is():
    """Every package and module of the three layers opens with a docstring."""
    checked = sources(*LAYERS, "tests")
    assert [breach for source in checked for breach in docstring_breaches(source)] == []


def test_the_node_package_is_empty():
    """`import node.cli.main` must not load the whole program on its way."""
    assert (ROOT / "node/__init__.py").read_text("utf-8") == ""


@pytest.mark.parametrize("layer", ["dht", "transfer"])
def test_a_layer_says_what_it_is_and_is_typed(layer):
    """Each library opens with its idea, and tells type checkers that it is typed."""
    (package,) = (s for s in sources(layer) if s.path == f"{layer}/__init__.py")
    assert len((ast.get_docstring(package.tree) or "").split()) >= 10
    assert (ROOT / layer / "py.typed").is_file()


@pytest.mark.parametrize("layer", ["dht", "transfer"])
def test_a_layer_loads_alone(layer):
    """Importing one library loads neither of the other two packages."""
    loaded = modules_after(f"import {layer}")
    assert loaded & set(LAYERS) == {layer}


def test_the_command_line_starts_light():
    """A command that only asks the node loads no event loop and no cryptography."""
    loaded = modules_after("import node.cli.main")
    assert loaded & {"asyncio", "aiohttp", "cryptography", "rich", "sqlite3"} == set()


def modules_after(statement: str) -> set[str]:
    """Return the top-level modules that a fresh Python has loaded after `statement`."""
    program = f"import sys\n{statement}\nprint(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
        timeout=30,
    )
    return {name.split(".", 1)[0] for name in done.stdout.split()}


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("dht/bad.py", "import node.service"),
        ("dht/bad.py", "from transfer import Store"),
        ("dht/deep/bad.py", "from ...node import keys"),
        ("dht/bad.py", "def f():\n    from node.keys import load"),
        ("transfer/bad.py", "import importlib\nimportlib.import_module('dht.keys')"),
        ("transfer/bad.py", "__import__('node')"),
    ],
)
def test_a_breach_of_layers_is_seen(path, text):
    assert len(layer_breaches(Source.of(path, text))) == 1


def test_imports_within_a_layer_are_no_breach():
    assert layer_breaches(Source.of("dht/good.py", "from . import keys")) == []
    assert layer_breaches(Source.of("node/good.py", "import dht, transfer")) == []


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("dht/bad.py", "from kademlia.routing import RoutingTable"),
        ("dht/routing.py", "import asyncio_dgram"),
        ("node/bad.py", "import msgpack"),
        ("node/service.py", "import rich.progress"),
        ("node/cli/main.py", "from aiohttp import web"),
        ("transfer/bad.py", "import requests"),
    ],
)
def test_a_third_party_beside_its_door_is_seen(path, text):
    assert len(border_breaches(Source.of(path, text))) == 1


def test_a_third_party_in_its_door_is_no_breach():
    routing = Source.of("dht/routing.py", "from kademlia.routing import RoutingTable")
    assert border_breaches(routing) == []


def test_a_long_function_and_a_long_file_are_seen():
    lines = "    x = 1\n"
    fits = Source.of("a.py", "def f():\n" + lines * (FUNCTION_LINES_MAX - 1))
    too_long = Source.of("a.py", "async def f():\n" + lines * FUNCTION_LINES_MAX)
    assert length_breaches(fits) == []
    assert length_breaches(too_long) == ["a.py: f has 61 lines"]
    assert length_breaches(Source.of("a.py", "x = 1\n" * 601)) == ["a.py has 601 lines"]


@pytest.mark.parametrize(
    "text",
    [
        "import time\nnow = time.time()",
        "import random\npick = random.choice([1, 2])",
        "from random import shuffle",
        "from time import monotonic",
        "import datetime\ndatetime.datetime.now()",
        "import os\nos.urandom(8)",
    ],
)
def test_a_hidden_input_is_seen(text):
    assert len(hidden_inputs(Source.of("dht/bad.py", text))) == 1


def test_a_generator_that_was_passed_in_is_no_hidden_input():
    text = "import random\ndef f(rng: random.Random): return rng.random()"
    assert hidden_inputs(Source.of("dht/good.py", text)) == []


def test_a_module_without_words_is_seen():
    assert docstring_breaches(Source.of("dht/bad.py", "import os\n"))
    assert docstring_breaches(Source.of("node/__init__.py", "")) == []
