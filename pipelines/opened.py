"""Planning an input wherever it is: its own bytes are cut, or those of a blob that is made of it on the way."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass

from jobber import faults
from jobber.blobs.store import Blobs
from jobber.contract import Contract
from jobber.ids import uuid7
from jobber.model import InputOptions, Plan
from operators.opening import opened
from operators.pack import Packing
from operators.plan import pieces, plan
from pipelines.work import Source

#: Expanded inputs have a limit of their own, and packing makes nothing larger by so much.
_SPARE = 1 << 30


@dataclass(frozen=True, slots=True)
class Planner:
    """Where inputs are, and how large they may be once they are expanded."""

    blobs: Blobs
    expanded_bytes: int

    def plan(self, source: Source, contract: Contract, options: InputOptions, goes_on: Callable[[], object]) -> Plan:
        """The input's plan; a blob that it needs is durable when it is answered, and nothing is left of it when this fails.

        `goes_on` is called at each window, and may raise. Two plans of one input never share a blob: whichever is recorded
        is whole, and the other one's blob is a stray. Raises StructureFault, NotFound, Unavailable, DiskFull.
        """
        windows = [source.inline] if source.inline is not None else self.blobs.windows(source.blob_key)
        text = opened(_watched(windows, goes_on), options, self.expanded_bytes)
        if text.as_it_is:
            return plan(text.windows, contract, options)
        key = f"plans/{uuid7()}"
        packing = Packing(pieces(text.windows, contract, options), text.encoding)
        coming = iter(packing)
        first = next(coming, None)
        if first is not None:  # else there is no record, and nothing to keep
            asyncio.run(self.blobs.put(key, _chunks(first, coming), self.expanded_bytes * 2 + _SPARE))
            faults.point("plan.after_blob")
        return packing.plan(key)


def _watched(windows: Iterable[bytes], goes_on: Callable[[], object]) -> Iterator[bytes]:
    for window in windows:
        goes_on()
        yield window


async def _chunks(first: bytes, coming: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Nothing else waits for this loop: what blocks it is what it is there for."""
    yield first
    for chunk in coming:
        yield chunk
