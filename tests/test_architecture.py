"""The rules of the house, held by a test: layers, borders, sizes, clocks.

Every rule is a small function from parsed files to the sentences that say what is wrong
with them; the longer ones are in `tests/architecture_rules.py`. Each is tried on a bad
sample as well, because a check that cannot fail is worth nothing.
"""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest

from tests.architecture_rules import (
    LAYERS,
    NODE_WINGS,
    ROOT,
    SHARED_FOLDERS,
    TRANSFER_WINGS,
    Source,
    banned_words,
    import_cycles,
    imported_packages,
    member_breaches,
    positional_breaches,
    program_breaches,
    shared_class_names,
    sources,
    wing_breaches,
)

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
    "yarl": ("node/web/",),
    "prometheus_client": ("node/web/metrics.py",),
    "ifaddr": ("node/reach/links.py",),
    "segno": ("node/cli/invite.py",),
    "miniupnpc": ("node/reach/port_mapping.py",),
    "zeroconf": ("node/reach/lan.py",),
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


def test_the_wings_have_one_direction():
    """No wing of `transfer/` or `node/` imports one that stands above or beside it."""
    breaches = [b for source in sources(*LAYERS) for b in wing_breaches(source)]
    assert breaches == []


@pytest.mark.parametrize(
    ("layer", "wings"),
    [("transfer", {*TRANSFER_WINGS}), ("node", {*NODE_WINGS, *SHARED_FOLDERS})],
)
def test_every_folder_is_a_wing(layer, wings):
    """A folder has its place in the order, and so a direction."""
    folders = {path.parent.name for path in (ROOT / layer).glob("*/__init__.py")}
    assert folders == wings


def test_wings_do_not_import_the_program_that_joins_them():
    """A file in `node/` that joins wings is for the command line, not for a wing."""
    assert program_breaches(sources("node")) == []


def test_no_modules_import_each_other():
    """There is no import cycle, not even one that only a type checker sees."""
    assert import_cycles(sources(*LAYERS)) == []


def test_many_parameters_are_taken_by_keyword():
    """A function takes at most three parameters by position, `self` not counted."""
    breaches = [b for source in sources(*LAYERS) for b in positional_breaches(source)]
    assert breaches == []


def test_no_module_reaches_far_into_another_object():
    """A module uses at most eight members of an object that another module defines."""
    assert member_breaches(sources(*LAYERS)) == []


def test_a_class_name_means_one_class():
    """No public class name stands twice in the three layers."""
    assert shared_class_names(sources(*LAYERS)) == []


def test_names_are_those_of_the_field():
    """Files and classes have no name for which the field has another term."""
    breaches = [b for source in sources(*LAYERS) for b in banned_words(source)]
    assert breaches == []


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


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("transfer/seeding/bad.py", "from ..leeching import leecher"),
        ("transfer/leeching/bad.py", "import transfer.seeding.seeder"),
        ("transfer/leeching/bad.py", "from .. import seeding"),
        ("transfer/store/bad.py", "def f():\n    from ..connection import wire"),
        ("transfer/connection/bad.py", "from transfer.store import store"),
        ("transfer/content/bad.py", "from ..store import fs"),
        ("transfer/content/bad.py", "from ..prefix import Prefix"),
        ("transfer/content/bad.py", "from transfer import Store"),
        ("node/model/bad.py", "from ..content import fetch"),
        ("node/content/bad.py", "from ..releases.newest import Newest"),
        ("node/gateway/python/bad.py", "from ...web import door"),
        ("node/web/bad.py", "from ..cli import text"),
        ("node/cli/bad.py", "from node.web import door"),
        ("node/results/bad.py", "from node.content import fetcher"),
    ],
)
def test_an_import_against_the_direction_is_seen(path, text):
    assert len(wing_breaches(Source.of(path, text))) == 1


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("transfer/leeching/good.py", "from ..store import fs\nfrom . import picker"),
        ("transfer/content/good.py", "from ..errors import DigestError\nimport os"),
        ("transfer/good.py", "from .seeding import seeder\nfrom .leeching import x"),
        ("node/gateway/npm/good.py", "from ..pages import Pages\nimport transfer"),
        ("node/service.py", "from .web import door\nfrom .model import catalogue"),
        ("node/model/good.py", "from ..results import Result"),
        ("node/results/good.py", "from .result import Result\nimport transfer"),
        ("dht/good.py", "from . import keys"),
    ],
)
def test_an_import_along_the_direction_is_no_breach(path, text):
    assert wing_breaches(Source.of(path, text)) == []


