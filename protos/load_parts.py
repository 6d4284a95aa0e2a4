"""Chunks of LoadRequest as they stand on the wire: by way of messages each byte of a load would be copied three times more.

https://protobuf.dev/programming-guides/encoding: field 2 of wire type 2 (its length follows), then the bytes.
"""

_TAG = 2 << 3 | 2
#: Bytes of the longest length that a message can have.
_LONGEST = 5


def chunk_to(chunk: bytes | memoryview) -> bytes:
    """What `LoadRequest(chunk=chunk).SerializeToString()` is."""
    prefix, left = bytearray((_TAG,)), len(chunk)
    while left > 127:
        prefix.append(left & 127 | 128)
        left >>= 7
    prefix.append(left)
    return b"".join((prefix, chunk))


def chunk_from(message: bytes) -> memoryview | None:
    """The chunk, when the message is nothing but one as `chunk_to` writes it; None: let protobuf read it."""
    if not message or message[0] != _TAG:
        return None
    length = 0
    for place, byte in enumerate(message[1 : 1 + _LONGEST]):
        length |= (byte & 127) << 7 * place
        if byte < 128:
            chunk = memoryview(message)[place + 2 :]
            return chunk if len(chunk) == length else None
    return None
