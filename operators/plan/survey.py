"""What can be told of an input while it comes, before anybody says what it is for: its format, its columns, its batches.

Surveyed are inputs of the plain kind, text in UTF-8 that is not compressed and of the default dialect; and only as long as that
is cheap. All others are planned by an executor, which knows what they are for and may take its time.
"""

from collections.abc import Iterable
from typing import Self

import msgspec

from jobber.contract import Contract
from jobber.digest import digest_of
from jobber.errors import StructureFault
from jobber.model import Compression, Format, InputOptions, Layout, Plan, PlannedBatch
from operators.encoding import UTF8, canonical
from operators.opening import opened
from operators.plan import cuts, warnings_of
from operators.plan.buffer import Buffer, Outgrown
from operators.plan.columns import fitted
from operators.plan.detect import detect

#: Bytes that a survey holds at most: inputs with longer records are for executors.
MOST_HELD = 32 << 20


class Survey(msgspec.Struct, frozen=True, kw_only=True):
    """A plan for any contract."""

    #: Without fields.
    layout: Layout
    batches: tuple[PlannedBatch, ...]
    batch_bytes: int
    batch_rows: int

    def answers(self, options: InputOptions) -> bool:
        """Whether these options would cut the input as it was."""
        csv = self.layout.format is Format.CSV
        return (
            options.format in (None, self.layout.format)
            and options.compression in (None, Compression.NONE)
            and canonical(options.encoding) == UTF8
            and (not csv or (options.delimiter, options.quote) == (self.layout.delimiter, self.layout.quote))
            and (options.batch_bytes, options.batch_rows) == (self.batch_bytes, self.batch_rows)
        )

    def plan(self, contract: Contract, options: InputOptions) -> Plan:
        """As an executor would plan it. Raises StructureFault (HEADER)."""
        layout = fitted(self.layout, contract, options)
        return Plan(layout, self.batches, warnings_of(layout))

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


def survey(windows: Iterable[bytes], options: InputOptions) -> Survey | None:
    """Look at a whole input; `options` say how large batches are to be. None when it is for an executor to look at.

    What the windows raise is passed on.
    """
    try:
        found = opened(windows, options, 0)
        if found.parquet or not found.as_it_is:
            return None
        return _surveyed(Buffer(found.windows, MOST_HELD), options)
    except (StructureFault, Outgrown):
        return None  # with the reason an executor gives it


def _surveyed(buffer: Buffer, options: InputOptions) -> Survey | None:
    layout: Layout | None = None
    batches = []
    for step in cuts(buffer, options, detect(buffer, options)):
        if isinstance(step, Layout):
            layout = step
            continue
        if layout and layout.format is Format.CSV and not step.regular:
            return None  # what is not strictly quoted takes ten times as long
        piece = buffer.take(step)
        if piece is not None:
            digest = digest_of(piece.data)
            batches.append(PlannedBatch(piece.offset, len(piece.data), piece.first_row, piece.rows, digest, piece.plain))
    assert layout is not None
    return Survey(layout=layout, batches=tuple(batches), batch_bytes=options.batch_bytes, batch_rows=options.batch_rows)
