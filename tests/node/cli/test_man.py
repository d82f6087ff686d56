"""Every command has a man page that is shipped, with all of its options."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from node.cli.man import pages
from tests.node.cli.terminals import ROOT

FOLDER = ROOT / "docs/man"


def test_the_shipped_pages_are_made_from_the_help():
    shipped = {path.name: path.read_text("utf-8") for path in FOLDER.glob("*.1")}
    assert shipped == pages(), "write them again: python -m node.cli.man docs/man"


@pytest.mark.skipif(shutil.which("man") is None, reason="there is no man here")
def test_a_page_is_read_without_a_warning():
    done = subprocess.run(
        ["man", "--warnings", "-E", "UTF-8", "-l", str(FOLDER / "caravan-fetch.1")],
        env={"PATH": "/usr/bin:/bin", "MANPAGER": "cat", "LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stderr == ""
    assert "--no-dependencies" in done.stdout


def test_installers_put_the_pages_where_man_looks():
    text = (ROOT / "setup.cfg").read_text("utf-8")
    assert "share/man/man1 = docs/man/*.1" in text
