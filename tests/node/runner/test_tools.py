"""Package managers are pointed at a gateway by environment and arguments only."""

from __future__ import annotations

import pytest

from node.runner.tools import command_for, environment_for

GATEWAY = "http://127.0.0.1:4000"


def test_every_tool_is_pointed_at_the_gateway():
    changed = environment_for(GATEWAY, {"PATH": "/bin"})
    assert changed["PATH"] == "/bin"
    assert changed["PIP_INDEX_URL"] == f"{GATEWAY}/pypi/simple/"
    assert changed["UV_DEFAULT_INDEX"] == f"{GATEWAY}/pypi/simple/"
    assert changed["npm_config_registry"] == f"{GATEWAY}/npm/"
    assert changed["YARN_NPM_REGISTRY_SERVER"] == f"{GATEWAY}/npm"


def test_the_given_environment_is_not_changed():
    given = {"PIP_INDEX_URL": "https://index.test/", "UV_INDEX_URL": "https://old.test"}
    changed = environment_for(GATEWAY, given)
    assert given["PIP_INDEX_URL"] == "https://index.test/"
    assert "UV_INDEX_URL" not in changed, "uv would warn of two settings"


def test_a_proxy_is_not_asked_for_loopback():
    changed = environment_for(GATEWAY, {"NO_PROXY": "lab.test", "HTTP_PROXY": "x"})
    assert changed["NO_PROXY"] == "lab.test,127.0.0.1,localhost"
    assert changed["no_proxy"] == "127.0.0.1,localhost"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["/usr/bin/cargo", "build"], ["/usr/bin/cargo", "CONFIG", "build"]),
        (["cargo", "+1.80", "build"], ["cargo", "+1.80", "CONFIG", "build"]),
        (["pip", "install", "cargo"], ["pip", "install", "cargo"]),
    ],
)
def test_cargo_takes_arguments_before_its_command(given, expected):
    made = command_for(GATEWAY, given)
    configured = [
        "--config", 'source.crates-io.replace-with="caravan"',
        "--config", f'source.caravan.registry="sparse+{GATEWAY}/cargo/index/"',
    ]  # fmt: skip
    assert made == [
        word for one in expected for word in (configured if one == "CONFIG" else [one])
    ]
