"""Planning an input wherever it is: its own bytes are cut, or those of a blob that is made of it on the way."""

import asyncio
import contextlib
import errno
import io
import tempfile
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import IO

from jobber import faults
from jobber.blobs.store import Blobs
from jobber.contract import Contract
from jobber.errors import DiskFull, Unavailable
from jobber.ids import uuid7
from jobber.model import InputOptions, Plan
from operators.opening import Opened, opened
from operators.pack import Packing
from operators.plan import parquet_pieces, pieces, plan
from pipelines.work import Source

#: Expanded inputs have a limit of their own, and packing makes nothing larger by so much.
_SPARE = 1 << 30


class Delicate(Exception):
    """What decodes this input may end its process: it is planned in an isolated one."""


@dataclass(frozen=True, slots=True)
class Planner:
    """Where inputs are, and how large they may be once they are expanded."""

    blobs: Blobs
    expanded_bytes: int
    #: Whether this process may end with what it reads.
    isolated: bool = False

    def plan(self, source: Source, contract: Contract, options: InputOptions, goes_on: Callable[[], object]) -> Plan:
        """The input's plan; a blob that it needs is durable when it is answered, and nothing is left of it when this fails.

        `goes_on` is called at each window, and may raise. Two plans of one input never share a blob: whichever is recorded
        is whole, and the other one's blob is a stray. Raises StructureFault, NotFound, Unavailable, DiskFull; Delicate for what
        is planned in an isolated process only.
        """
        windows = [source.inline] if source.inline is not None else self.blobs.windows(source.blob_key)
        found = opened(_watched(windows, goes_on), options, self.expanded_bytes)
        if found.parquet:
            if not self.isolated:
                raise Delicate
            with self._file(source, found, goes_on) as file:
                return self._packed(
                    Packing(parquet_pieces(file, contract, options, self.expanded_bytes, goes_on), found.encoding)
                )
        if found.as_it_is:
            return plan(found.windows, contract, options)
        return self._packed(Packing(pieces(found.windows, contract, options), found.encoding))

    def _packed(self, packing: Packing) -> Plan:
        key = f"plans/{uuid7()}"
        coming = iter(packing)
        first = next(coming, None)
        if first is not None:  # else there is no record, and nothing to keep
            asyncio.run(self.blobs.put(key, _chunks(first, coming), self.expanded_bytes * 2 + _SPARE))
            faults.point("plan.after_blob")
        return packing.plan(key)

    @contextlib.contextmanager
    def _file(self, source: Source, found: Opened, goes_on: Callable[[], object]) -> Iterator[IO[bytes]]:
        """The input as a file, to read anywhere in: what was compressed is on the disk, without a name, meanwhile."""
        if not found.as_it_is:
            with tempfile.TemporaryFile() as spool:
                for window in found.windows:
                    _write(spool, window)
                spool.seek(0)
                yield spool
        elif source.inline is not None:
            yield io.BytesIO(source.inline)
        else:
            yield _Ranges(self.blobs, source.blob_key, goes_on)  # type: ignore[misc]


def _write(spool: IO[bytes], window: bytes) -> None:
    try:
        spool.write(window)
        spool.flush()
    except OSError as fault:
        if fault.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull from fault
        raise Unavailable(f"The file cannot be expanded: {fault.strerror}.") from fault


class _Ranges(io.RawIOBase):
    """A blob as a file, for Arrow."""

    def __init__(self, blobs: Blobs, key: str, goes_on: Callable[[], object]) -> None:
        self._blobs = blobs
        self._key = key
        self._goes_on = goes_on
        self._place = 0
        self._size = blobs.size(key)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._place = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}[whence]
        return self._place

    def tell(self) -> int:
        return self._place

    def read(self, size: int = -1) -> bytes:
        self._goes_on()
        left = max(self._size - self._place, 0)
        data = self._blobs.read(self._key, self._place, left if size < 0 else min(size, left))
        self._place += len(data)
        return data


def _watched(windows: Iterable[bytes], goes_on: Callable[[], object]) -> Iterator[bytes]:
    for window in windows:
        goes_on()
        yield window


async def _chunks(first: bytes, coming: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Nothing else waits for this loop: what blocks it is what it is there for."""
    yield first
    for chunk in coming:
        yield chunk
