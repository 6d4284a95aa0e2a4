"""Batches of an input that cannot be read in parts as it is: each packed by itself, one behind the other, so that it can."""

from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import msgspec
import pyarrow as pa

from jobber.digest import digest_of
from jobber.model import Layout, Plan, PlannedBatch
from operators.plan import Piece, warnings_of

#: zstd's level: 0.2 s for 128 MB of products; those below save little of it and make half as much again.
_LEVEL = 1
#: Bytes in front of a frame that say how many it stands for.
_SIZE = 8


def pack(data: bytes | memoryview) -> bytes:
    """The bytes as a zstd frame of their own."""
    frame: bytes = pa.Codec("zstd", compression_level=_LEVEL).compress(data, asbytes=True)
    return len(data).to_bytes(_SIZE, "little") + frame


def unpack(data: bytes) -> bytes:
    """What was packed. Raises OSError for what was not."""
    size = int.from_bytes(data[:_SIZE], "little")
    return pa.Codec("zstd").decompress(memoryview(data)[_SIZE:], size, asbytes=True)  # type: ignore[no-any-return]


class Packing:
    """Plans an input and makes the blob of its batches, in one pass: iterate over the blob's bytes, then ask for the plan."""

    def __init__(self, steps: Iterable[Layout | Piece], encoding: str) -> None:
        """`encoding` is what the input is written in."""
        self._steps = steps
        self._encoding = encoding
        self._layout: Layout | None = None
        self._batches: list[PlannedBatch] = []
        self._size = 0

    def __iter__(self) -> Iterator[bytes]:
        """One batch is packed while the next one is looked for: neither needs the interpreter for most of its time."""
        waiting: tuple[Piece, Future[bytes]] | None = None
        with ThreadPoolExecutor(1, "pack") as pool:
            for step in self._steps:
                if isinstance(step, Layout):
                    self._layout = msgspec.structs.replace(step, encoding=self._encoding, packed=True)
                    continue
                coming = pool.submit(pack, step.data)
                if waiting:
                    yield self._added(*waiting)
                waiting = step, coming
            if waiting:
                yield self._added(*waiting)

    def _added(self, piece: Piece, coming: Future[bytes]) -> bytes:
        packed = coming.result()
        self._batches.append(PlannedBatch(self._size, len(packed), piece.first_row, piece.rows, digest_of(packed), piece.plain))
        self._size += len(packed)
        return packed

    @property
    def made(self) -> tuple[Layout, tuple[PlannedBatch, ...]]:
        """The layout, and the batches as ranges of the blob."""
        assert self._layout is not None
        return self._layout, tuple(self._batches)

    def plan(self, blob_key: str) -> Plan:
        """The plan, whose batches are ranges of the blob of that key; of no blob, when there are none."""
        layout, batches = self.made
        return Plan(layout, batches, warnings_of(layout), blob_key if batches else None)
