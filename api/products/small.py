"""Many small batches that came in one message, encoded together: one turn of a thread for all of them."""

import asyncio
from collections.abc import Sequence

from api.products import wire
from api.products.ids import Ids
from api.products.load import GROUP_REJECTS_BYTES, Share
from api.products.model import HEADER_BYTES, Batch, GroupTooLarge, Header
from api.products.rows import encode
from jobber.errors import InvalidData
from protos.jobber.products.v1 import products_pb2 as pb


async def unpack(batches: Sequence[pb.SmallBatch], ids: Ids, share: Share) -> list[Batch]:
    """All of them, ready to be written.

    Raises InvalidData when there is none, or what `encode`, `Share.add` and `Ids.take_many` raise.
    """
    if not batches:
        raise InvalidData("The group has no batch.")
    headers = [wire.header_from(batch.header) for batch in batches]
    rejects = sum(len(header.rejects) for header in headers)
    if rejects > GROUP_REJECTS_BYTES:
        raise GroupTooLarge(f"A group may have {GROUP_REJECTS_BYTES:,} bytes of rejects; send fewer batches.")
    share.add(rejects + sum(HEADER_BYTES + len(batch.stream) for batch in batches))
    first_ids = await ids.take_many(len(batches))
    streams = [batch.stream for batch in batches]
    copies = await asyncio.to_thread(_encoded, headers, streams, first_ids)
    share.add(sum(len(piece) for copy in copies for piece in copy) - sum(map(len, streams)))
    return [Batch(*parts) for parts in zip(headers, first_ids, copies, strict=True)]


def _encoded(headers: Sequence[Header], streams: Sequence[bytes], first_ids: Sequence[int]) -> list[list[bytes]]:
    return [
        encode(stream, header, first_id) if stream or header.rows else []
        for header, stream, first_id in zip(headers, streams, first_ids, strict=True)
    ]
