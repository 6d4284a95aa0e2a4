"""Planning: cut an input into batches of whole records, in one streaming pass. A broken structure is found here."""

import json
from collections.abc import Iterable, Iterator

from msgspec import structs

from jobber.contract import Contract
from jobber.digest import digest_of
from jobber.errors import StructureFault
from jobber.model import Format, InputOptions, Layout, Plan, PlannedBatch
from operators.plan.buffer import Buffer, Cut, Piece
from operators.plan.columns import fitted
from operators.plan.csv import plan_csv
from operators.plan.detect import detect, record_line
from operators.plan.json_array import plan_json, small_array
from operators.plan.keys import LOOK, first_keys
from operators.plan.ndjson import plan_ndjson
from operators.plan.parquet import parquet_pieces

__all__ = ["Piece", "parquet_pieces", "pieces", "plan", "plan_records", "warnings_of"]

_PLANNERS = {Format.CSV: plan_csv, Format.NDJSON: plan_ndjson, Format.JSON: plan_json}


def plan(windows: Iterable[bytes], contract: Contract, options: InputOptions) -> Plan:
    """The plan of an input that can be read in parts as it is: its batches are ranges of its own bytes.

    It is given as windows of bytes, cut anywhere. Batches hold whole records, about `options.batch_bytes` each and at most
    `options.batch_rows`; memory stays within a few windows. Raises StructureFault when the input as a whole cannot be loaded.
    """
    layout, batches = None, []
    for step in pieces(windows, contract, options):
        if isinstance(step, Layout):
            layout = step
        else:
            digest = digest_of(step.data)
            batches.append(PlannedBatch(step.offset, len(step.data), step.first_row, step.rows, digest, step.plain))
    assert layout is not None
    return Plan(layout, tuple(batches), warnings_of(layout))


def plan_records(text: bytes, contract: Contract, options: InputOptions) -> Plan:
    """The plan of records that came with a submission, as `plan` makes it, but quick where they are few."""
    options = structs.replace(options, format=Format.JSON)
    cut = small_array(text, options)
    if cut is None:
        return plan([text], contract, options)
    data = text[cut.start : cut.stop]
    layout = fitted(Layout(format=Format.JSON, columns=first_keys(data[:LOOK])), contract, options)
    batches = (PlannedBatch(cut.start, len(data), 1, cut.rows, digest_of(data)),) if cut.rows else ()
    return Plan(layout, batches, warnings_of(layout))


def pieces(windows: Iterable[bytes], contract: Contract, options: InputOptions) -> Iterator[Layout | Piece]:
    """The layout of a text in UTF-8, then its batches one by one. Raises StructureFault."""
    buffer = Buffer(windows)
    form = detect(buffer, options)
    # A survey needs no such look: with a record's quotes it is no regular CSV.
    line = record_line(buffer.bytes()[:LOOK]) if form is not Format.NDJSON else None
    try:
        for step in cuts(buffer, options, form):
            if isinstance(step, Layout):
                yield fitted(step, contract, options)
            elif (piece := buffer.take(step)) is not None:
                yield piece
    except StructureFault as fault:
        if line is None:
            raise
        raise StructureFault(fault.fault, f"{fault.message} {_as_lines(line)}") from fault


def cuts(buffer: Buffer, options: InputOptions, form: Format) -> Iterator[Layout | Cut]:
    """The columns of a text in UTF-8, whatever the contract, then its batches, each to be taken from the buffer.

    Raises StructureFault.
    """
    return _PLANNERS[form](buffer, options)


def warnings_of(layout: Layout) -> tuple[str, ...]:
    """Sentences for the submitter about what an input with this layout has beyond the contract, or instead of it."""
    warnings = []
    unknown = [name for name in layout.columns if name not in layout.fields.values()]
    if unknown:
        shown = ", ".join(repr(name[:60]) for name in unknown[:20]) + (", …" if len(unknown) > 20 else "")
        warnings.append(f"Ignored columns that the contract does not have: {shown}.")
    if layout.near:
        lacks, has = (", ".join(map(repr, names)) for names in (layout.near, layout.near.values()))
        mapping = json.dumps(layout.near, ensure_ascii=False)
        warnings.append(
            f"The first record has no {lacks}, which is required. "
            f"If {has} is meant, the option mapping {mapping} would load it."
        )
    return tuple(warnings)


def _as_lines(line: int) -> str:
    return f'Line {line} is a record by itself, as in NDJSON: the option format "NDJSON" would load it.'
