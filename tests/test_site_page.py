"""docs/site.md: its files can be read, and say what `connect --site` says.

The recipes marked `sh` are run in tests/end_to_end/test_site_recipes.py.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from node.gateway.ecosystems import environment_at, recipe_at, tools

SITE = "http://cache.lab:4749"
PAGE = (Path(__file__).parents[1] / "docs/site.md").read_text()
TOOLS = PAGE.partition("\n## Point the tools at it\n")[2].partition("\n## ")[0]
_BLOCK = re.compile(r"^([A-Za-z`].*):\n\n```(\w+)\n((?:.*\n)*?)```$", re.MULTILINE)
_URL = re.compile(r"https?://[^\s\"]+")
_EXPORT = re.compile(r"^export (.+)$", re.MULTILINE)
# What a tool needs beyond the address, for a reader who has no configuration file.
MORE = {"npm_config_omit_lockfile_registry_resolved": "true"}
INSTRUCTIONS = {"FROM", "ARG", "COPY", "RUN"}
TOOL_OF = {"yarn 1": "yarn", "yarn 2 and later": "yarn-berry"}


def block(start: str, kind: str) -> str:
    """Return the one block whose sentence before it starts so."""
    found = [
        text
        for sentence, language, text in _BLOCK.findall(PAGE)
        if language == kind and sentence.startswith(start)
    ]
    (text,) = found or [""]
    assert text, f"no block of {kind} after {start!r}"
    return str(text)


def check(variables: dict[str, str]) -> None:
    """Check that every variable is what `connect` says."""
    assert variables
    known = environment_at(Path(), SITE) | MORE
    for name, text in variables.items():
        assert known.get(name) == text, name


def test_the_workflow_of_github_and_forgejo():
    document = yaml.safe_load(block("GitHub Actions and Forgejo", "yaml"))
    assert {"name", "env", "jobs"} < document.keys()
    check(document["env"])
    for job in document["jobs"].values():
        assert job["runs-on"]
        assert all({"uses", "run"} & step.keys() for step in job["steps"])


def test_the_pipeline_of_gitlab():
    document = yaml.safe_load(block("GitLab CI", "yaml"))
    check(document.pop("variables"))
    assert document
    for job in document.values():
        assert all(isinstance(line, str) for line in job["script"])


def test_the_pipeline_of_woodpecker():
    document = yaml.safe_load(block("Woodpecker", "yaml"))
    for step in document["steps"]:
        assert {"name", "image", "environment", "commands"} == step.keys()
        check(step["environment"])


def test_the_pipeline_of_jenkins():
    """Its blocks nest, and its environment is one of assignments."""
    text = block("Jenkins", "groovy")
    depth, inside = 0, []
    for line in map(str.strip, text.splitlines()):
        assert line.count("'") % 2 == 0, line
        depth += line.count("{") - line.count("}")
        assert depth >= 0
        if re.fullmatch(r"\w+ = '[^']+'", line):
            name, _, value = line.partition(" = ")
            inside.append((name, value.strip("'")))
    assert depth == 0
    assert text.startswith("pipeline {")
    check(dict(inside))


def test_the_containerfile_declares_what_it_is_given():
    text = block("`RUN`, and it does not stay", "dockerfile")
    words = [line.split() for line in text.splitlines()]
    assert {line[0] for line in words} == INSTRUCTIONS
    declared = {name for line in words if line[0] == "ARG" for name in line[1:]}
    assert declared <= environment_at(Path(), SITE).keys()
    given = dict(re.findall(r"--build-arg (\w+)=(\S+)", PAGE))
    assert given.keys() <= declared
    check(given)


@pytest.mark.parametrize("name", re.findall(r"^### (.+)$", TOOLS, re.MULTILINE))
def test_a_recipe_sets_what_connect_says(name):
    section = TOOLS.partition(f"### {name}\n")[2].partition("\n### ")[0]
    made = recipe_at(TOOL_OF.get(name, name), Path(), SITE)
    lines = " ".join(_EXPORT.findall(section)).split()
    said = dict(word.split("=", 1) for word in lines)
    assert said.keys() - MORE.keys() == made.environment.keys()
    if said:
        check(said)
        return
    urls = _URL.findall(made.lines)
    assert urls
    assert all(url in section for url in urls)


def test_every_tool_has_a_recipe():
    named = set(re.findall(r"^### (.+)$", TOOLS, re.MULTILINE))
    assert {TOOL_OF.get(name, name) for name in named} == tools().keys()
