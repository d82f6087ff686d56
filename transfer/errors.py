"""The errors of the transfer layer: one family, and a docstring is a message.

`PeerError` and its kin are about one peer and end one connection; a download
turns them into `NoPeerError` or `WrongBytesError` when no other peer is left.
"""

from __future__ import annotations


class TransferError(Exception):
    """The transfer failed."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (type(self).__doc__ or "").strip())


class DigestError(TransferError, ValueError):
    """This is not a digest."""


class ManifestError(TransferError, ValueError):
    """This is not a manifest."""


class NoPeerError(TransferError):
    """No peer that could be reached gave this content."""


class WrongBytesError(TransferError):
    """Peers answered, but what they sent is not what was asked for."""


class StoreError(TransferError):
    """The store could not be read or written."""


class FullError(StoreError):
    """The store is full."""

    def __init__(self, size: int, held: int, bytes_max: int | None) -> None:
        super().__init__(
            f"The store holds {held} of at most {bytes_max} bytes and nothing that"
            f" may go makes room for {size} more; unpin or remove something, or"
            " raise store_bytes."
        )

    @classmethod
    def of_disk(cls, size: int, free: int, free_min: int) -> FullError:
        """Return the error for a disk that has too few bytes left for others."""
        error = cls(size, 0, None)
        sentence = (
            f"The disk has {free} bytes left, {free_min} have to stay free, and nothing"
            f" that may go makes room for {size} more; free some space on the disk."
        )
        error.args = (sentence,)
        return error


class DamagedError(StoreError):
    """The stored copy is damaged; it was set aside and must be fetched again."""


class NotHeldError(StoreError):
    """The store does not hold this artifact."""


class ClosedError(TransferError):
    """The transfer layer is closing."""


class PeerError(TransferError):
    """The connection to the peer failed."""


class PeerGoneError(PeerError):
    """The peer closed the connection."""


class PeerSlowError(PeerError):
    """The peer was too slow."""


class PeerRefusedError(PeerError):
    """The peer refused to serve."""


class AbsentError(PeerRefusedError):
    """The peer does not have this."""


class LargerError(PeerRefusedError):
    """What the peer has is larger than what was asked for."""


class PeerBusyError(PeerError):
    """The peer is busy."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds


class WireError(PeerError):
    """The peer sent something that the protocol does not allow."""


class IdentityError(PeerError):
    """The peer's certificate is not of the key that was expected."""


class NetworkProofError(PeerError):
    """The peer does not know the secret of this private network."""


class BadChunkError(PeerError):
    """The peer sent a chunk that does not match the manifest that it named."""

    def __init__(self, number: int, index: int) -> None:
        super().__init__()
        self.number = number
        self.index = index


class FalseManifestError(PeerError):
    """The peer named a manifest that is not of this content."""
