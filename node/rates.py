"""The command `limit`: how fast a running node sends and receives."""

from __future__ import annotations

from node import commands, results
from node.commands import Progress
from node.errors import UsageError
from transfer import Leecher, Seeder


class Rates:
    """Changes the rates of a seeder and a leecher."""

    def __init__(self, seeder: Seeder, leecher: Leecher) -> None:
        self._seeder = seeder
        self._leecher = leecher

    async def limit(
        self, command: commands.LimitCommand, _progress: Progress
    ) -> results.LimitResult:
        """Change the rates of transfers under way and of later ones."""
        upload, download = (
            command.upload_bytes_per_second,
            command.download_bytes_per_second,
        )
        if any(rate is not None and rate < 1 for rate in (upload, download)):
            raise UsageError("expected a rate of at least 1 byte per second, or none")
        self._seeder.rate.set_rate(upload)
        self._leecher.rate.set_rate(download)
        return results.LimitResult(
            upload_bytes_per_second=upload, download_bytes_per_second=download
        )
