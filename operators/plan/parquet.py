"""Plan a Parquet file, and read all of it: that its pages are whole is known only then, and none is decoded twice.

A damaged file may end Arrow's decoder, so that this runs in an isolated process (pipelines/opened.py). What it hands on are
batches as Arrow IPC streams of a few plain types, made here, which no reader has to distrust.
"""

from collections.abc import Callable, Iterator
from typing import IO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from jobber.contract import Contract
from jobber.errors import StructureFault
from jobber.model import Format, InputOptions, Layout
from operators.arrow import stream_of
from operators.plan.buffer import Piece
from operators.plan.columns import check_names, match_columns

#: Rows that are decoded at once, and how many when those do not fit into memory: a few bytes of a dictionary can stand for
#: a megabyte in each row.
_ROWS = (8192, 64)
#: Bytes that are read ahead, of all columns together and of one.
_AHEAD, _LEAST, _MOST = 64 << 20, 64 << 10, 4 << 20
_TOO_LARGE = "A few rows of the file do not fit into memory once they are decoded."


def parquet_pieces(
    file: IO[bytes], contract: Contract, options: InputOptions, limit: int, goes_on: Callable[[], object]
) -> Iterator[Layout | Piece]:
    """The layout, then the batches, each an Arrow IPC stream. `goes_on` is called again and again, and may raise.

    Raises StructureFault: CORRUPT, HEADER, or TOO_LARGE beyond `limit` bytes of decoded records.
    """
    opened = _opened(file)
    schema, names = opened.schema_arrow, tuple(opened.schema_arrow.names)
    check_names(names)
    for field in schema:
        _check_type(field)
    layout = Layout(format=Format.PARQUET, columns=names, fields=match_columns(names, contract, options))
    yield layout
    dates = {
        layout.fields[column.name] for column in contract.columns if column.kind == "date" and column.name in layout.fields
    }
    gathered = _Gathered(options)
    row, size = 1, 0
    for batch in _batches(opened):
        goes_on()
        plain = _plain(batch, dates)
        size += plain.nbytes
        if size > limit:
            raise StructureFault(
                "TOO_LARGE",
                f"Decoded, the file has more than {limit:,} bytes; JOBBER_EXPANDED_BYTES says how many it may have.",
            )
        for table in gathered.add(plain):
            yield Piece(0, stream_of(table), row, table.num_rows)
            row += table.num_rows
    for table in gathered.rest():
        yield Piece(0, stream_of(table), row, table.num_rows)
        row += table.num_rows
    if row - 1 != opened.metadata.num_rows:
        raise _corrupt(f"it says that it has {opened.metadata.num_rows:,} rows, and has {row - 1:,}")


def _corrupt(what: str) -> StructureFault:
    return StructureFault("CORRUPT", f"The Parquet file is damaged: {what}. Nothing of it was loaded; send it again.")


