"""A group as it arrives: header, chunks, header, chunks, …, each batch encoded as soon as it is complete."""

import asyncio
from collections.abc import AsyncIterator

from google.protobuf.message import DecodeError

from api.products import wire
from api.products.ids import Ids
from api.products.load import GROUP_REJECTS_BYTES, Share
from api.products.model import HEADER_BYTES, Batch, GroupTooLarge, Header, Stalled
from api.products.rows import encode
from jobber.errors import InvalidData
from protos.jobber.products.v1 import products_pb2 as pb
from protos.load_parts import chunk_from

#: Seconds without a message after which a stream is given up: it holds memory that others need.
IDLE_DEADLINE = 30.0


async def receive(requests: AsyncIterator[bytes | pb.LoadRequest], ids: Ids, share: Share) -> list[Batch]:
    """All batches of the stream, ready to be written.

    Raises InvalidData when it is not header, chunks, header, …; Stalled when nothing comes; what `encode`, `Share.add` and
    `Ids.take` raise.
    """
    batches: list[Batch] = []
    header: Header | None = None
    chunks: list[memoryview] = []
    rejects = 0
    while (message := await _next(requests)) is not None:
        match _part(message):
            case pb.LoadHeader() as given:
                if header is not None:
                    batches.append(await _ready(header, chunks, ids, share))
                header, chunks = wire.header_from(given), []
                rejects += len(header.rejects)
                if rejects > GROUP_REJECTS_BYTES:
                    raise GroupTooLarge(f"A group may have {GROUP_REJECTS_BYTES:,} bytes of rejects; send fewer batches.")
                share.add(HEADER_BYTES + len(header.rejects))
            case memoryview() as chunk:
                if header is None:
                    raise InvalidData("A group begins with a header, not with a chunk.")
                share.add(len(chunk))
                chunks.append(chunk)
            case _:
                raise InvalidData("A message of a group has neither header nor chunk.")
    if header is None:
        raise InvalidData("The group has no batch.")
    batches.append(await _ready(header, chunks, ids, share))
    return batches


def _part(message: bytes | pb.LoadRequest) -> pb.LoadHeader | memoryview | None:
    """The header, the chunk, or neither. Raises InvalidData."""
    if isinstance(message, bytes):
        chunk = chunk_from(message)
        if chunk is not None:
            return chunk
        try:
            message = pb.LoadRequest.FromString(message)
        except DecodeError as fault:
            raise InvalidData("A message of a group is no LoadRequest.") from fault
    match message.WhichOneof("part"):
        case "header":
            return message.header
        case "chunk":
            return memoryview(message.chunk)
    return None


async def _next(requests: AsyncIterator[bytes | pb.LoadRequest]) -> bytes | pb.LoadRequest | None:
    """The next message; None at the end."""
    try:
        async with asyncio.timeout(IDLE_DEADLINE):
            return await anext(requests, None)
    except TimeoutError as fault:
        raise Stalled from fault


async def _ready(header: Header, chunks: list[memoryview], ids: Ids, share: Share) -> Batch:
    first_id = await ids.take()
    if not chunks and not header.rows:
        return Batch(header, first_id, ())
    copy = await asyncio.to_thread(lambda: encode(b"".join(chunks), header, first_id))
    share.add(sum(map(len, copy)) - sum(map(len, chunks)))
    return Batch(header, first_id, copy)
