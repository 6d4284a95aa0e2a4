"""What can be told of an input while it comes, before anybody says what it is for: its format, its columns, its batches.

Surveyed are texts of the default dialect, in UTF-8 or with a byte-order mark, compressed or not; and only as long as that is
cheap. All others are planned by an executor, which knows what they are for and may take its time.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Self

import msgspec

from jobber.contract import Contract
from jobber.digest import digest_of
from jobber.errors import StructureFault
from jobber.model import Compression, Format, InputOptions, Layout, Plan, PlannedBatch
from operators.encoding import canonical
from operators.expand import window_of
from operators.opening import opened
from operators.pack import Packing
from operators.plan import Piece, cuts, warnings_of
from operators.plan.buffer import Buffer, Outgrown
from operators.plan.columns import fitted
from operators.plan.detect import detect

#: Bytes that a survey holds at most of a text, and what expands it: inputs with longer records, or a larger window, are for
#: executors.
MOST_HELD = 32 << 20


class Survey(msgspec.Struct, frozen=True, kw_only=True):
    """A plan for any contract."""

    #: Without fields.
    layout: Layout
    batches: tuple[PlannedBatch, ...]
    #: Of the input; `layout.packed` says whether its batches are ranges of another blob.
    compression: Compression
    batch_bytes: int
    batch_rows: int

    def answers(self, options: InputOptions) -> bool:
        """Whether these options would cut the input as it was."""
        csv = self.layout.format is Format.CSV
        return (
            options.format in (None, self.layout.format)
            and options.compression in (None, self.compression)
            and canonical(options.encoding) == self.layout.encoding
            and (not csv or (options.delimiter, options.quote) == (self.layout.delimiter, self.layout.quote))
            and (options.batch_bytes, options.batch_rows) == (self.batch_bytes, self.batch_rows)
        )

    def plan(self, contract: Contract, options: InputOptions, blob_key: str | None = None) -> Plan:
        """As an executor would plan it; `blob_key` is that of the other blob. Raises StructureFault (HEADER)."""
        layout = fitted(self.layout, contract, options)
        return Plan(layout, self.batches, warnings_of(layout), blob_key)

    def dump(self) -> bytes:
        """To be kept with the upload."""
        return msgspec.msgpack.encode(self)

    @classmethod
    def load(cls, dumped: bytes) -> Self | None:
        """What was dumped; None when that was another version's."""
        try:
            return msgspec.msgpack.decode(dumped, type=cls)
        except msgspec.MsgspecError:
            return None


class _Unsuited(Exception):
    """It is not of the kind that is cheap."""


def survey(
    windows: Iterable[bytes],
    options: InputOptions,
    *,
    limit: int,
    most: int,
    keep: Callable[[Iterator[bytes]], object],
    goes_on: Callable[[], object] = lambda: None,
) -> Survey | None:
    """Look at a whole input; `options` say how large batches are to be. None when it is for an executor to look at.

    It may have `limit` bytes once it is expanded, and `most` batches. One that cannot be read in parts as it is is packed:
    `keep` is given the bytes of the blob that its batches are ranges of, where there are any; when the survey ends otherwise
    than well, they end in an exception. `goes_on` is called again and again. What it, `keep` and the windows raise is passed
    on.
    """
    coming = iter(windows)
    first = next(coming, b"")
    if window_of(first) > MOST_HELD:
        return None
    try:
        found = opened(chain([first], coming), options, limit, marked=True)
        if found.parquet:
            return None
        steps = _steps(Buffer(found.windows, MOST_HELD), options, most, goes_on)
        if found.as_it_is:
            layout, batches = _surveyed(steps)
        else:
            packing = Packing(steps, found.encoding)
            packed = iter(packing)
            batch = next(packed, None)
            if batch is not None:
                keep(chain([batch], packed))
            layout, batches = packing.made
    except (StructureFault, Outgrown, _Unsuited):
        return None  # with the reason an executor gives it
    return Survey(
        layout=layout,
        batches=batches,
        compression=found.compression,
        batch_bytes=options.batch_bytes,
        batch_rows=options.batch_rows,
    )


def _steps(buffer: Buffer, options: InputOptions, most: int, goes_on: Callable[[], object]) -> Iterator[Layout | Piece]:
    csv, count = False, 0
    for step in cuts(buffer, options, detect(buffer, options)):
        if isinstance(step, Layout):
            csv = step.format is Format.CSV
            yield step
            continue
        if csv and not step.regular:
            raise _Unsuited  # what is not strictly quoted takes ten times as long
        # A few compressed bytes may stand for gigabytes of empty lines.
        goes_on()
        piece = buffer.take(step)
        if piece is not None:
            count += 1
            if count > most:
                raise _Unsuited
            yield piece


def _surveyed(steps: Iterator[Layout | Piece]) -> tuple[Layout, tuple[PlannedBatch, ...]]:
    layout: Layout | None = None
    batches = []
    for step in steps:
        if isinstance(step, Layout):
            layout = step
        else:
            digest = digest_of(step.data)
            batches.append(PlannedBatch(step.offset, len(step.data), step.first_row, step.rows, digest, step.plain))
    assert layout is not None
    return layout, tuple(batches)
