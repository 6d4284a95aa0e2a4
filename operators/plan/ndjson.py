"""Plan NDJSON: a record is a line; blank lines are none."""

from collections.abc import Iterator

import numpy as np

from jobber.contract import Contract
from jobber.errors import StructureFault
from jobber.model import Format, InputOptions, Layout
from operators.csv_grammar import LF, Bytes, Places, spans
from operators.plan.buffer import MAX_RECORD, OWN_BATCH, Buffer, Cut, too_long

#: A line of white space that is longer than this counts as a record, and is rejected.
BLANK = 64


def plan_ndjson(buffer: Buffer, contract: Contract, options: InputOptions) -> Iterator[Layout | Cut]:
    """The layout, then the batches. Raises StructureFault."""
    yield json_layout(Format.NDJSON, contract, options)
    target = options.batch_bytes
    while buffer.fill(target + 1):
        data = buffer.head(target)
        ends = np.flatnonzero(data == LF)
        everything = buffer.whole and data.size == len(buffer)
        size = data.size if everything else int(ends[-1]) + 1 if ends.size else 0
        if not size:
            if len(buffer) > MAX_RECORD:
                raise too_long(buffer.row)
            target = max(target, len(buffer)) * 2
            continue
        target = options.batch_bytes
        starts, stops = lines(data[:size], ends, size)
        if starts.size > options.batch_rows:
            stops = stops[: options.batch_rows]
            starts = starts[: options.batch_rows]
            size = int(ends[np.searchsorted(ends, stops[-1])]) + 1
        long = np.flatnonzero(stops - starts > OWN_BATCH)
        if long.size and (first := int(long[0])):
            yield Cut(int(starts[first]), first)
        elif long.size and starts.size > 1:
            yield Cut(int(starts[1]), 1)
        else:
            yield Cut(size, int(starts.size))


def lines(data: Bytes, ends: Places, size: int) -> tuple[Places, Places]:
    """Starts and ends of the lines that are not blank."""
    starts, stops = spans(ends, data, size)
    short = np.flatnonzero(stops - starts <= BLANK)
    if short.size:
        firsts = data[starts[short]]
        suspects = short[(firsts == 32) | (firsts == 9) | (firsts == 13)]
        blank = [place for place in suspects if not data[starts[place] : stops[place]].tobytes().strip(b" \t\r")]
        if blank:
            starts, stops = np.delete(starts, blank), np.delete(stops, blank)
    return starts, stops


def check_mapping(contract: Contract, options: InputOptions) -> None:
    """Raises StructureFault (HEADER) when the mapping names a column that the contract does not have."""
    for name in options.mapping:
        if contract.column(name) is None:
            raise StructureFault("HEADER", f"The mapping names {name!r}, which is no column of {contract.name}.")


def json_layout(form: Format, contract: Contract, options: InputOptions) -> Layout:
    """Keys are matched record by record; the layout says which key fills which column. Raises StructureFault (HEADER)."""
    check_mapping(contract, options)
    taken = set(options.mapping.values())
    fields = {
        column.name: options.mapping.get(column.name, column.name)
        for column in contract.columns
        if column.name in options.mapping or column.name not in taken
    }
    return Layout(format=form, fields=fields)
