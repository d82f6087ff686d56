"""What certificates an upstream's connections trust, and which one is shown."""

from __future__ import annotations

import logging
import os
import ssl
from functools import cache
from pathlib import Path

_log = logging.getLogger(__name__)


@cache
def tls_context(
    ca_files: tuple[Path, ...], client_certificate: Path | None
) -> ssl.SSLContext | bool:
    """Return what certificates are trusted, and which is ours. Blocks, once.

    True stands for those of the system, which aiohttp has read already: a second copy
    would take 3 MB.
    """
    files = list(ca_files)
    if system := os.environ.get("SSL_CERT_FILE"):
        # OpenSSL reads a file of this name by itself, but no folder.
        files = [one for one in files if str(one) != system]
        files += [Path(system)] if Path(system).is_dir() else []
    if not files and client_certificate is None:
        return True
    context = ssl.create_default_context()
    for path in files:
        try:
            if path.is_dir():  # of names that OpenSSL has made
                context.load_verify_locations(capath=path)
            else:
                context.load_verify_locations(cafile=path)
        except (OSError, ssl.SSLError) as error:
            _log.warning("the certificates in %s cannot be read: %s", path, error)
    if client_certificate is not None:
        try:
            # Without a password of ours, OpenSSL would ask for one at the terminal.
            context.load_cert_chain(client_certificate, password="")
        except (OSError, ssl.SSLError) as error:
            _log.warning(
                "%s is no certificate with a key that needs no password: %s",
                client_certificate,
                error,
            )
    return context
