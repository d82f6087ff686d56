"""A command over several targets: it does all it can, and says what it could not do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from msgspec import to_builtins

from node.errors import NodeError
from node.printable import printable

T = TypeVar("T")


@dataclass(slots=True)
class Outcomes(Generic[T]):
    """What became of each target, in order."""

    done: list[T] = field(default_factory=list)
    failed: list[tuple[str, NodeError]] = field(default_factory=list)

    def check(self, result: object) -> None:
        """Raise NodeError if a target failed; `result` is about the others.

        Where nothing was done and all failed alike, the exit code says why; where some
        was done, it is 1.
        """
        if not self.failed:
            return
        target, first = self.failed[0]
        count = len(self.done) + len(self.failed)
        if count == 1:
            raise first
        sentence = str(first).rstrip(".")
        if printable(target) not in sentence:
            sentence = f"{printable(target)}: {sentence}"
        error = NodeError(
            f"{len(self.failed)} of {count} failed: {sentence}"
            + ("; the rest is done" if self.done else ""),
            details=self._details(result),
        )
        codes = {one.exit_code for _, one in self.failed}
        error.exit_code = codes.pop() if len(codes) == 1 and not self.done else 1
        raise error

    def _details(self, result: object) -> dict[str, Any]:
        said = [
            {"target": printable(target), "error": str(error)}
            for target, error in self.failed
        ]
        return {**to_builtins(result), "failed": said}


async def do_each(
    targets: Sequence[str], work: Callable[[str], Awaitable[T]]
) -> Outcomes[T]:
    """Do work for each target, one after the other, whatever becomes of the others."""
    outcomes: Outcomes[T] = Outcomes()
    for target in targets:
        try:
            outcomes.done.append(await work(target))
        except NodeError as error:
            outcomes.failed.append((target, error))
    return outcomes
