"""What becomes of an input when it goes through planning, decoding, checking and enriching, as a job's batches do."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from jobber.contract import Contract
from jobber.errors import StructureFault
from jobber.job import discover, find
from jobber.model import InputOptions
from operators.check import check
from operators.decode import decode
from operators.enrich import enrich
from operators.plan import plan

discover()
CHARGES: Mapping[str, Mapping[str, str]] = {"charges": {"Books": "1.50"}}


@dataclass(frozen=True)
class Outcome:
    """Rows by number, faults by row; or why the file as a whole does not load."""

    loaded: dict[int, dict[str, Any]]
    faults: list[tuple[int, str | None, str]]
    raw: dict[int, str]
    fault: str | None = None
    message: str = ""
    warnings: tuple[str, ...] = ()
    batches: int = 0

    @property
    def rejected(self) -> list[int]:
        """Numbers of the rejected rows."""
        return sorted({row for row, _, _ in self.faults})


def outcome(data: bytes, *, window: int = 8 << 20, name: str = "LoadProducts", **options: Any) -> Outcome:
    """Run the input through all steps; `window` is how it is cut on the way to planning."""
    kind = find(name)
    contract = Contract.of(kind.contract)
    windows = [data[start : start + window] for start in range(0, len(data), window)]
    try:
        made = plan(windows, contract, InputOptions(**options))
    except StructureFault as fault:
        return Outcome({}, [], {}, fault.fault, fault.message)
    loaded: dict[int, dict[str, Any]] = {}
    faults: list[tuple[int, str | None, str]] = []
    raw: dict[int, str] = {}
    row = 1
    for batch in made.batches:
        assert batch.first_row == row
        row += batch.rows
        decoded = decode(data[batch.offset : batch.offset + batch.length], made.layout, contract, batch.first_row)
        checked = check(decoded.records, contract)
        enriched = enrich(checked.kept, kind.decode_args(b"{}"), CHARGES)
        broken = pl.concat([decoded.faults, checked.faults, enriched.faults])
        faults += [(row_no, column, code) for row_no, column, code, _ in broken.iter_rows()]
        numbers = broken["row_no"].unique().sort().to_list()
        raw.update(zip(numbers, decoded.raw(numbers), strict=True))
        loaded.update({item.pop("row_no"): item for item in enriched.kept.iter_rows(named=True)})
        assert sorted({*numbers, *(n for n in loaded if n >= batch.first_row)}) == list(range(batch.first_row, row))
    return Outcome(loaded, sorted(faults, key=lambda item: item[0]), raw, warnings=made.warnings, batches=len(made.batches))
