"""Rejects and results as people read them: pages, groups, and downloads that are streamed block by block."""

import asyncio
import csv
import io
import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from api.jobs.store import Store
from jobber.errors import InvalidState
from jobber.model import Format, Layout

#: Blocks read from the database at once: bounds memory, whatever the number of rejects.
BLOCKS = 8
#: A spreadsheet takes a cell that begins like this for a formula (OWASP, CSV injection); plain numbers are none.
_FORMULA = re.compile(r"^[=+\-@\t\r]")
_NUMBER = re.compile(r"^[+-]?[0-9]+([.,][0-9]+)?$")


@dataclass(frozen=True, slots=True)
class Fault:
    """One broken rule of one record."""

    row: int
    column: str | None
    code: str
    message: str
    #: The record as it stood in the input.
    raw: str
    #: Place in the job's rejects: batch and index within its block.
    batch_no: int
    index: int


@dataclass(frozen=True, slots=True)
class Group:
    """How often a rule was broken."""

    code: str
    column: str | None
    count: int
    sample: Fault


class Rejects:
    """Reads the blocks of a job's receipts."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def page(self, job_id: str, first: int, after: tuple[int, int] | None) -> tuple[list[Fault], bool]:
        """Up to `first` faults from behind `after`, by row; and whether there are more."""
        batch_no, index = after if after else (-1, -1)
        found: list[Fault] = []
        async for fault in self._faults(job_id, batch_no - (1 if after else 0)):
            if after and (fault.batch_no, fault.index) <= (batch_no, index):
                continue
            found.append(fault)
            if len(found) > first:
                break
        return found[:first], len(found) > first

    async def count(self, job_id: str) -> int:
        """How many faults the job's rejects have."""
        return sum(group.count for group in await self.groups(job_id))

    async def groups(self, job_id: str) -> list[Group]:
        """Faults counted by code and column, most frequent first, each with the first one met."""
        counts: Counter[tuple[str, str | None]] = Counter()
        samples: dict[tuple[str, str | None], Fault] = {}
        async for batch_no, block in self._blocks(job_id, "rejects", -1):
            for key, count, sample in await asyncio.to_thread(_grouped, batch_no, block):
                counts[key] += count
                samples.setdefault(key, sample)
        return [Group(code, column, count, samples[code, column]) for (code, column), count in counts.most_common()]

    async def download(self, job_id: str, kind: Literal["rejects", "results"], form: Format) -> AsyncIterator[bytes]:
        """The rejects (a line for each rejected record, in the input's own columns) or results, as CSV or NDJSON."""
        raw_layout = await self._store.layout(job_id)
        layout = msgspec.json.decode(raw_layout, type=Layout) if raw_layout else Layout(format=Format.JSON)
        render: Callable[[bytes, bool], bytes]
        if kind == "results":
            render = lambda block, header: _results(block, form, header)  # noqa: E731
        else:
            render = lambda block, header: _rejects(block, layout, form, header)  # noqa: E731
        header = True
        async for _, block in self._blocks(job_id, kind, -1):
            yield await asyncio.to_thread(render, block, header)
            header = False
        if header and form is Format.CSV:
            yield _line([*layout.columns, "row", "code", "message"] if kind == "rejects" else ["row"])

    async def whole_texts(self, job_id: str) -> AsyncIterator[list[str]]:
        """The rejected records' raw texts in the order of the input, each once.

        Raises InvalidState at the first one that is not kept as it stood: it was cut, or holds bytes that are no text.
        """
        async for _, block in self._blocks(job_id, "rejects", -1):
            yield await asyncio.to_thread(_whole, block)

    async def _blocks(self, job_id: str, kind: Literal["rejects", "results"], after: int) -> AsyncIterator[tuple[int, bytes]]:
        while True:
            blocks = await self._store.blocks(job_id, kind, after, BLOCKS)
            for number, block in blocks:
                yield number, block
            if len(blocks) < BLOCKS:
                return
            after = blocks[-1][0]

    async def _faults(self, job_id: str, after: int) -> AsyncIterator[Fault]:
        async for batch_no, block in self._blocks(job_id, "rejects", after):
            for fault in await asyncio.to_thread(_decoded, batch_no, block):
                yield fault


def _frame(block: bytes) -> Any:
    """Polars is imported only when there is something to read."""
    from operators.rejects import from_block

    return from_block(block).sort("row_no", maintain_order=True)


