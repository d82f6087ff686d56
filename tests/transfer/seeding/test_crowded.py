"""A thousand connections at once where the process may open 64 files."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

from tests.crowd import crowd
from transfer import Peer

DATA = os.urandom(300_000)
PROGRAM = """
    import asyncio, logging, resource, socket, sys
    from pathlib import Path
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from transfer import Identity, Seeder, Store

    async def main():
        logging.basicConfig(stream=sys.stderr, level=logging.INFO)
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        store = Store(Path(sys.argv[1]))
        store.add(Path(sys.argv[2]))
        seeder = Seeder(store, Identity(Ed25519PrivateKey.generate()), encryption=False)
        listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        await seeder.start([listener])
        print(listener.getsockname()[1], flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
        print(sum(seeder.stats.refused.values()), flush=True)
        await seeder.close()
        store.close()

    asyncio.run(main())
"""


async def test_a_thousand_connections_with_few_descriptors(new_node, tmp_path):
    """It says so and lives: afterwards an honest leecher is served."""
    (tmp_path / "data").write_bytes(DATA)
    program = [sys.executable, "-c", textwrap.dedent(PROGRAM)]
    with subprocess.Popen(  # noqa: ASYNC220 (starting it does not block)
        [*program, str(tmp_path / "crowded"), str(tmp_path / "data")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            port = int(process.stdout.readline())
            for sock in crowd(port):
                sock.close()
            leecher = await new_node(encryption=False)
            artifact = leecher.store.add_bytes(DATA)
            leecher.store.remove(artifact.digest)
            peer = Peer("127.0.0.1", port)
            downloaded = await leecher.download(artifact.digest, [peer])
            assert leecher.store.read(downloaded.artifact) == DATA
            said, errors = process.communicate("\n", timeout=20)
        finally:
            process.kill()
    assert int(said) > 0
    assert "ulimit -n" in errors
    assert "Traceback" not in errors
    assert process.returncode == 0
