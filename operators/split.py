"""Take a batch apart without looking into its records: what killed its reader is found by reading smaller and smaller parts."""

from itertools import pairwise

from jobber.model import Format, Layout
from operators import arrow
from operators.decode.csv import csv_bounds
from operators.decode.json import json_bounds
from operators.decode.parquet import raw_of
from operators.frames import shown

#: Parts that a part is cut into: 50,000 records are four cuts away from a single one.
PARTS = 16


def part_of(data: bytes, layout: Layout, first: int, last: int) -> bytes:
    """The bytes of records `first` to `last` (from 0, `last` not among them): a batch of the same layout."""
    if layout.format is Format.PARQUET:
        return bytes(arrow.to_ipc(arrow.from_ipc(data)[first:last]))
    starts, stops = (csv_bounds if layout.format is Format.CSV else json_bounds)(data, layout)
    return data[int(starts[first]) : int(stops[last - 1])]


def raw_text(data: bytes, layout: Layout, index: int) -> str:
    """The raw text of one record (from 0)."""
    if layout.format is Format.PARQUET:
        return raw_of(data, index)
    return shown(part_of(data, layout, index, index + 1).rstrip(b"\r\n"))


def parts(first: int, last: int) -> list[tuple[int, int]]:
    """The range in PARTS ranges of about the same size, or in single records."""
    count = min(PARTS, last - first)
    edges = [first + (last - first) * number // count for number in range(count + 1)]
    return list(pairwise(edges))
