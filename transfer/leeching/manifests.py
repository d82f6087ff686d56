"""Which of several claimed manifests to follow: evidence before preference.

A manifest is a hint until the whole file has the digest that was asked for. These
rules keep a false one from costing more than it must:

1. Every manifest that somebody vouches for is worked on, by the peers that name it.
   So no honest peer waits for a liar; the first whole that has the digest wins.
2. Sources are counted by what costs something: by the prefix of their address, not by
   their keys. What a source said once is counted until its manifest is refuted, so
   that coming and going changes nothing.
3. One manifest leads: its file is the one that is passed on, resumed and read early.
   More independent sources lead; among equals the smaller file, since that is the
   cheaper to refute. Claims are weighed again with each one that comes.
4. A manifest is refuted when its whole, every chunk of which matched, has another
   digest. It is never taken up again in this download.
5. The verified whole refutes every other manifest: those that vouched for one lied.
6. A size is confirmed by the caller, or by two independent sources against fewer for
   any other size. A size with less behind it is not to be passed on.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from transfer.errors import FalseManifestError
from transfer.growing_file import SizeEvidence

if TYPE_CHECKING:
    from transfer.connection.peer import Peer
    from transfer.content.manifest import Manifest
    from transfer.leeching.wanted import Wanted

_INDEPENDENT_MIN = 2
_PREFIX_BITS = {4: 24, 6: 48}


def independent_source(host: str) -> str:
    """Return what makes two claims one: the /24 or /48, in private ranges the IP."""
    address = ipaddress.ip_address(host.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    if not address.is_global:
        return str(address)
    bits = _PREFIX_BITS[address.version]
    return str(ipaddress.ip_network((address, bits), strict=False))


class Claims:
    """The manifests that peers of one download vouch for. Pure."""

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self._manifests: dict[bytes, Manifest] = {}
        self._sources: dict[bytes, set[str]] = {}
        self._peers: dict[bytes, set[Peer]] = {}
        self._false: set[bytes] = set()

    def add(self, manifest: Manifest, peer: Peer | None) -> None:
        """Count a claim; None for what an earlier run left.

        Raises FalseManifestError for a manifest that is refuted.
        """
        self.check(manifest)
        self._manifests[manifest.digest] = manifest
        sources = self._sources.setdefault(manifest.digest, set())
        if peer is not None:
            sources.add(independent_source(peer.host))
            self._peers.setdefault(manifest.digest, set()).add(peer)

    def check(self, manifest: Manifest) -> None:
        """Raise FalseManifestError for a manifest that is refuted."""
        if manifest.digest in self._false:
            raise FalseManifestError

    def refute(self, manifest: Manifest) -> set[Peer]:
        """Learn that a manifest is false; return the peers that vouched for it."""
        self._false.add(manifest.digest)
        self._manifests.pop(manifest.digest, None)
        self._sources.pop(manifest.digest, None)
        return self._peers.pop(manifest.digest, set())

    def confirm(self, manifest: Manifest) -> set[Peer]:
        """Learn that a manifest is true; return the peers that vouched for others."""
        others = [one for one in self._manifests.values() if one != manifest]
        return {peer for other in others for peer in self.refute(other)}

    def is_better(self, one: Manifest, other: Manifest) -> bool:
        """Whether `one` has more evidence than `other`, or is cheaper to refute."""
        return self._rank(one) > self._rank(other)

    def size_evidence(self, manifest: Manifest) -> SizeEvidence:
        """Return what vouches for the size of a manifest."""
        if manifest.size == self._wanted.size:
            return SizeEvidence.CALLER
        if manifest.digest == self._wanted.manifest:
            return SizeEvidence.CALLER
        by_size: dict[int, set[str]] = {}
        for digest, claimed in self._manifests.items():
            by_size.setdefault(claimed.size, set()).update(self._sources[digest])
        own = len(by_size.pop(manifest.size, ()))
        others = max(map(len, by_size.values()), default=0)
        if own >= _INDEPENDENT_MIN and own > others:
            return SizeEvidence.INDEPENDENT
        return SizeEvidence.UNCONFIRMED

    def _rank(self, manifest: Manifest) -> tuple[bool, int, int, bytes]:
        sources = self._sources.get(manifest.digest, set())
        named = manifest.digest == self._wanted.manifest
        return named, len(sources), -manifest.size, manifest.digest
