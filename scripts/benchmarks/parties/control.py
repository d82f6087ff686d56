"""The leading side of a transfer benchmark: parties, a web server, payloads."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

Document = dict[str, Any]
PARTY = Path(__file__).with_name("party.py")
MIB = 1024 * 1024


class Party:
    """A process that seeds or fetches, and says what that cost."""

    def __init__(
        self, role: str, *, within: Sequence[str] = (), **options: Any
    ) -> None:
        """`within` is a command that runs others, in a network namespace perhaps."""
        self._process = subprocess.Popen(
            [*within, sys.executable, str(PARTY), role, json.dumps(options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._requests, self._answers = self._process.stdin, self._process.stdout
        self.ready: Document = self.answer()
        self._cpu: float = self.usage()["cpu"]

    @property
    def peer(self) -> list[Any]:
        peer: list[Any] = self.ready["peer"]
        return peer

    def request(self, do: str, **what: Any) -> None:
        self._requests.write(json.dumps({"do": do, **what}) + "\n")
        self._requests.flush()

    def answer(self) -> Document:
        line = self._answers.readline()
        if not line:
            raise SystemExit("a party of the benchmark died; its error is above")
        document: Document = json.loads(line)
        return document

    def fetch(self, **what: Any) -> Document:
        self.request("fetch", **what)
        return self.answer()

    def usage(self) -> Document:
        self.request("usage")
        return self.answer()

    def cpu_since_start(self) -> float:
        """Return the seconds of CPU that were used since it was ready."""
        return float(self.usage()["cpu"]) - self._cpu

    @property
    def is_alive(self) -> bool:
        """Whether it can be asked."""
        return self._process.poll() is None

    def kill(self) -> None:
        """End it as a power cut would."""
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        self._requests.close()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._answers.close()


@contextlib.contextmanager
def parties() -> Iterator[list[Party]]:
    """Give a list; whatever is in it at the end is stopped."""
    running: list[Party] = []
    try:
        yield running
    finally:
        for party in running:
            party.close()


class Nginx:
    """A web server of one worker, on loopback or elsewhere, with its own settings."""

    def __init__(
        self,
        folder: Path,
        root: Path,
        *,
        at: tuple[str, int] | None = None,
        within: Sequence[str] = (),
    ) -> None:
        host, port = at or ("127.0.0.1", _free_port())
        self.url = f"http://{host}:{port}"
        folder.mkdir()
        self._pid_file = folder / "pid"
        config = folder / "nginx.conf"
        temp = "".join(
            f"{kind}_temp_path {folder}/{kind};\n"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        config.write_text(
            f"daemon off; worker_processes 1; pid {folder}/pid; error_log stderr;\n"
            "events { worker_connections 1024; }\n"
            f"http {{ access_log off; sendfile on; tcp_nopush on; {temp}"
            "keepalive_requests 1000000;\n"
            f"server {{ listen {host}:{port}; root {root}; }} }}\n"
        )
        # The payload may lie where only the one who runs this can read it.
        user = f"user {os.environ.get('USER', 'root')};" if os.getuid() == 0 else ""
        self._process = subprocess.Popen(
            [*within, "nginx", "-p", str(folder), "-c", str(config), "-g", user],
            stderr=subprocess.DEVNULL,
        )
        self._wait_until_it_listens()

    def cpu(self) -> float:
        """Return the seconds of CPU that it and its worker have used."""
        master = Path(f"/proc/{self._process.pid}")
        children = (master / f"task/{master.name}/children").read_text().split()
        return sum(cpu_seconds(pid) for pid in [master.name, *children])

    def close(self) -> None:
        self._process.terminate()
        self._process.wait()

    def _wait_until_it_listens(self) -> None:
        end = time.monotonic() + 10
        while time.monotonic() < end:
            if self._pid_file.exists() and self._pid_file.read_text().strip():
                return  # written after the socket is bound
            time.sleep(0.01)
        self.close()
        raise SystemExit("nginx does not start")


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
    return port


def cpu_seconds(pid: str) -> float:
    """Return the processor time that a process has used, by proc_pid_stat(5)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / float(os.sysconf("SC_CLK_TCK"))


def curl_and_openssl(url: str, digest: str, target: Path) -> Document:
    """Fetch a file, then verify it; as a shell script would."""
    began = time.monotonic()
    cpu = peak = 0.0
    commands = (
        ["curl", "-s", "-f", "-o", str(target), url],
        ["openssl", "dgst", "-sha256", "-r", str(target)],
    )
    for command in commands:
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert process.stdout is not None
        output = process.stdout.read()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        process.stdout.close()
        if process.returncode:
            raise SystemExit(f"{command[0]} failed")
        cpu += used.ru_utime + used.ru_stime
        peak = max(peak, used.ru_maxrss * 1024)
    seconds = time.monotonic() - began
    if output.split()[0].decode() != digest:
        raise SystemExit("curl fetched other bytes")
    return {"seconds": seconds, "cpu": cpu, "peak": peak}


def absent_peers() -> dict[str, str]:
    """Return which peers cannot be measured here, and why."""
    absent = {}
    if importlib.util.find_spec("libtorrent") is None:
        absent["libtorrent"] = "the wheel is not installed (pip install libtorrent)"
    tools = [name for name in ("nginx", "curl", "openssl") if not shutil.which(name)]
    if tools:
        missing = ", ".join(tools)
        absent["curl"] = f"{missing} not installed (apt-get install nginx-light curl)"
    return absent


def make_payload(path: Path, size: int) -> str:
    """Write `size` random bytes; return their SHA-256 in hex."""
    state = hashlib.sha256()
    with path.open("wb") as file:
        while size:
            part = os.urandom(min(size, 4 * MIB))
            file.write(part)
            state.update(part)
            size -= len(part)
    return state.hexdigest()


def make_torrent(payload: Path, target: Path) -> None:
    """Write a version 1 torrent file of one payload."""
    import libtorrent

    files = libtorrent.file_storage()
    libtorrent.add_files(files, str(payload))
    flags = libtorrent.create_torrent.v1_only
    torrent = libtorrent.create_torrent(files, 0, flags)
    libtorrent.set_piece_hashes(torrent, str(payload.parent))
    target.write_bytes(libtorrent.bencode(torrent.generate()))


def load() -> float:
    """Return how many processes waited for a processor in the last minute."""
    return os.getloadavg()[0]
