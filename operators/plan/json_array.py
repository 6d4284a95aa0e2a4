"""Plan a JSON document: an array, whose elements are the records, or one object, which is one record.

Only the structure is looked at (strings, nesting, commas); what an element holds is that record's own affair.
"""

from collections.abc import Iterator

import msgspec
import numpy as np

from jobber.errors import StructureFault
from jobber.model import Format, InputOptions, Layout
from operators.csv_grammar import Bytes, Places
from operators.json_grammar import BLANK, COMMA, SLASH, Scan, begins_value, without_space
from operators.plan.buffer import MAX_RECORD, OWN_BATCH, Buffer, Cut, too_long
from operators.plan.keys import LOOK, first_keys

#: Bytes scanned at once: arrays of this size stay in the processor's cache.
STEP = 256 << 10
#: Bytes of a text up to which taking it apart record by record costs less than a scan.
SMALL = 64 << 10

_records = msgspec.json.Decoder(list[msgspec.Raw])


def plan_json(buffer: Buffer, options: InputOptions) -> Iterator[Layout | Cut]:
    """The layout, then the batches. Raises StructureFault."""
    yield Layout(format=Format.JSON, columns=first_keys(buffer.bytes()[:LOOK].lstrip(b"[ \t\r\n")))
    while buffer.fill(1):
        blank = len(buffer) - len(buffer.bytes().lstrip(BLANK))
        if not blank:
            break
        buffer.drop(blank)
    if not len(buffer):
        raise StructureFault("EMPTY", "The file is empty.")
    first = buffer.bytes()[:1]
    if first == b"[":
        yield from _array(buffer, options)
    elif first == b"{":
        yield from _object(buffer)
    else:
        raise StructureFault("SYNTAX", "The document must be an array of records, or one record (an object).")


def small_array(text: bytes, options: InputOptions) -> Cut | None:
    """The only batch of an array of a few records; None where it takes a scan to tell."""
    if len(text) > min(SMALL, options.batch_bytes):
        return None
    try:
        records = _records.decode(text)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return None  # broken, or so strange that msgspec refuses it
    if len(records) > options.batch_rows:
        return None
    start = len(text) - len(text.lstrip(BLANK)[1:].lstrip(BLANK))
    return Cut(len(text), len(records), start, len(text.rstrip(BLANK)[:-1].rstrip(BLANK)))


def _array(buffer: Buffer, options: InputOptions) -> Iterator[Cut]:
    buffer.drop(1)
    scan, scanned = Scan(depth=1), 0
    commas = np.empty(0, np.int64)  # that part records, from the buffer's start
    while True:
        buffer.fill(scanned + STEP)
        data = buffer.head(scanned + STEP)
        if data.size == scanned:
            raise StructureFault("SYNTAX", f"The array is not closed: the file ends within record {buffer.row + commas.size}.")
        places, kinds, depths = scan.step(data[scanned:])
        end = np.flatnonzero(depths == 0)
        if end.size:
            kinds, depths = kinds[: end[0] + 1], depths[: end[0] + 1]
        if (kinds == SLASH).any():
            raise StructureFault("SYNTAX", "JSON has no comments: there is a / outside of texts.")
        parting = places[: kinds.size][(kinds == COMMA) & (depths == 1)]
        commas = np.concatenate((commas, parting + scanned))
        if end.size:
            close = scanned + int(places[end[0]])
            if kinds[-1] != ord("]"):
                raise StructureFault("SYNTAX", "The array is closed by a brace.")
            yield from _last(buffer, commas, close, options)
            _nothing_more(buffer)
            return
        scanned = data.size
        while commas.size and (commas[-1] >= options.batch_bytes or commas.size >= options.batch_rows):
            cut = _cut(buffer.head(scanned), commas, options)
            yield cut
            scanned -= cut.size
            commas = commas[cut.rows :] - cut.size
        if scanned - (int(commas[-1]) if commas.size else 0) > MAX_RECORD:
            raise too_long(buffer.row + int(commas.size))


def _last(buffer: Buffer, commas: Places, close: int, options: InputOptions) -> Iterator[Cut]:
    """The batches up to the closing bracket at `close`."""
    data = buffer.head(close)
    if buffer.row == 1 and not commas.size and not data.tobytes().strip(BLANK):
        buffer.drop(close + 1)
        return
    ends = np.append(commas, close)
    while ends.size:
        cut = _cut(buffer.head(int(ends[-1])), ends, options)
        yield cut
        ends = ends[cut.rows :] - cut.size


def _cut(data: Bytes, ends: Places, options: InputOptions) -> Cut:
    """The next batch: elements that end at `ends` (a comma, or the closing bracket), of about `batch_bytes`."""
    count = int(np.searchsorted(ends, options.batch_bytes, "right"))
    count = min(max(count, 1), options.batch_rows, ends.size)
    starts = np.concatenate(([0], ends[: count - 1] + 1))
    long = np.flatnonzero(ends[:count] - starts > OWN_BATCH)
    if long.size:
        count = int(long[0]) or 1
        starts = starts[:count]
    starts, stops = without_space(data, starts, ends[:count])
    if (starts >= stops).any():
        raise StructureFault("SYNTAX", "There is a comma with no record behind or before it.")
    strange = np.flatnonzero(~begins_value(data[starts]))
    if strange.size:
        seen = chr(int(data[starts[strange[0]]]))
        raise StructureFault("SYNTAX", f"A record cannot begin with {seen!r}.")
    stop = int(ends[count - 1])
    return Cut(stop + 1, count, int(starts[0]), int(stops[-1]))


def _object(buffer: Buffer) -> Iterator[Cut]:
    scan, scanned = Scan(), 0
    while True:
        buffer.fill(scanned + STEP)
        data = buffer.head(scanned + STEP)
        if data.size == scanned:
            raise StructureFault("SYNTAX", "The object is not closed: the file is cut.")
        places, kinds, depths = scan.step(data[scanned:])
        if (kinds == SLASH).any():
            raise StructureFault("SYNTAX", "JSON has no comments: there is a / outside of texts.")
        end = np.flatnonzero(depths == 0)
        if end.size:
            close = scanned + int(places[end[0]])
            yield Cut(close + 1, 1)
            _nothing_more(buffer)
            return
        scanned = data.size
        if scanned > MAX_RECORD:
            raise StructureFault("LINE_TOO_LONG", f"The object has no end within {MAX_RECORD >> 20} MiB.")


def _nothing_more(buffer: Buffer) -> None:
    while buffer.fill(1):
        if buffer.bytes().strip(BLANK):
            raise StructureFault("SYNTAX", "There is more behind the end of the document.")
        buffer.drop(len(buffer))
