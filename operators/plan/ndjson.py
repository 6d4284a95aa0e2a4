"""Plan NDJSON: a record is a line; blank lines are none."""

from collections.abc import Iterator

import numpy as np

from jobber.errors import StructureFault
from jobber.model import Format, InputOptions, Layout
from operators.csv_grammar import LF, SPACE, Bytes, Places, spans
from operators.json_grammar import without_space
from operators.plan.buffer import MAX_RECORD, Buffer, Cut, cut_of, further, too_long
from operators.plan.keys import LOOK, first_keys


def plan_ndjson(buffer: Buffer, options: InputOptions) -> Iterator[Layout | Cut]:
    """The layout, then the batches. Raises StructureFault."""
    yield Layout(format=Format.NDJSON, columns=first_keys(buffer.bytes()[:LOOK]))
    target = options.batch_bytes
    while buffer.fill(target + 1):
        data = buffer.head(target)
        size = data.size
        if not (buffer.whole and size == len(buffer)):
            size = buffer.rfind(b"\n", size) + 1
        if not size:
            if len(buffer) > MAX_RECORD:
                raise too_long(buffer.row)
            target = further(target, len(buffer))
            continue
        starts, stops = lines(data[:size])
        cut = cut_of(starts, stops, size, options)
        # Short records: what is beyond the most rows of a batch would be looked at again and again.
        target = min(options.batch_bytes, cut.size * 2) if cut.rows == options.batch_rows else options.batch_bytes
        yield cut
    if buffer.row == 1:
        raise StructureFault("EMPTY", "The file is empty.")


def lines(data: Bytes, ends: Places | None = None) -> tuple[Places, Places]:
    """Starts and ends of the lines that are not blank; `ends`: where the newlines are, if that is known."""
    starts, stops = spans(np.flatnonzero(data == LF) if ends is None else ends, data, data.size)
    if not starts.size:
        return starts, stops
    # A blank line begins with white space; so may others.
    spaced = np.flatnonzero(data[starts] <= SPACE)
    if spaced.size:
        begins, ends = without_space(data, starts[spaced], stops[spaced])
        blank = spaced[begins >= ends]
        starts, stops = np.delete(starts, blank), np.delete(stops, blank)
    return starts, stops
