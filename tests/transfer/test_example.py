"""The example in docs/transfer.md runs as it stands there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "transfer.md"


def test_the_example_works(tmp_path):
    """Two stores, one file, a copy with the same bytes."""
    (program,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    copy = (tmp_path / "copy.txt").read_bytes()
    assert copy == (tmp_path / "hello.txt").read_bytes()
    assert f"{len(copy)} of {len(copy)} bytes" in done.stdout
