"""Another machine on a private network: a network namespace cabled to this one."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

HERE = "10.213.7.1"
THERE = "10.213.7.2"


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A namespace: what runs in it sees this machine at `HERE`, and nothing else."""

    name: str

    def command(self, *command: str) -> list[str]:
        """Return the command that runs `command` over there."""
        return ["ip", "netns", "exec", self.name, *command]


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, timeout=20)


@contextmanager
def neighbour() -> Iterator[Neighbour]:
    """Make the namespace, and remove it whatever happens.

    Skip where namespaces cannot be made; under CI that is a failure.
    """
    name, link = f"caravan-{os.getpid()}", f"cv{os.getpid() % 1_000_000}"
    try:
        _ip("netns", "add", name)
    except (OSError, subprocess.CalledProcessError) as error:
        if os.environ.get("CI"):
            pytest.fail(f"network namespaces must work here: {error}")
        pytest.skip(f"network namespaces cannot be made here: {error}")
    try:
        _ip("link", "add", link, "type", "veth", "peer", "name", "lan", "netns", name)
        _ip("addr", "add", f"{HERE}/24", "dev", link)
        _ip("link", "set", link, "up")
        _ip("-n", name, "addr", "add", f"{THERE}/24", "dev", "lan")
        _ip("-n", name, "link", "set", "lan", "up")
        _ip("-n", name, "link", "set", "lo", "up")
        yield Neighbour(name)
    finally:
        subprocess.run(["ip", "link", "del", link], check=False, capture_output=True)
        subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)