def test_a_wing_that_imports_the_program_is_seen():
    files = [
        Source.of("node/service.py", "from .web import door"),
        Source.of("node/errors.py", "import dht"),
        Source.of("node/web/bad.py", "from ..service import Node"),
        Source.of("node/web/good.py", "from ..errors import NodeError"),
        Source.of("node/cli/good.py", "from ..service import Node"),
    ]
    assert program_breaches(files) == ["node/web/bad.py imports node.service.Node"]


def test_a_cycle_is_seen_under_type_checking_too():
    a = Source.of("dht/a.py", "from . import b")
    typed = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .c import C"
    b = Source.of("dht/b.py", typed)
    c = Source.of("dht/c.py", "import dht.a")
    assert import_cycles([a, b, c]) == ["dht.a <-> dht.b <-> dht.c"]
    assert import_cycles([a, b, Source.of("dht/c.py", "import os")]) == []


@pytest.mark.parametrize(
    "text",
    [
        "def f(a, b, c, d): ...",
        "class C:\n    def __init__(self, a, b, c, d): ...",
        "async def f(a, b, /, c, d, *, e): ...",
    ],
)
def test_many_parameters_by_position_are_seen(text):
    assert len(positional_breaches(Source.of("dht/bad.py", text))) == 1


def test_three_parameters_by_position_and_many_by_keyword_are_no_breach():
    text = "class C:\n    def f(self, a, b, c, *, d, e): ...\ndef g(*, a, b, c, d): ..."
    assert positional_breaches(Source.of("dht/good.py", text)) == []


def reaching(*members: str) -> str:
    """Return a class that keeps an `Engine` and uses these members of it."""
    uses = "; ".join(f"self._engine.{member}" for member in members)
    return (
        "class User:\n"
        "    def __init__(self, engine: Engine) -> None:\n"
        "        self._engine = engine\n"
        f"    def run(self) -> None:\n        {uses}\n"
    )


def test_a_module_that_uses_nine_members_of_another_object_is_seen():
    engine = Source.of("dht/engine.py", "class Engine: ...")
    bad = Source.of("dht/user.py", reaching(*"abcdefghi"))
    good = Source.of("dht/user.py", reaching(*"abcdefgh"))
    assert member_breaches([engine, bad]) == ["dht.user uses Engine"]
    assert member_breaches([engine, good]) == []


def test_values_and_own_objects_can_be_read_freely():
    value = Source.of("dht/engine.py", "@dataclass(frozen=True)\nclass Engine: ...")
    user = Source.of("dht/user.py", reaching(*"abcdefghi"))
    own = Source.of("dht/user.py", "class Engine: ...\n" + reaching(*"abcdefghi"))
    assert member_breaches([value, user]) == []
    assert member_breaches([own]) == []


def test_a_class_name_that_stands_twice_is_seen():
    one = Source.of("dht/one.py", "class Offer: ...\nclass _Hidden: ...")
    two = Source.of("node/two.py", "class Offer: ...\nclass _Hidden: ...")
    assert shared_class_names([one, two]) == ["Offer: dht.one and node.two"]


def test_a_name_of_the_private_language_is_seen():
    assert banned_words(Source.of("transfer/seeding/fellows.py", ""))
    assert banned_words(Source.of("dht/good.py", "class Walk: ..."))
    assert (
        banned_words(Source.of("node/gateway/serving.py", "class Session: ...")) == []
    )
