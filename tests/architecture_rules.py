"""The rules of the house as functions: from parsed files to the breaches in them.

`tests/test_architecture.py` applies them, and tries each one on a bad sample. A rule
that looks at one file takes a `Source`; a rule that looks at how files relate takes all
of them. Names of breaches hold no line numbers, so that an edit elsewhere in the file
changes none of them.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

ROOT = Path(__file__).resolve().parents[1]
LAYERS = ("dht", "transfer", "node")

PARAMETERS_MAX = 3
MEMBERS_MAX = 8

# Which wings a wing may import, beside itself; what is not named here may import all.
TRANSFER_WINGS: dict[str, set[str]] = {
    "content": set(),
    "store": {"content"},
    "connection": {"content"},
    "seeding": {"content", "store", "connection"},
    "leeching": {"content", "store", "connection"},
}
NODE_WINGS: dict[str, set[str]] = {
    "model": set(),
    "settings": {"model"},
    "reach": {"model", "settings"},
    "content": {"model", "settings", "reach"},
    "releases": {"model", "settings", "reach", "content"},
    "gateway": {"model", "settings", "content", "releases"},
    "web": {"model", "settings", "gateway"},
    "runner": {"settings", "gateway", "web"},
    "demo": {"model", "settings"},
    "cli": {"model", "settings", "reach", "gateway", "runner", "demo"},
}
# What commands answer with: every wing may use it, and it uses none of them.
SHARED_FOLDERS = {"results"}
# These two run the whole program; the others are parts of it.
PROGRAM_WINGS = {"cli", "demo"}
# What the innermost wing needs of its layer, and nothing else.
CONTENT_NEEDS = {"errors", "limits"}

# Names that the field has a standard term for; they named something else here once.
BANNED_FILES: dict[str, set[str]] = {
    "dht": {
        "acquaintances", "answering", "asking", "ingress", "keeping", "offers",
        "pending", "publishing", "region", "searches", "walk",
    },
    "transfer": {
        "asking", "company", "connect", "crowd", "dials", "entering", "fellows",
        "greeting", "grouping", "lane", "outright", "pacing", "reception", "schedule",
        "serving", "turns", "upkeep", "workshop",
    },
    "node": {
        "arrival", "beliefs", "derive", "fetching", "following", "keeping", "ledger",
        "offering", "provide",
    },
}  # fmt: skip
BANNED_CLASSES: dict[str, set[str]] = {
    "dht": {
        "Acquaintances", "Allowance", "Offers", "Remembered", "Shares", "Silence",
        "Walk",
    },
    "transfer": {
        "Asking", "Companies", "Company", "Connections", "Crowd", "Dials", "Elsewhere",
        "Errand", "Fellows", "Group", "Hints", "Lane", "Line", "Lines", "Member",
        "Reception", "Schedule", "Service", "Session", "Smalls", "Turn", "Wish",
        "Workshop",
    },
    "node": {"Beliefs", "Errand", "Job", "OnItsWay", "Wish"},
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

    @property
    def module(self) -> str:
        """The dotted name; a package is named by its folder."""
        return self.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


@cache
def sources(*folders: str) -> tuple[Source, ...]:
    """Return every Python file below `folders`."""
    return tuple(
        Source.of(path.relative_to(ROOT).as_posix(), path.read_text("utf-8"))
        for folder in folders
        for path in sorted((ROOT / folder).rglob("*.py"))
    )


def imported_names(source: Source) -> Iterator[tuple[str, str]]:
    """Yield (module, name in it) for all that a file imports; the name can be empty."""
    package = source.path.removesuffix(".py").split("/")[:-1]
    for node in ast.walk(source.tree):
        match node:
            case ast.Import(names=names):
                yield from ((alias.name, "") for alias in names)
            case ast.ImportFrom(module=module, level=level, names=names):
                above = package[: len(package) - level + 1] if level else []
                base = ".".join([*above, *([module] if module else [])])
                yield from ((base, alias.name) for alias in names)
            case ast.Call(
                func=ast.Attribute(attr="import_module") | ast.Name(id="__import__"),
                args=[ast.Constant(value=str(name)), *_],
            ):
                yield name, ""


def imported_modules(source: Source) -> Iterator[str]:
    """Yield the absolute name of every module that a file imports, however it does."""
    yield from (module for module, _ in imported_names(source))


def imported_packages(source: Source) -> set[str]:
    """Return the top-level packages that a file imports."""
    return {module.split(".", 1)[0] for module in imported_modules(source)}


def imports_within(source: Source) -> set[str]:
    """Return the dotted names, below the file's own layer, that a file imports."""
    return {
        f"{module}.{name}" if name else module
        for module, name in imported_names(source)
        if module.split(".", 1)[0] == source.layer
    }


