"""What becomes of an input when it goes through planning, decoding, checking and enriching, as a job's batches do."""

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import polars as pl
from blake3 import blake3

from jobber.contract import Contract
from jobber.errors import StructureFault
from jobber.job import discover, find
from jobber.model import InputOptions, Layout, Plan, PlannedBatch
from operators import rejects
from operators.check import check
from operators.decode import Decoded, decode
from operators.enrich import enrich
from operators.opening import opened
from operators.pack import Packing, unpack
from operators.plan import parquet_pieces, pieces, plan

discover()
CHARGES: Mapping[str, Mapping[str, str]] = {"charges": {"Books": "1.50"}}


@dataclass(frozen=True)
class Outcome:
    """Rows by number, faults by row; or why the file as a whole does not load."""

    loaded: dict[int, dict[str, Any]] = field(default_factory=dict)
    faults: list[tuple[int, str | None, str]] = field(default_factory=list)
    raw: dict[int, str] = field(default_factory=dict)
    #: Of the faults, in their order.
    messages: list[str] = field(default_factory=list)
    fault: str | None = None
    message: str = ""
    warnings: tuple[str, ...] = ()
    #: Rows of each batch.
    batches: tuple[int, ...] = ()

    @property
    def names(self) -> list[str]:
        """The products' names, in the input's order."""
        return [row["name"] for row in self.loaded.values()]

    @property
    def codes(self) -> list[str]:
        """Codes of all faults."""
        return [code for _, _, code in self.faults]

    @property
    def rejected(self) -> list[int]:
        """Numbers of the rejected rows."""
        return sorted({row for row, _, _ in self.faults})


def planned(
    data: bytes, *, window: int = 8 << 20, name: str = "LoadProducts", limit: int = 1 << 40, **options: Any
) -> tuple[Plan, bytes]:
    """The plan and the bytes that it refers to, held against its promises: whole records in order, none twice."""
    asked, contract = InputOptions(**options), Contract.of(find(name).contract)
    windows = (data[start : start + window] for start in range(0, len(data), window))
    text = opened(windows, asked, limit)
    if text.as_it_is and not text.parquet:
        made = plan(text.windows, contract, asked)
    else:
        if text.parquet:
            steps = parquet_pieces(io.BytesIO(b"".join(text.windows)), contract, asked, limit, lambda: None)
        else:
            steps = pieces(text.windows, contract, asked)
        packing = Packing(steps, text.encoding)
        data = b"".join(packing)
        made = packing.plan("plans/1")
        assert (made.blob_key is None) is (not made.batches)
    assert made.layout.packed is (text.parquet or not text.as_it_is)
    end, row = 0, 1
    for batch in made.batches:
        assert batch.offset >= end
        assert batch.first_row == row
        assert 0 < batch.rows <= asked.batch_rows
        end, row = batch.offset + batch.length, row + batch.rows
        assert batch.digest == blake3(data[batch.offset : end]).digest()
    assert end <= len(data)
    assert made.rows == row - 1
    return made, data


def both_ways(data: bytes, batch: PlannedBatch, layout: Layout, contract: Contract) -> Decoded:
    """The records of the batch; a plain one must come out the same when it is not known to be plain."""
    part = data[batch.offset : batch.offset + batch.length]
    if layout.packed:
        part = unpack(part)
    looked = decode(part, layout, contract, batch.first_row)
    if not batch.plain:
        return looked
    decoded = decode(part, layout, contract, batch.first_row, batch.rows)
    assert decoded.records.equals(looked.records)
    assert decoded.faults.equals(looked.faults)
    rows = decoded.records["row_no"].to_list()
    assert decoded.raw(rows) == looked.raw(rows)
    return decoded


def outcome(data: bytes, *, window: int = 8 << 20, name: str = "LoadProducts", **options: Any) -> Outcome:
    """Run the input through all steps; `window` is how it is cut on the way to planning. Each record must end exactly once."""
    kind = find(name)
    contract = Contract.of(kind.contract)
    try:
        made, data = planned(data, window=window, name=name, **options)
    except StructureFault as fault:
        return Outcome(fault=fault.fault, message=fault.message)
    found = Outcome(warnings=made.warnings, batches=tuple(batch.rows for batch in made.batches))
    for batch in made.batches:
        decoded = both_ways(data, batch, made.layout, contract)
        checked = check(decoded.records, contract, decoded.text)
        if decoded.text:  # types make no difference to what its texts would get
            by_text = check(decoded.text(decoded.records["row_no"]), contract)
            assert checked.kept.equals(by_text.kept)
            assert checked.faults.equals(by_text.faults)
        enriched = enrich(checked.kept, kind.decode_args(b"{}"), CHARGES)
        broken = pl.concat([decoded.faults, checked.faults, enriched.faults])
        kept = enriched.kept["row_no"].to_list()
        assert kept == sorted(kept)
        assert sorted([*kept, *set(broken["row_no"])]) == list(range(batch.first_row, batch.first_row + batch.rows))
        found.loaded.update({item.pop("row_no"): item for item in enriched.kept.iter_rows(named=True)})
        block = rejects.to_block(broken, decoded.raw)
        for row_no, column, code, message, raw in rejects.from_block(block).iter_rows() if block else ():
            found.faults.append((row_no, column, code))
            found.messages.append(message)
            found.raw[row_no] = raw
    return found
