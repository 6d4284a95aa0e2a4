"""Frames that operators hand to each other."""

import re
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

#: One broken rule of one record.
FAULTS: dict[str, Any] = {"row_no": pl.Int64, "column": pl.String, "code": pl.String, "message": pl.String}

#: Control characters (Unicode category Cc) but tab and line ends.
CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
#: DEL, and those that UTF-8 has in two bytes.
_C1 = re.compile(rb"\x7f|\xc2[\x80-\x9f]")
#: A longer field is a file of another kind in the wrong place.
MAX_FIELD = 1 << 20
#: Raw texts are kept up to so many characters.
MAX_RAW = 10_000


@dataclass(frozen=True, slots=True)
class Decoded:
    """A batch's records, and those that could not be taken apart."""

    #: `row_no`, and one String column for each column of the contract; null where absent. Where `text` is given, a column may
    #: have the contract's own type instead: its values are those that their texts would become.
    records: pl.DataFrame
    faults: pl.DataFrame
    #: Raw text of records by row number.
    raw: Callable[[Sequence[int]], list[str]]
    #: Records of these row numbers as text, all columns.
    text: Callable[[pl.Series], pl.DataFrame] | None = None


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
    text = raw[: 4 * MAX_RAW + 4].decode("utf-8", errors="backslashreplace")
    return text if len(text) <= MAX_RAW else text[:MAX_RAW] + "…"


def not_text(record: bytes, place: int, encoding: str) -> tuple[str, str]:
    """Code and message of a record whose byte at `place` is no text; what was recoded has its bytes no longer."""
    if encoding != "utf-8":
        return "ENCODING", f"the record holds bytes that are no {encoding}"
    return "ENCODING", f"byte {place + 1} of the record (0x{record[place]:02X}) is not UTF-8"


def is_plain(data: bytes) -> bool:
    """Whether it is UTF-8 without DEL and C1 control characters."""
    if b"\x7f" in data:
        return False
    return data.isascii() or (_is_utf8(data) and (b"\xc2" not in data or _C1.search(data) is None))


def _is_utf8(data: bytes) -> bool:
    """Arrow tells without making a text of it, ten times as fast as `decode`."""
    ends = pa.py_buffer(struct.pack("=ii", 0, len(data)))
    try:
        pa.Array.from_buffers(pa.string(), 1, [None, ends, pa.py_buffer(data)]).validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def not_plain(data: bytes, starts: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which of the records that begin at `starts` are not UTF-8, or hold DEL or a C1 control character."""
    found = np.zeros(starts.size, np.bool_)
    found[_within(starts, [match.start() for match in _C1.finditer(data)])] = True
    # Only these can be wrong; each is asked by itself, as what Arrow and Polars say is of a whole array.
    foreign = np.unique(_within(starts, np.flatnonzero(np.frombuffer(data, np.uint8) > 127)))
    stops = np.append(starts, len(data))[foreign + 1]
    for index, start, stop in zip(foreign.tolist(), starts[foreign].tolist(), stops.tolist(), strict=True):
        try:
            data[start:stop].decode()
        except UnicodeDecodeError:
            found[index] = True
    return found


def _within(starts: NDArray[np.int64], places: Sequence[int] | NDArray[np.int64]) -> NDArray[np.int64]:
    """The records in which the places are."""
    found: NDArray[np.int64] = np.maximum(np.searchsorted(starts, places, "right") - 1, 0)
    return found
