"""One party of a transfer benchmark, in a process of its own, led over a pipe.

    python scripts/benchmarks/parties/party.py ROLE OPTIONS

Each line of standard input is a request in JSON, each line of standard output its
answer. Loading modules and starting up happen before the first answer, off the clock.
"""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import json
import resource
import socket
import sys
import time
from pathlib import Path
from typing import Any

Document = dict[str, Any]
LATENESS_TICK_SECONDS = 0.002


def peak_bytes() -> int:
    """Return the most memory this process has had, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def usage() -> Document:
    """Return what this process has used so far."""
    return {"cpu": time.process_time(), "peak": peak_bytes()}


class Caravan:
    """A node's transfer layer: a store with both ends of the wire."""

    def __init__(self, options: Document) -> None:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        from transfer import (
            Identity,
            Leecher,
            LeecherLimits,
            Seeder,
            SeederLimits,
            Store,
        )

        self.store = Store(Path(options["folder"]))
        self.identity = Identity(Ed25519PrivateKey.generate())
        tls = bool(options.get("tls"))
        limits = SeederLimits(bytes_per_second=options.get("up"))
        if options.get("paced"):
            limits = dataclasses.replace(limits, near_seconds=0.0)
        self.seeder = Seeder(
            self.store,
            self.identity,
            encryption=tls,
            limits=limits,
        )
        self.listener = socket.create_server((options.get("host", "127.0.0.1"), 0))
        self.leecher = Leecher(
            self.store,
            self.identity,
            encryption=tls,
            limits=LeecherLimits(),
            port=self.listener.getsockname()[1],
        )
        self._lateness: list[float] = []

    async def start(self, options: Document) -> Document:
        files = options.get("files", [])
        digests = [str(self.store.add(Path(file)).digest) for file in files]
        await self.seeder.start([self.listener])
        host, port = self.listener.getsockname()[:2]
        return {"peer": [host, port, self.identity.public_key.hex()], "have": digests}

    async def fetch(self, request: Document) -> Document:
        from transfer import Digest, Peer

        peers = [Peer(h, p, bytes.fromhex(key)) for h, p, key in request["peers"]]
        digests = [Digest.parse(text) for text in request["digests"]]
        timer = asyncio.create_task(self._watch()) if request.get("watch") else None
        slots = asyncio.Semaphore(request.get("at_once", 1))

        async def one(digest: Digest) -> None:
            async with slots:
                await self.leecher.download(digest, peers)

        cpu, began = time.process_time(), time.monotonic()
        await asyncio.gather(*map(one, digests))
        seconds = time.monotonic() - began
        answer = {"seconds": seconds, "cpu": time.process_time() - cpu}
        if timer is not None:
            timer.cancel()
            late = sorted(self._lateness)
            answer["late_p50"] = late[len(late) // 2]
            answer["late_p99"] = late[int(0.99 * len(late))]
            answer["late_max"] = late[-1]
        return answer | {"peak": peak_bytes(), "at": time.monotonic()}

    async def _watch(self) -> None:
        """Note how late a timer of this loop fires, as the DHT would see it."""
        while True:
            due = time.monotonic() + LATENESS_TICK_SECONDS
            await asyncio.sleep(LATENESS_TICK_SECONDS)
            self._lateness.append(time.monotonic() - due)

    def counts(self) -> Document:
        return {"bytes_sent": self.seeder.stats.bytes_sent}

    async def stop(self) -> None:
        await self.leecher.close()
        await self.seeder.close()
        self.store.close()


class Torrent:
    """A libtorrent session with one torrent; TCP on loopback and nothing else."""

    def __init__(self, options: Document) -> None:
        import libtorrent

        self._lt = libtorrent
        self._folder = options["folder"]
        self._seeding = bool(options.get("files"))
        settings: Document = {}
        if options.get("tuned"):
            settings |= libtorrent.high_performance_seed()
            settings |= _TUNED
        settings |= {
            "listen_interfaces": f"{options.get('host', '127.0.0.1')}:0",
            "enable_dht": False,
            "enable_lsd": False,
            "enable_upnp": False,
            "enable_natpmp": False,
            "enable_outgoing_utp": False,
            "enable_incoming_utp": False,
            "allow_multiple_connections_per_ip": True,
            "alert_mask": libtorrent.alert.category_t.status_notification,
        }
        known = libtorrent.default_settings()
        settings = {name: value for name, value in settings.items() if name in known}
        self._session = libtorrent.session(settings)
        self._up = options.get("up")
        self._info = libtorrent.torrent_info(options["torrent"])
        self._handle: Any = None

    async def start(self, options: Document) -> Document:
        if self._seeding:
            params = self._lt.add_torrent_params()
            params.ti = self._info
            params.save_path = str(Path(options["files"][0]).parent)
            params.flags |= self._lt.torrent_flags.seed_mode
            self._handle = self._add(params)
            while not self._handle.status().is_seeding:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        while not self._session.listen_port():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        host = options.get("host", "127.0.0.1")
        return {"peer": [host, self._session.listen_port(), ""]}

    async def fetch(self, request: Document) -> Document:
        cpu, began = time.process_time(), time.monotonic()
        params = self._lt.add_torrent_params()
        params.ti = self._info
        params.save_path = self._folder
        self._handle = self._add(params)
        for host, port, _ in request["peers"]:
            self._handle.connect_peer((host, port))
        while not self._finished():
            self._session.wait_for_alert(50)
        seconds = time.monotonic() - began
        return {
            "seconds": seconds,
            "cpu": time.process_time() - cpu,
            "peak": peak_bytes(),
            "at": time.monotonic(),
        }

    def _add(self, params: Any) -> Any:
        handle = self._session.add_torrent(params)
        if self._up:
            handle.set_upload_limit(self._up)  # holds on loopback as well
        return handle

    def _finished(self) -> bool:
        alerts = self._session.pop_alerts()
        finished = self._lt.torrent_finished_alert
        return any(isinstance(alert, finished) for alert in alerts)

    def counts(self) -> Document:
        return {}

    async def stop(self) -> None:
        if self._handle is not None:
            self._session.remove_torrent(self._handle)


_TUNED = {
    "aio_threads": 4,
    "hashing_threads": 2,
    "max_out_request_queue": 4000,
    "max_allowed_in_request_queue": 8000,
    "request_queue_time": 10,
    "send_buffer_watermark": 16 * 1024 * 1024,
    "send_buffer_low_watermark": 1024 * 1024,
    "send_buffer_watermark_factor": 150,
    "max_queued_disk_bytes": 64 * 1024 * 1024,
    "out_enc_policy": 2,
    "in_enc_policy": 2,
}


class WebClient:
    """aiohttp's client with warm connections: fetch, verify, write a fresh file."""

    def __init__(self, options: Document) -> None:
        import aiohttp

        self._aiohttp = aiohttp
        self._folder = Path(options["folder"])

    async def start(self, options: Document) -> Document:
        connector = self._aiohttp.TCPConnector(limit=options["at_once"])
        self._session = self._aiohttp.ClientSession(connector=connector)
        return {}

    async def fetch(self, request: Document) -> Document:
        slots = asyncio.Semaphore(request["at_once"])
        target = self._folder / str(time.monotonic_ns())
        target.mkdir(parents=True)

        async def one(digest: str) -> None:
            async with (
                slots,
                self._session.get(f"{request['url']}/{digest}") as answer,
            ):
                data = await answer.read()
            if hashlib.sha256(data).hexdigest() != digest:
                raise ValueError("wrong bytes")
            (target / digest).write_bytes(data)

        cpu, began = time.process_time(), time.monotonic()
        await asyncio.gather(*map(one, request["digests"]))
        seconds = time.monotonic() - began
        cpu = time.process_time() - cpu
        return {"seconds": seconds, "cpu": cpu, "peak": peak_bytes()}

    def counts(self) -> Document:
        return {}

    async def stop(self) -> None:
        await self._session.close()


ROLES: dict[str, Any] = {
    "caravan": Caravan,
    "libtorrent": Torrent,
    "aiohttp": WebClient,
}


async def main() -> None:
    role, options = sys.argv[1], json.loads(sys.argv[2])
    party = ROLES[role](options)
    answer(await party.start(options))
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        request = json.loads(line)
        if request["do"] == "fetch":
            answer(await party.fetch(request))
        else:
            answer(usage() | party.counts())
    await party.stop()


def answer(document: Document) -> None:
    print(json.dumps(document), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
