"""The deployment files of docs/deploy: readable, and true of the program."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from node.cli.run import caravan
from node.settings.site import site_variables
from node.web.metrics import Metrics
from tests.node.doors import STATUS

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "deploy"


def join_options() -> set[str]:
    """Return the options of `caravan join`."""
    context = caravan.make_context("caravan", ["--help"], resilient_parsing=True)
    join = caravan.get_command(context, "join")
    assert join is not None
    return {option for parameter in join.params for option in parameter.opts}


def check_arguments(arguments: list[str]) -> None:
    assert arguments[0] == "join"
    options = {one for one in arguments if one.startswith("--")}
    assert options <= join_options()


def test_compose_starts_nodes_that_a_client_may_use():
    services = yaml.safe_load((FOLDER / "compose.yaml").read_text())["services"]
    for name in ("first", "second"):
        check_arguments(services[name]["command"])
    assert services["first"]["environment"].keys() <= site_variables("CARAVAN_")
    client = services["client"]["environment"]
    assert client["PIP_INDEX_URL"] == "http://first:4749/pypi/simple/"
    assert services["first"]["environment"]["CARAVAN_SITE_HOSTS"] == "first"


def test_the_daemonset_runs_one_node_on_each_machine():
    manifest = yaml.safe_load((FOLDER / "daemonset.yaml").read_text())
    assert manifest["kind"] == "DaemonSet"
    (container,) = manifest["spec"]["template"]["spec"]["containers"]
    check_arguments(container["args"])
    ports = {one["name"]: one["containerPort"] for one in container["ports"]}
    assert container["readinessProbe"]["httpGet"]["port"] in ports
    labels = manifest["spec"]["template"]["metadata"]["labels"]
    assert manifest["spec"]["selector"]["matchLabels"].items() <= labels.items()


def test_the_image_starts_a_command_that_exists():
    text = (FOLDER / "Containerfile").read_text()
    (command,) = re.findall(r"^CMD (.*)$", text, re.MULTILINE)
    check_arguments(json.loads(command))


def test_the_board_asks_for_metrics_that_there_are():
    metrics = Metrics()
    metrics.observe("store", 0.1)
    text = metrics.render(STATUS).decode()
    known = set(re.findall(r"^# TYPE (\w+)", text, re.MULTILINE))
    board = json.loads((FOLDER / "grafana.json").read_text())
    asked = {
        name.removesuffix("_bucket")
        for panel in board["panels"]
        for target in panel["targets"]
        for name in re.findall(r"caravan_\w+", target["expr"])
    }
    assert asked
    assert asked <= known


@pytest.mark.parametrize("path", sorted(FOLDER.iterdir()), ids=lambda path: path.name)
def test_no_file_is_left_out_of_the_page(path):
    page = (FOLDER.parent / "site.md").read_text()
    assert f"deploy/{path.name}" in page
