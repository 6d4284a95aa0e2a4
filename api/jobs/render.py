"""Blocks of rejects and results as people download them: CSV or NDJSON, in the input's own columns."""

import csv
import io
import json
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from jobber.model import Format, Layout

if TYPE_CHECKING:  # Polars is imported only when there is something to read.
    import polars as pl

#: A spreadsheet takes a cell that begins like this for a formula (OWASP, CSV injection); plain numbers are none.
_FORMULA = r"^[=+\-@\t\r]"
_NUMBER = r"^[+-]?[0-9]+([.,][0-9]+)?$"
#: Records of a block that are made into lines at once: bounds memory, and how long others wait for the interpreter.
RECORDS = 5_000
#: Columns behind those of the input.
_WHY = ("row", "code", "message")


def header(layout: Layout) -> bytes:
    """The first line of a CSV of rejects."""
    out = io.StringIO(newline="")
    names = (f"'{name}" if re.match(_FORMULA, name) and not re.match(_NUMBER, name) else name for name in _columns(layout))
    csv.writer(out, lineterminator="\n").writerow([*names, *_WHY])
    return out.getvalue().encode()


def rejects(block: bytes, layout: Layout, form: Format, first: bool) -> Iterator[bytes]:
    """A line for each rejected record, several at once, behind the header when it is the `first` block.

    Several faults of one record are joined.
    """
    import polars as pl

    from operators.rejects import from_block

    records = (
        from_block(block)
        .group_by("row_no", maintain_order=True)
        .agg(pl.col("code").str.join("; "), pl.col("message").str.join("; "), pl.col("raw").first())
    )
    if first and form is Format.CSV:
        yield header(layout)
    for some in records.iter_slices(RECORDS):
        yield _lines(some, layout, form)


def _lines(records: "pl.DataFrame", layout: Layout, form: Format) -> bytes:
    names = _columns(layout)
    if form is Format.CSV:
        return _csv(_cells(records, layout, names), len(names))
    if layout.format is Format.CSV and not set(names) & set(_WHY):
        return _ndjson(_cells(records, layout, names), names)
    out = io.StringIO()
    for row, code, message, raw in records.select("row_no", "code", "message", "raw").iter_rows():
        values = _values(raw, layout, names)
        out.write(json.dumps({**values, "row": row, "code": code, "message": message}, ensure_ascii=False) + "\n")
    return out.getvalue().encode()


def results(block: bytes, form: Format, first: bool) -> bytes:
    """What a job computed."""
    from operators.arrow import from_ipc

    frame = from_ipc(block).rename({"row_no": "row"})
    out = io.BytesIO()
    if form is Format.CSV:
        frame.write_csv(out, include_header=first)
    else:
        frame.write_ndjson(out)
    return out.getvalue()


def _cells(records: "pl.DataFrame", layout: Layout, names: Sequence[str]) -> "pl.DataFrame":
    """`row_no`, `code`, `message`, and as text the record's value in each column, named by its number."""
    import polars as pl

    kept = ("row_no", "code", "message")
    numbers = [str(number) for number in range(len(names))]
    apart = pl.lit(False)
    if layout.format is Format.CSV:
        # What no quote holds together is taken apart at once, forty times as fast as by the record.
        apart = ~pl.col("raw").str.contains_any([layout.quote, "\r", "\n"]) & (
            pl.col("raw").str.count_matches(layout.delimiter, literal=True) < len(names)
        )
    whole = records.filter(~apart)
    raws = whole["raw"].to_list()
    if layout.format is Format.CSV:
        texts = _taken_apart(raws, layout, len(names))
    else:
        texts = [_texts(_values(raw, layout, names), names) for raw in raws]
    others = pl.DataFrame(texts, schema=dict.fromkeys(numbers, pl.String), orient="row")
    parts = [whole.select(kept).hstack(others)]
    if layout.format is Format.CSV:
        split = pl.col("raw").str.split_exact(layout.delimiter, len(names) - 1).struct.rename_fields(numbers)
        parts.append(records.filter(apart).select(*kept, split.alias("cells")).unnest("cells").fill_null(""))
    return pl.concat(parts).sort("row_no")


def _csv(cells: "pl.DataFrame", columns: int) -> bytes:
    """Cells that no spreadsheet takes for a formula."""
    import polars as pl

    texts = pl.col(*map(str, range(columns)), "message")
    formula = texts.str.contains(_FORMULA) & ~texts.str.contains(_NUMBER)
    out = io.BytesIO()
    # Polars writes an empty text with quotes, and a null without.
    harmless = pl.when(formula).then(pl.lit("'") + texts).when(texts != "").then(texts)
    frame = cells.with_columns(harmless.name.keep())
    frame.select(*map(str, range(columns)), "row_no", "code", "message").write_csv(out, include_header=False)
    return out.getvalue()


def _ndjson(cells: "pl.DataFrame", names: Sequence[str]) -> bytes:
    out = io.BytesIO()
    columns = {str(number): name for number, name in enumerate(names)}
    cells.select(*columns, "row_no", "code", "message").rename({**columns, "row_no": "row"}).write_ndjson(out)
    return out.getvalue()


def _columns(layout: Layout) -> Sequence[str]:
    return layout.columns or tuple(layout.fields.values()) or ("raw",)


def _taken_apart(raws: Sequence[str], layout: Layout, columns: int) -> list[list[str]]:
    """The cells of each record of a CSV, as far as its raw text can still be taken apart."""

    def read(some: Sequence[str]) -> list[list[str]]:
        return list(csv.reader(some, delimiter=layout.delimiter, quotechar=layout.quote))

    try:
        records = read(raws)
    except csv.Error:
        records = []
    # A quote that is left open takes the next record in: then there are fewer.
    if len(records) != len(raws):
        records = []
        for raw in raws:
            try:
                records.append(next(iter(read([raw])), []))
            except csv.Error:
                records.append([raw])
    for number, cells in enumerate(records):
        if len(cells) > columns:  # a long row: what is too much stays visible in the last column
            records[number] = [*cells[: columns - 1], layout.delimiter.join(cells[columns - 1 :])]
        elif len(cells) < columns:
            records[number] = [*cells, *[""] * (columns - len(cells))]
    return records


def _values(raw: str, layout: Layout, names: Sequence[str]) -> dict[str, Any]:
    """The record's values by input column, as far as its raw text can still be taken apart."""
    if layout.format is Format.CSV:
        return dict(zip(names, _taken_apart([raw], layout, len(names))[0], strict=True))
    try:
        record = json.loads(raw, parse_int=str, parse_float=str)
    except (ValueError, RecursionError):
        record = None
    if not isinstance(record, dict):
        return {**dict.fromkeys(names, ""), "raw": raw} if "raw" not in names else {"raw": raw}
    return {name: record.get(name) for name in names}


def _texts(values: dict[str, Any], names: Sequence[str]) -> list[str]:
    """As cells; what cannot be taken apart stays visible in the first one."""
    if "raw" in values and "raw" not in names:
        return [values["raw"], *[""] * (len(names) - 1)]
    return [value if isinstance(value, str) else _text(value) for value in values.values()]


def _text(value: object) -> str:
    return "" if value is None else json.dumps(value, ensure_ascii=False)
