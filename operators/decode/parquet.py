"""Decode a batch of a Parquet file, as planning made it: every value counts as the text that a CSV would have for it.

So the contract judges typed columns as it judges text: decimals exactly, floats by the shortest text that gives them back.
Where that is certain to make the same value, the text is not made.
"""

import json
from collections.abc import Sequence
from decimal import Decimal

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from jobber.contract import Column, Contract
from jobber.model import Layout
from operators import arrow
from operators.csv_grammar import CR, LF, SPACE, TAB
from operators.decode.json_record import written_out
from operators.frames import CONTROL, MAX_FIELD, MAX_RAW, Decoded, faults_of, is_plain

#: Floats from and below which their texts may have an exponent.
_LONG, _SHORT = 1e6, 1e-3


def decode_parquet(data: bytes, layout: Layout, contract: Contract, first_row: int) -> Decoded:
    """The records of a batch, as `Decoded` says: text, or typed where that is the same."""
    with pa.ipc.open_stream(pa.py_buffer(data)) as reader:
        table = reader.read_all()
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    columns: list[pl.Series] = []
    bad = np.zeros(frame.height, np.bool_)
    faults: list[tuple[int, str | None, str, str]] = []
    for column in contract.columns:
        if column.name not in layout.fields:
            columns.append(pl.Series(column.name, [None] * frame.height, pl.String))
            continue
        name = layout.fields[column.name]
        typed = _same(frame[name], column)
        if typed is not None:
            columns.append(typed.alias(column.name))
            continue
        text, broken = _text(frame[name], column, proved=_is_plain(table[name]))
        columns.append(text.alias(column.name))
        for place, (code, message) in broken.items():
            bad[place] = True
            faults.append((first_row + place, column.name, code, f"{column.name} {message}"))
    records = pl.DataFrame(columns).with_columns(
        pl.Series("row_no", np.arange(first_row, first_row + frame.height), dtype=pl.Int64)
    )
    if faults:
        records = records.filter(pl.Series(~bad))
        faults.sort(key=lambda fault: fault[0])

    def raw(rows: Sequence[int]) -> list[str]:
        return [_shown(record) for record in frame[[row - first_row for row in rows]].iter_rows(named=True)]

    def texts(rows: pl.Series) -> pl.DataFrame:
        wanted = frame[rows - first_row]
        return pl.DataFrame(
            [
                _text(wanted[layout.fields[column.name]], column, proved=True)[0].alias(column.name)
                if column.name in layout.fields
                else pl.Series(column.name, [None] * wanted.height, pl.String)
                for column in contract.columns
            ]
        ).with_columns(rows.alias("row_no"))

    return Decoded(records, faults_of(faults), raw, texts)


def _same(values: pl.Series, column: Column) -> pl.Series | None:
    """The column typed, where each value is certain to be what its text would become; else None."""
    kind = values.dtype
    if column.kind == "boolean":
        return values if kind == pl.Boolean else None
    if column.kind == "number":
        return values if kind == pl.Float64 == column.dtype else None
    if column.kind == "decimal" and kind == pl.Float64:
        return _hundredths(values, column)
    exact = kind.is_integer() or (column.kind == "decimal" and kind.is_decimal() and kind.scale <= column.scale)  # type: ignore[attr-defined]
    if column.kind not in ("integer", "decimal") or not exact:
        return None
    typed = values.cast(column.dtype, strict=False)
    # What does not fit became null.
    return typed if typed.null_count() == values.null_count() else None


def _hundredths(values: pl.Series, column: Column) -> pl.Series | None:
    """Floats as the decimals that they stand for; None when one stands for none of so many digits.

    A decimal of 15 digits survives being a float: the one that comes back to the same float is its shortest text.
    """
    there = values.is_not_null().to_numpy()
    floats = np.where(there, values.to_numpy(), 0)
    unit, most = 10**column.scale, 10 ** min(column.precision, 15)
    with np.errstate(all="ignore"):
        whole = np.rint(floats * unit)
        if not ((whole / unit == floats) & (np.abs(whole) < most)).all():  # NaN is not even like itself
            return None
    # https://arrow.apache.org/docs/format/Columnar.html#fixed-size-primitive-layout: 128 bits each, the low ones first.
    halves = np.empty((values.len(), 2), np.int64)
    halves[:, 0] = whole
    halves[:, 1] = halves[:, 0] >> 63
    validity = None if there.all() else pa.py_buffer(np.packbits(there, bitorder="little"))
    kind = pa.decimal128(column.precision, column.scale)
    typed = pl.from_arrow(pa.Array.from_buffers(kind, values.len(), [validity, pa.py_buffer(halves)]))
    assert isinstance(typed, pl.Series)
    return typed


