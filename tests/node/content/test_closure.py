"""A closure brings all once, and stops at its bounds before it downloads more."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from node.content.closure import NO_LIMITS, ClosureLimits, Closures
from node.content.fetcher import Fetched, WantedFile
from node.errors import NodeError
from node.model.packages import ArtifactEntry, Dependency
from node.settings import Settings
from tests.node.publishers import Believer, FakeFetcher, digest, package
from transfer import Artifact, Digest

MIB = 1024 * 1024


class Library(FakeFetcher):
    """Peers that have everything; it notes what is downloaded of them."""

    def __init__(self) -> None:
        super().__init__()
        self.here: set[str] = set()
        self.asked: list[WantedFile] = []
        self.sizes: dict[str, int] = {}

    async def held(self, wanted: Iterable[Digest]) -> dict[Digest, Artifact]:
        return {
            one: Artifact(one, 1, bytes(32)) for one in wanted if str(one) in self.here
        }

    async def together(self, wanted: Any, progress: Any) -> dict[Digest, Fetched]:
        return {}  # each is left to a download of its own

    async def read_many(self, artifacts: Iterable[Artifact]) -> dict[Digest, Any]:
        return {}

    async def package(self, wanted: Digest, progress: Any) -> Any:
        made, _ = await super().package(wanted, progress)
        return made, Fetched(Artifact(wanted, 1, bytes(32)), "", 0.0, ())

    async def artifact(self, wanted: WantedFile, _progress: Any) -> Fetched:
        self.asked.append(wanted)
        size = wanted.size or self.sizes.get(str(wanted.digest), 1)
        artifact = Artifact(wanted.digest, size, bytes(32))
        return Fetched(artifact, wanted.file, 0.0, (("127.0.0.1:1", size),))

    def publish(self, number: int, *needs: str, size: int = 1, **more: Any) -> str:
        """Add a package with one file of its own; returns its digest."""
        entry = ArtifactEntry(f"{number}.bin", size, digest(number), "ab" * 32)
        needed = [Dependency("package", one) for one in needs]
        return self.add(
            package(
                name=f"p{number}",
                artifacts=[entry],
                dependencies=needed + more.pop("artifacts", []),
            )
        )

    def chain(self, length: int) -> str:
        """Add packages that need each other in a row; returns the first."""
        last = self.publish(length)
        for number in reversed(range(1, length)):
            last = self.publish(number, last)
        return last


class Home:
    """A library, and the closures of one node."""

    def __init__(self, **limits: int | None) -> None:
        self.library = Library()
        self.catalogue = Believer().catalogue
        fetcher: Any = self.library
        unbounded = {"packages": None, "bytes": None, "depth": None}
        self.closures = Closures(
            fetcher, self.catalogue, ClosureLimits(**{**unbounded, **limits})
        )

    async def bring(self, root: str, **options: Any) -> list[Fetched]:
        closure = self.closures.new(lambda _event: None, **options)
        await closure.bring([], [Digest.parse(root)])
        return closure.artifacts_of(Digest.parse(root))


async def test_everything_is_brought_once():
    home = Home()
    shared = home.library.publish(9)
    left, right = home.library.publish(1, shared), home.library.publish(2, shared)
    root = home.library.publish(3, left, right)
    brought = await home.bring(root)
    assert {one.file for one in brought} == {"3.bin", "1.bin", "2.bin", "9.bin"}
    assert len(home.library.asked) == 4
    assert len(home.catalogue.packages()) == 4


@pytest.mark.parametrize(
    ("limits", "fits", "exceeds"),
    [
        ({"packages": 5}, 5, 6),
        ({"depth": 7}, 7, 8),
        ({"packages": 5, "depth": 7}, 5, 6),
    ],
)
async def test_it_stops_at_the_bounds_of_packages_and_depth(limits, fits, exceeds):
    """Nothing is held of what was refused, and --yes brings it all the same."""
    home = Home(**limits)
    assert len(await home.bring(home.library.chain(fits))) == fits
    home = Home(**limits)
    root = home.library.chain(exceeds)
    with pytest.raises(NodeError, match="--yes"):
        await home.bring(root)
    assert home.catalogue.packages() == []
    assert len(await home.bring(root, bounded=False)) == exceeds


async def test_a_thousand_dependencies_of_one_package_are_counted_before_any_is_asked():
    home = Home(packages=100)
    needs = [home.library.publish(number) for number in range(1, 200)]
    root = home.library.publish(1000, *needs)
    with pytest.raises(NodeError, match="more than 100 packages"):
        await home.bring(root)
    assert len(home.library.asked) <= 1


async def test_bytes_are_counted_before_they_come_and_only_what_is_not_held():
    home = Home(bytes=10 * MIB)
    small = home.library.publish(1, size=6 * MIB)
    root = home.library.publish(2, small, size=6 * MIB)
    with pytest.raises(NodeError, match="bytes"):
        await home.bring(root)
    assert sum(one.size or 0 for one in home.library.asked) <= 10 * MIB
    home.library.here.add(digest(1))
    assert len(await home.bring(root)) == 2


async def test_a_dependency_of_unknown_size_gets_what_is_left():
    home = Home(bytes=10 * MIB)
    need = Dependency("artifact", digest(50), "data.bin")
    root = home.library.publish(1, size=4 * MIB, artifacts=[need])
    await home.bring(root)
    (asked,) = [one for one in home.library.asked if one.size is None]
    assert asked.size_max == 6 * MIB
    home.library.sizes[digest(50)] = 7 * MIB
    with pytest.raises(NodeError, match="bytes"):
        await home.bring(root)


def test_the_usual_bounds_are_settings():
    """What people set is what counts, and the defaults are the same in both."""
    settings, limits = Settings(Path()), ClosureLimits()
    assert settings.closure_packages == limits.packages
    assert settings.closure_bytes == limits.bytes
    assert settings.closure_depth == limits.depth
    assert NO_LIMITS.packages is None
