"""A network of DHT nodes on loopback, in processes of their own.

One line of JSON on stdin is a question and one on stdout its answer: the keys to be
looked up, in hex, and how many of them were found. It ends at the end of stdin. The
nodes verify no signatures of slices: hundreds of them share the processors here, with
the node that is measured.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from typing import Any, Self

import uvloop

from dht import Address, Dht
from tests.dht.builders import private_key

HERE = Address("127.0.0.1", 0)


class DhtNetwork:
    """The processes, from outside."""

    def __init__(self, nodes: int, processes: int) -> None:
        """Start so many nodes, dealt out to so many processes."""
        self.address = ""
        self._running: list[subprocess.Popen[str]] = []
        for number in range(processes):
            first = nodes * number // processes
            count = nodes * (number + 1) // processes - first
            command = [sys.executable, "-m", __name__, str(first), str(count)]
            process = subprocess.Popen(
                [*command, self.address],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            self._running.append(process)
            said = self._line(process)
            self.address = self.address or said["address"]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._running:
            process.communicate()

    def ask(self, question: dict[str, Any]) -> dict[str, Any]:
        """Let the last process answer a question."""
        process = self._running[-1]
        assert process.stdin is not None
        process.stdin.write(json.dumps(question) + "\n")
        process.stdin.flush()
        return self._line(process)

    @property
    def pids(self) -> list[int]:
        """The processes' ids."""
        return [process.pid for process in self._running]

    @staticmethod
    def _line(process: subprocess.Popen[str]) -> dict[str, Any]:
        assert process.stdout is not None
        answer: dict[str, Any] = json.loads(process.stdout.readline())
        return answer


def _take_for_true(public_key: bytes, signature: bytes, message: bytes) -> bool:
    del public_key, signature, message
    return True


async def _serve(first: int, count: int, contact: str) -> None:
    nodes = [
        Dht(private_key(10_000 + first + n), verify=_take_for_true)
        for n in range(count)
    ]
    loop = asyncio.get_running_loop()
    try:
        for number, node in enumerate(nodes):
            await node.start([HERE])
            known = [str(nodes[0].addresses[0])] if number else []
            await node.join([*known, *([contact] if contact else [])])
        print(json.dumps({"address": str(nodes[0].addresses[0])}), flush=True)
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            found, kept = 0, [node.stats()["kept.provider_bytes"] for node in nodes]
            for number, key in enumerate(json.loads(line)["keys"]):
                asker = nodes[number % len(nodes)]
                async for _ in asker.find_providers(bytes.fromhex(key)):
                    found += 1
                    break
            print(json.dumps({"found": found, "kept_bytes": max(kept)}), flush=True)
    finally:
        await asyncio.gather(*(node.close() for node in nodes))


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]))
