"""What proves that a batch still denotes the bytes that were planned (docs/adr/0008)."""

from blake3 import blake3


def digest_of(data: bytes | memoryview) -> bytes:
    """The BLAKE3 of the bytes, 32 bytes long."""
    return blake3(data).digest()
