"""The package `caravan`: the command line, and the layers under one name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import caravan
import dht
import node
import transfer

ROOT = Path(__file__).resolve().parents[1]


def test_python_runs_the_command_line_by_its_package():
    done = subprocess.run(
        [sys.executable, "-m", "caravan", "--version"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert done.stdout.startswith("caravan ")


@pytest.mark.parametrize("layer", [dht, transfer, node])
def test_a_layer_is_the_same_module_under_both_names(layer):
    assert getattr(caravan, layer.__name__) is layer


def test_other_names_are_not_there():
    with pytest.raises(AttributeError, match="frobnicate"):
        caravan.frobnicate  # noqa: B018