def _opened(file: IO[bytes]) -> pq.ParquetFile:
    try:
        columns = max(pq.read_metadata(file).num_columns, 1)
        file.seek(0)
        ahead = min(max(_AHEAD // columns, _LEAST), _MOST)
        # With `pre_buffer` Arrow would read whole column chunks ahead: all of a file that is one row group.
        found = pq.ParquetFile(file, buffer_size=ahead, pre_buffer=False, page_checksum_verification=True)
        _ = found.schema_arrow.names
        return found
    except MemoryError as fault:
        raise _corrupt("its footer needs more memory than there is") from fault
    except (pa.ArrowException, OSError, UnicodeDecodeError, OverflowError) as fault:
        raise _corrupt(_first_line(fault)) from fault


def _first_line(fault: BaseException) -> str:
    return str(fault).partition("\n")[0].rstrip(".")[:200]


def _storage(kind: pa.DataType) -> pa.DataType:
    while isinstance(kind, pa.BaseExtensionType):
        kind = kind.storage_type
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _check_type(field: pa.Field) -> None:
    kind = _storage(field.type)
    if pa.types.is_nested(kind):
        raise StructureFault(
            "HEADER", f"The column {field.name[:60]!r} is nested ({str(kind)[:60]}); a record has plain values only."
        )


def _batches(opened: pq.ParquetFile) -> Iterator[pa.RecordBatch]:
    """All records in order, some thousands at a time; a row group is gone through once, however large it is."""
    for group in range(opened.num_row_groups):
        done = 0
        for rows in _ROWS:
            try:
                skipped = 0
                for batch in opened.iter_batches(rows, row_groups=[group], use_threads=False):
                    fresh = batch.slice(min(max(done - skipped, 0), batch.num_rows))
                    skipped += batch.num_rows
                    if fresh.num_rows:
                        done += fresh.num_rows
                        yield fresh
                break
            except MemoryError:
                continue
            except (pa.ArrowException, OSError) as fault:
                raise _corrupt(_first_line(fault)) from fault
        else:
            raise StructureFault("TOO_LARGE", _TOO_LARGE)


def _plain(batch: pa.RecordBatch, dates: set[str]) -> pa.RecordBatch:
    """The same with plain types: text, bytes that are none, whole numbers, decimals, floats, true or false."""
    arrays = []
    for field, array in zip(batch.schema, batch.columns, strict=True):
        try:
            bare = _bare(array)
            try:
                bare.validate(full=True)
            except pa.ArrowInvalid:
                if not pa.types.is_string(bare.type) and not pa.types.is_large_string(bare.type):
                    raise
                # Texts that are not UTF-8, as bytes: those records are rejected, and only those.
                bare = bare.view(pa.binary() if pa.types.is_string(bare.type) else pa.large_binary())
                bare.validate(full=True)
            arrays.append(_value(bare, field.name in dates))
        except MemoryError as fault:
            raise StructureFault("TOO_LARGE", _TOO_LARGE) from fault
        except pa.ArrowException as fault:
            raise _corrupt(f"in the column {field.name[:60]!r}, {_first_line(fault)}") from fault
    return pa.RecordBatch.from_arrays(arrays, names=batch.schema.names)


def _bare(array: pa.Array) -> pa.Array:
    """Without what its type only wraps."""
    while isinstance(array, pa.ExtensionArray):
        array = array.storage
    if pa.types.is_dictionary(array.type):
        return _undictionaried(array)
    return array


def _undictionaried(array: pa.DictionaryArray) -> pa.Array:
    kind = array.type.value_type
    if pa.types.is_string(kind):  # Arrow refuses to write one out that is not UTF-8
        values = pa.DictionaryArray.from_arrays(array.indices, array.dictionary.view(pa.binary()))
        return values.dictionary_decode().view(pa.string())
    return array.dictionary_decode()


def _value(array: pa.Array, date: bool) -> pa.Array:
    kind, types = array.type, pa.types
    if types.is_float16(kind):
        return array.cast(pa.float32())
    if types.is_timestamp(kind):
        return _moment(array, date)
    if types.is_binary(kind) or types.is_large_binary(kind):
        # Writers that know no other name for text (Impala, older Spark) leave it without one.
        try:
            return array.cast(pa.large_string())
        except pa.ArrowInvalid:
            return array
    plain = (
        types.is_string(kind)
        or types.is_large_string(kind)
        or types.is_integer(kind)
        or types.is_floating(kind)
        or types.is_boolean(kind)
        or types.is_decimal128(kind)
    )
    if types.is_decimal256(kind):
        # Polars has none; zeros that the type adds are left out, as the decoder does for others.
        digits = pc.replace_substring_regex(array.cast(pa.large_string()), r"(\.[0-9]*?)0+$", r"\1")
        return pc.replace_substring_regex(digits, r"\.$", "")
    # Dates, times and the like as ISO 8601.
    return array if plain else array.cast(pa.large_string())


def _moment(array: pa.Array, date: bool) -> pa.Array:
    """ISO 8601, without zeros behind the seconds; in a column of dates, one at midnight without a time zone is its date."""
    if array.type.tz is not None:
        array = array.cast(pa.timestamp(array.type.unit, "UTC"))
    text = pc.replace_substring_regex(array.cast(pa.large_string()), r"^(\S+) ", r"\1T")
    text = pc.replace_substring_regex(text, r"(\.[0-9]*?)0+(Z?)$", r"\1\2")
    text = pc.replace_substring_regex(text, r"\.(Z?)$", r"\1")
    return pc.replace_substring_regex(text, r"T00:00:00$", "") if date else text


class _Gathered:
    """Puts records together until they are a batch."""

    def __init__(self, options: InputOptions) -> None:
        self._options = options
        self._parts: list[pa.RecordBatch] = []
        self._rows = self._size = 0

    def add(self, batch: pa.RecordBatch) -> Iterator[pa.Table]:
        """The batches that are full with it."""
        # Records of a batch are about as large as each other, as far as it matters here.
        each = max(batch.nbytes // batch.num_rows, 1)
        while batch.num_rows:
            room = min(self._options.batch_rows - self._rows, max((self._options.batch_bytes - self._size) // each, 1))
            part, batch = batch.slice(0, room), batch.slice(room)
            self._parts.append(part)
            self._rows += part.num_rows
            self._size += part.num_rows * each
            if self._rows >= self._options.batch_rows or self._size + each > self._options.batch_bytes:
                yield from self.rest()

    def rest(self) -> Iterator[pa.Table]:
        """What there is, if there is anything."""
        if self._parts:
            yield _together(self._parts)
            self._parts, self._rows, self._size = [], 0, 0


def _together(parts: list[pa.RecordBatch]) -> pa.Table:
    """One table; a column that is bytes in one part is in all of them."""
    if len({part.schema for part in parts}) > 1:
        fields = []
        for index, name in enumerate(parts[0].schema.names):
            kinds = {part.schema.field(index).type for part in parts}
            fields.append(pa.field(name, parts[0].schema.field(index).type if len(kinds) == 1 else pa.large_binary()))
        schema = pa.schema(fields)
        return pa.Table.from_batches([part.cast(schema) for part in parts]).combine_chunks()
    return pa.Table.from_batches(parts).combine_chunks()