def wing_breaches(source: Source) -> list[str]:
    """Return the imports from one wing of a layer into a wing that it may not know."""
    wings = {"transfer": TRANSFER_WINGS, "node": NODE_WINGS}.get(source.layer, {})
    wing = source.module.split(".")[1:2]
    if not wing or wing[0] not in {*wings, *SHARED_FOLDERS}:
        return []
    known = {wing[0], *wings.get(wing[0], set())}
    found = set()
    for name in imports_within(source):
        other = name.split(".")[1:2]
        if other and other[0] in wings and other[0] not in known:
            found.add(other[0])
        if source.layer == "transfer" and wing == ["content"]:
            found |= set(other) - {"content"} - CONTENT_NEEDS
    return [f"{source.path} imports {source.layer}/{name}" for name in sorted(found)]


def program_breaches(files: Iterable[Source]) -> list[str]:
    """Return the wings of the node that import a file by which the wings are joined.

    A file directly in `node/` either imports no wing, and then every wing may use it,
    or it joins wings, and then only `PROGRAM_WINGS` may.
    """
    node = [source for source in files if source.layer == "node"]
    joins = {
        source.module
        for source in node
        if source.path.count("/") == 1
        and any(name.split(".")[1] in NODE_WINGS for name in imports_within(source))
    }
    found = []
    for source in node:
        wing = source.module.split(".")[1:2]
        if wing and wing[0] in NODE_WINGS and wing[0] not in PROGRAM_WINGS:
            found += [
                f"{source.path} imports {name}"
                for name in sorted(imports_within(source))
                if ".".join(name.split(".")[:2]) in joins
            ]
    return found


def import_graph(files: Iterable[Source]) -> dict[str, set[str]]:
    """Return which module names which, TYPE_CHECKING imports among them."""
    named = {source.module: source for source in files}
    graph = {}
    for module, source in named.items():
        reached = set()
        for base, name in imported_names(source):
            full = f"{base}.{name}"
            reached |= {full if full in named else base}
        graph[module] = (reached & named.keys()) - {module}
    return graph


def import_cycles(files: Iterable[Source]) -> list[str]:
    """Return the groups of modules that import each other, by Tarjan's algorithm."""
    graph = import_graph(files)
    order: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    found = []

    def visit(module: str) -> None:
        order[module] = lowest[module] = len(order)
        stack.append(module)
        for other in sorted(graph[module]):
            if other not in order:
                visit(other)
                lowest[module] = min(lowest[module], lowest[other])
            elif other in stack:
                lowest[module] = min(lowest[module], order[other])
        if lowest[module] == order[module]:
            cycle = stack[stack.index(module) :]
            del stack[stack.index(module) :]
            if len(cycle) > 1:
                found.append(" <-> ".join(sorted(cycle)))

    for module in sorted(graph):
        if module not in order:
            visit(module)
    return sorted(found)


def functions(tree: ast.AST, within: str = "") -> Iterator[tuple[str, ast.arguments]]:
    """Yield (qualified name, parameters) of every function below `tree`."""
    for node in ast.iter_child_nodes(tree):
        name = within
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            name = f"{within}{node.name}"
            yield name, node.args
            name += "."
        elif isinstance(node, ast.ClassDef):
            name = f"{within}{node.name}."
        yield from functions(node, name)


def positional_breaches(source: Source) -> list[str]:
    """Return the functions that take more than three parameters by position."""
    found = []
    for name, parameters in functions(source.tree):
        by_position = [
            parameter.arg
            for parameter in [*parameters.posonlyargs, *parameters.args]
            if parameter.arg not in {"self", "cls"}
        ]
        if len(by_position) > PARAMETERS_MAX:
            found.append(f"{source.path}: {name}")
    return found


