"""Frames that operators hand to each other."""

import re
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl
import pyarrow as pa

#: One broken rule of one record.
FAULTS: dict[str, Any] = {"row_no": pl.Int64, "column": pl.String, "code": pl.String, "message": pl.String}

#: Control characters (Unicode category Cc) but tab and line ends.
CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
#: Raw texts are kept up to so many characters.
MAX_RAW = 10_000


@dataclass(frozen=True, slots=True)
class Decoded:
    """A batch's records as text, and those that could not be taken apart."""

    #: `row_no`, and one String column for each column of the contract; null where absent.
    records: pl.DataFrame
    faults: pl.DataFrame
    #: Raw text of records by row number.
    raw: Callable[[Sequence[int]], list[str]]


@dataclass(frozen=True, slots=True)
class Checked:
    """Records that meet the rules, typed; and the faults of those that do not. No row is lost, none is in both."""

    kept: pl.DataFrame
    faults: pl.DataFrame


def faults_of(rows: Sequence[tuple[int, str | None, str, str]]) -> pl.DataFrame:
    """Faults as a frame."""
    return pl.DataFrame(rows, schema=FAULTS, orient="row")


def shown(raw: bytes) -> str:
    """Raw bytes as text: what is not UTF-8 appears as \\xNN, and it is cut at MAX_RAW characters."""
    text = raw[: 4 * MAX_RAW].decode("utf-8", errors="backslashreplace")
    return text if len(text) <= MAX_RAW else text[:MAX_RAW] + "…"


def is_utf8(data: bytes) -> bool:
    """Whether the bytes are UTF-8. Arrow tells without making a text of them, ten times as fast as `decode`."""
    ends = pa.py_buffer(struct.pack("=ii", 0, len(data)))
    try:
        pa.Array.from_buffers(pa.string(), 1, [None, ends, pa.py_buffer(data)]).validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def not_text(data: bytes) -> list[int]:
    """Places of bytes that are not UTF-8, one a line at least; and of control characters of two bytes."""
    if data.isascii():
        return []
    places, place, view = [match.start() for match in re.finditer(rb"\xc2[\x80-\x9f]", data)], 0, memoryview(data)
    while True:
        try:
            str(view[place:], "utf-8")  # a copy for every bad line would take quadratic time
        except UnicodeDecodeError as fault:
            places.append(place + fault.start)
            line = data.find(b"\n", place + fault.start)
            if line < 0:
                return places
            place = line + 1
        else:
            return places
