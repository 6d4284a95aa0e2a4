"""Ids: lowercase UUIDs, the same in GraphQL, URLs, gRPC and SQL."""

import os
import time
import uuid


def is_id(text: str) -> bool:
    """Whether it is an id as we write it; anything else names nothing of ours."""
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False


def uuid7() -> str:
    """A UUID that sorts by time (RFC 9562 5.7): new rows land side by side in an index. Not a secret."""
    value = (time.time_ns() // 1_000_000 & (1 << 48) - 1) << 80 | int.from_bytes(os.urandom(10))
    value = value & ~(0xF << 76) | 7 << 76
    value = value & ~(0x3 << 62) | 2 << 62
    return str(uuid.UUID(int=value))
