"""Arrow -> rows of PostgreSQL's COPY BINARY, by pgpq. Blocking, and to be called in a thread."""

import uuid
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pgpq
import pyarrow as pa
from psycopg import sql

from api.products.model import Header
from jobber.errors import InvalidData

#: Any of Arrow's layouts for text; Polars writes the last one.
TEXT = (pa.string(), pa.large_string(), pa.string_view())

#: What the executor sends for the target `products`, in any order. Types are exact: PostgreSQL takes the bytes as they are, and
#: an Int64 in an `integer` breaks the COPY.
COLUMNS: dict[str, Sequence[pa.DataType]] = {
    "name": TEXT,
    "category": TEXT,
    "price": (pa.decimal128(12, 2),),
    "stock": (pa.int32(),),
    "rating": (pa.decimal128(3, 2),),
    "description": TEXT,
    "row_no": (pa.int64(),),
}

#: What staged rows have besides: the record's text, for rejects that are found when they are published.
STAGED: dict[str, Sequence[pa.DataType]] = {**COLUMNS, "raw": TEXT}


def copy_into(table: sql.Identifier, columns: Iterable[str] = COLUMNS) -> sql.Composed:
    """The statement that takes what `encode` makes."""
    names = sql.SQL(", ").join(map(sql.Identifier, ("id", "job_id", "batch_no", *columns)))
    return sql.SQL("COPY {} ({}) FROM STDIN (FORMAT binary)").format(table, names)


#: Where rows are written that need not wait.
PRODUCTS = sql.Identifier("products", "products")


#: https://www.postgresql.org/docs/18/sql-copy.html, "File Header" (signature, no flags, no extension) and "File Trailer".
COPY_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
COPY_TRAILER = b"\xff\xff"

#: Rows of one call to pgpq, which holds the interpreter's lock for them: some 1 ms.
SLICE = 8192
#: Text of one batch. A view may show the same megabyte in every row, so that the size of the stream says little.
MAX_TEXT_BYTES = 64 << 20
#: A stream that is larger in memory than on the wire was compressed, and its size was no bound.
MAX_GROWTH = 64 << 10


def encode(stream: bytes, header: Header, first_id: int) -> list[bytes]:
    """The rows of the batch, numbered from `first_id`, without COPY's header and trailer, in pieces as they came.

    Raises InvalidData when the stream is not Arrow IPC of exactly COLUMNS (STAGED) with as many rows as the header says.
    """
    columns = STAGED if header.staged else COLUMNS
    job_id = uuid.UUID(header.key.job_id).bytes
    parts: list[bytes] = []
    try:
        for records in _records(stream, header, columns):
            count = records.num_rows
            lineage = [
                pa.array(np.arange(first_id, first_id + count, dtype=np.int64)),
                # 16 bytes are what uuid_recv reads.
                pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), count, [None, pa.py_buffer(job_id * count)]),
                pa.array(np.full(count, header.key.batch_no, np.int32)),
            ]
            rows = pa.record_batch([*lineage, *records.columns], names=["id", "job_id", "batch_no", *columns])
            encoder = pgpq.ArrowToPostgresBinaryEncoder(rows.schema)
            encoder.write_header()
            # pgpq answers rows when it likes, the last ones together with the trailer.
            parts += (encoder.write_batch(rows), encoder.finish().removesuffix(COPY_TRAILER))
            first_id += count
    # Arrow raises its own kinds for what it cannot read, all of them ValueErrors or one of these.
    except (pa.ArrowException, ValueError, OSError, KeyError) as fault:
        raise InvalidData(f"The rows of batch {header.key.batch_no} are not a valid Arrow stream: {fault}") from fault
    return [part for part in parts if part]


def _records(stream: bytes, header: Header, columns: dict[str, Sequence[pa.DataType]]) -> Iterator[pa.RecordBatch]:
    """Slices of the stream's records, with the columns in the order of `columns`."""
    source = pa.BufferReader(stream)
    with pa.ipc.open_stream(source) as reader:
        _check_schema(reader.schema, header, columns)
        table = reader.read_all()
    if source.tell() != len(stream):
        raise InvalidData(
            f"The Arrow stream of batch {header.key.batch_no} has {len(stream) - source.tell()} bytes after its end."
        )
    if table.num_rows != header.rows:
        raise InvalidData(f"Batch {header.key.batch_no} has {table.num_rows} rows, and its header says {header.rows}.")
    if table.get_total_buffer_size() > len(stream) + MAX_GROWTH:
        raise InvalidData(f"The Arrow stream of batch {header.key.batch_no} is compressed; send it as it is.")
    # Offsets that point out of the buffers would make pgpq read foreign memory.
    table.validate(full=True)
    text = sum(_viewed(chunk) for name, kinds in columns.items() if kinds is TEXT for chunk in table[name].chunks)
    if text > MAX_TEXT_BYTES:
        raise InvalidData(f"Batch {header.key.batch_no} has {text:,} bytes of text; at most {MAX_TEXT_BYTES:,} are taken.")
    if table["row_no"].null_count:
        raise InvalidData(f"Batch {header.key.batch_no} has rows without a row_no.")
    yield from table.select(list(columns)).to_batches(max_chunksize=SLICE)


def _viewed(chunk: pa.Array) -> int:
    """Bytes of text that a chunk of views shows; other layouts show each byte of the stream at most once."""
    if chunk.type != pa.string_view() or not len(chunk):
        return 0
    # https://arrow.apache.org/docs/format/Columnar.html#variable-size-binary-view-layout: 16 bytes each, the length first.
    views = np.frombuffer(chunk.buffers()[1], np.int32).reshape(-1, 4)[chunk.offset : chunk.offset + len(chunk)]
    lengths = np.where(chunk.is_valid().to_numpy(zero_copy_only=False), views[:, 0], 0)
    return int(lengths.sum(dtype=np.int64))


def _check_schema(schema: pa.Schema, header: Header, columns: dict[str, Sequence[pa.DataType]]) -> None:
    if sorted(schema.names) != sorted(columns):
        raise InvalidData(f"Batch {header.key.batch_no} has the columns {_shown(schema.names)}, not {_shown(columns)}.")
    for name, kinds in columns.items():
        kind = schema.field(name).type
        if kind not in kinds:
            raise InvalidData(f"Column {name} of batch {header.key.batch_no} is {kind}; {kinds[-1]} is needed.")


def _shown(names: Iterable[str]) -> str:
    """A list for a message, however long it came."""
    return ", ".join(names)[:500]