def _whole(block: bytes) -> list[str]:
    import polars as pl

    from operators.frames import MAX_RAW

    frame = _frame(block)
    lost = frame.filter((pl.col("code") == "ENCODING") | (pl.col("raw").str.len_chars() > MAX_RAW))
    if lost.height:
        raise InvalidState(f"Row {lost['row_no'][0]:,} is not kept as it stood in the input; download, correct and upload it.")
    texts: list[str] = frame.unique("row_no", keep="first", maintain_order=True)["raw"].to_list()
    return texts


def _decoded(batch_no: int, block: bytes) -> list[Fault]:
    rows = _frame(block).select("row_no", "column", "code", "message", "raw").iter_rows()
    return [
        Fault(row_no, column, code, message, raw, batch_no, index)
        for index, (row_no, column, code, message, raw) in enumerate(rows)
    ]


def _grouped(batch_no: int, block: bytes) -> list[tuple[tuple[str, str | None], int, Fault]]:
    import polars as pl

    grouped = (
        _frame(block)
        .with_row_index("index")
        .group_by("code", "column", maintain_order=True)
        .agg(pl.len().alias("count"), pl.col("index", "row_no", "message", "raw").first())
        .select("code", "column", "count", "row_no", "message", "raw", "index")
    )
    return [
        ((code, column), count, Fault(row_no, column, code, message, raw, batch_no, index))
        for code, column, count, row_no, message, raw, index in grouped.iter_rows()
    ]


def _rejects(block: bytes, layout: Layout, form: Format, header: bool) -> bytes:
    """One line for each rejected record; several faults of one are joined."""
    import polars as pl

    records = (
        _frame(block)
        .group_by("row_no", maintain_order=True)
        .agg(pl.col("code").str.join("; "), pl.col("message").str.join("; "), pl.col("raw").first())
    )
    out = io.StringIO(newline="")
    names = _columns(layout)
    writer = csv.writer(out, lineterminator="\n")
    if header and form is Format.CSV:
        writer.writerow([*map(_cell, names), "row", "code", "message"])
    for row, code, message, raw in records.select("row_no", "code", "message", "raw").iter_rows():
        values = _values(raw, layout, names)
        if form is Format.CSV:
            cells = [_cell(value if isinstance(value, str) else _text(value)) for value in values.values()]
            writer.writerow([*cells, row, code, _cell(message)])
        else:
            out.write(json.dumps({**values, "row": row, "code": code, "message": message}, ensure_ascii=False) + "\n")
    return out.getvalue().encode()


def _columns(layout: Layout) -> Sequence[str]:
    return layout.columns or tuple(layout.fields.values()) or ("raw",)


def _values(raw: str, layout: Layout, names: Sequence[str]) -> dict[str, Any]:
    """The record's values by input column, as far as its raw text can still be taken apart."""
    if layout.format is Format.CSV:
        try:
            cells = next(csv.reader([raw], delimiter=layout.delimiter, quotechar=layout.quote), [])
        except csv.Error:
            cells = [raw]
        if len(cells) > len(names):  # a long row: what is too much stays visible in the last column
            cells = [*cells[: len(names) - 1], layout.delimiter.join(cells[len(names) - 1 :])]
        return dict(zip(names, [*cells, *[""] * (len(names) - len(cells))], strict=True))
    try:
        record = json.loads(raw, parse_int=str, parse_float=str)
    except (ValueError, RecursionError):
        record = None
    if not isinstance(record, dict):
        return {**dict.fromkeys(names, ""), "raw": raw} if "raw" not in names else {"raw": raw}
    return {name: record.get(name) for name in names}


def _results(block: bytes, form: Format, header: bool) -> bytes:
    from operators.arrow import from_ipc

    frame = from_ipc(block).rename({"row_no": "row"})
    out = io.BytesIO()
    if form is Format.CSV:
        frame.write_csv(out, include_header=header)
    else:
        frame.write_ndjson(out)
    return out.getvalue()


def _line(cells: Sequence[str]) -> bytes:
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator="\n").writerow(cells)
    return out.getvalue().encode()


def _text(value: object) -> str:
    return "" if value is None else json.dumps(value, ensure_ascii=False)


def _cell(text: str) -> str:
    """A cell that no spreadsheet takes for a formula."""
    return "'" + text if _FORMULA.match(text) and not _NUMBER.match(text) else text