def shared_class_names(files: Iterable[Source]) -> list[str]:
    """Return the names of public classes that stand for two classes."""
    places = defaultdict(list)
    for source in files:
        for node in source.tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(source.module)
    return [
        f"{name}: {' and '.join(modules)}"
        for name, modules in sorted(places.items())
        if len(modules) > 1
    ]


def banned_words(source: Source) -> list[str]:
    """Return the files and classes that have a name of the private language."""
    name = source.path.rsplit("/", 1)[-1].removesuffix(".py")
    return [source.path for _ in {name} & BANNED_FILES[source.layer]] + [
        f"{source.path}: {node.name}"
        for node in ast.walk(source.tree)
        if isinstance(node, ast.ClassDef) and node.name in BANNED_CLASSES[source.layer]
    ]


def class_name(annotation: ast.expr | None) -> str:
    """Return the name of the class in an annotation: `C`, `"C"` or `C | None`."""
    match annotation:
        case ast.Constant(value=str(text)):
            return class_name(ast.parse(text, mode="eval").body)
        case ast.BinOp(left=left, right=right):
            return class_name(left) or class_name(right)
        case ast.Name(id=name):
            return name
    return ""


def members_used(tree: ast.Module) -> dict[str, set[str]]:
    """Return the members that a module uses of its parameters, by their class.

    A parameter that a method keeps as `self.name` is followed, as is a field of a
    dataclass; what a call returns is not.
    """
    used: dict[str, set[str]] = defaultdict(set)
    owners = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    for owner in [tree, *owners]:
        kept = {
            node.target.id: class_name(node.annotation)
            for node in owner.body
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
        }
        methods = [
            node
            for node in owner.body
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        ]
        for method in methods:
            given = parameter_classes(method.args)
            kept |= kept_parameters(method, given)
            for holder, name, member in members_read(method):
                if not holder and name in given:
                    used[given[name]].add(member)
        for method in methods:
            for holder, name, member in members_read(method):
                if holder == "self" and name in kept:
                    used[kept[name]].add(member)
    return used


def parameter_classes(parameters: ast.arguments) -> dict[str, str]:
    """Return each parameter's class, by the parameter's name."""
    return {
        parameter.arg: class_name(parameter.annotation)
        for parameter in [
            *parameters.posonlyargs,
            *parameters.args,
            *parameters.kwonlyargs,
        ]
    }


def kept_parameters(method: ast.AST, given: dict[str, str]) -> dict[str, str]:
    """Return the class of each `self.attribute` that is set to a parameter as it is."""
    return {
        node.targets[0].attr: given[node.value.id]
        for node in ast.walk(method)
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id in given
    }


def members_read(method: ast.AST) -> Iterator[tuple[str, str, str]]:
    """Yield ("", name, member) of `name.member`, and (holder, name, member)."""
    for node in ast.walk(method):
        match node:
            case ast.Attribute(value=ast.Name(id=name), attr=member):
                yield "", name, member
            case ast.Attribute(
                value=ast.Attribute(value=ast.Name(id=holder), attr=name), attr=member
            ):
                yield holder, name, member


def is_value(node: ast.ClassDef) -> bool:
    """Tell whether a class is a plain value, which is there to be read."""
    frozen = any("frozen=True" in ast.unparse(d) for d in node.decorator_list)
    frozen = frozen or any(
        one.arg == "frozen" and ast.unparse(one.value) == "True"
        for one in node.keywords
    )
    return frozen or any("Struct" in ast.unparse(base) for base in node.bases)


def member_breaches(files: Iterable[Source]) -> list[str]:
    """Return the modules that use too many members of one foreign object."""
    files = list(files)
    objects = {
        node.name
        for source in files
        for node in ast.walk(source.tree)
        if isinstance(node, ast.ClassDef) and not is_value(node)
    }
    found = []
    for source in files:
        own = {n.name for n in ast.walk(source.tree) if isinstance(n, ast.ClassDef)}
        for name, members in sorted(members_used(source.tree).items()):
            if name in objects - own and len(members) > MEMBERS_MAX:
                found.append(f"{source.module} uses {name}")
    return found