def raw_of(data: bytes, index: int) -> str:
    """The raw text of one record: a JSON object."""
    return _shown(arrow.from_ipc(data).row(index, named=True))


def _shown(record: dict[str, object]) -> str:
    text = json.dumps({name: _json(value) for name, value in record.items()}, ensure_ascii=False)
    return text if len(text) <= MAX_RAW else text[:MAX_RAW] + "…"


def _json(value: object) -> object:
    if isinstance(value, Decimal):
        return format(value, "f")
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else value


def _is_plain(values: pa.ChunkedArray) -> bool:
    """Whether it is proved, in a tenth of the time that looking at each text takes, that no text of the column is odd."""
    if not pa.types.is_string(values.type) and not pa.types.is_large_string(values.type):
        return False
    for chunk in values.chunks:
        texts = chunk.buffers()[2]
        if texts is None:
            continue
        array = np.frombuffer(texts, np.uint8)
        low = array[array < SPACE]
        if not np.isin(low, (TAB, LF, CR)).all() or not is_plain(texts.to_pybytes()):
            return False
    return bool((pc.max(pc.binary_length(values)).as_py() or 0) <= MAX_FIELD)


def _text(values: pl.Series, column: Column, *, proved: bool) -> tuple[pl.Series, dict[int, tuple[str, str]]]:
    """Each value's text, and by place what is wrong with those that have none."""
    kind = values.dtype
    if kind == pl.String:
        return values, {} if proved else _odd(values)
    if kind == pl.Binary:
        return _decoded(values)
    text = values.cast(pl.String)
    if kind.is_decimal() and column.kind != "text" and kind.scale > (column.scale if column.kind == "decimal" else 0):  # type: ignore[attr-defined]
        # Zeros that the type of the column adds are no decimals of the value.
        keep = max(column.scale, 0) if column.kind == "decimal" else 0
        text = text.str.replace(rf"^(-?[0-9]+\.[0-9]{{{keep}}}[0-9]*?)0+$", "$1").str.strip_suffix(".")
    elif kind.is_float() and column.kind in ("integer", "decimal"):
        text = text.str.strip_suffix(".0")
        size = values.abs()
        places = ((size >= _LONG) | ((size < _SHORT) & (size > 0))).fill_null(False).arg_true()
        places = places.filter(text.gather(places).str.contains("e", literal=True))
        if len(places):
            text = text.scatter(places, [written_out(text[place], column) for place in places.to_list()])
    return text, {}


def _odd(text: pl.Series) -> dict[int, tuple[str, str]]:
    """Texts that no column may hold, by place."""
    found = {place: ("SIZE", f"has more than {MAX_FIELD:,} bytes") for place in _where(text.str.len_bytes() > MAX_FIELD)}
    for place in _where(text.str.contains(CONTROL.pattern)):
        nul = "\0" in text[place]
        found.setdefault(place, ("NUL", "holds a NUL character") if nul else ("CONTROL", "holds a control character"))
    return found


def _where(mask: pl.Series) -> list[int]:
    return mask.fill_null(False).arg_true().to_list()


def _decoded(values: pl.Series) -> tuple[pl.Series, dict[int, tuple[str, str]]]:
    texts: list[str | None] = []
    wrong: dict[int, tuple[str, str]] = {}
    for place, value in enumerate(values.to_list()):
        try:
            texts.append(None if value is None else value.decode())
        except UnicodeDecodeError as fault:
            texts.append(None)
            wrong[place] = "ENCODING", f"is not UTF-8: byte {fault.start + 1} is 0x{value[fault.start]:02X}"
    text = pl.Series(texts, dtype=pl.String)
    return text, {**_odd(text), **wrong}
