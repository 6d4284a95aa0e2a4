"""Planning: cut an input into batches of whole records, in one streaming pass. A broken structure is found here."""

from collections.abc import Iterable

from jobber.contract import Contract
from jobber.model import Format, InputOptions, Layout, Plan
from operators.plan.buffer import Buffer
from operators.plan.csv import plan_csv
from operators.plan.detect import detect
from operators.plan.json_array import plan_json
from operators.plan.ndjson import plan_ndjson

__all__ = ["plan"]

_PLANNERS = {Format.CSV: plan_csv, Format.NDJSON: plan_ndjson, Format.JSON: plan_json}


def plan(windows: Iterable[bytes], contract: Contract, options: InputOptions) -> Plan:
    """The plan of an input that is given as windows of bytes, cut anywhere.

    Batches hold whole records, about `options.batch_bytes` each and at most `options.batch_rows`; memory stays within a few
    windows. Raises StructureFault when the input as a whole cannot be loaded.
    """
    buffer = Buffer(windows)
    form = detect(buffer, options)
    layout, batches = None, []
    for step in _PLANNERS[form](buffer, contract, options):
        if isinstance(step, Layout):
            layout = step
            continue
        batch = buffer.take(step)
        if batch is not None:
            batches.append(batch)
    assert layout is not None
    return Plan(layout, tuple(batches), _warnings(layout))


def _warnings(layout: Layout) -> tuple[str, ...]:
    unknown = [name for name in layout.columns if name not in layout.fields.values()]
    if not unknown:
        return ()
    shown = ", ".join(repr(name[:60]) for name in unknown[:20]) + (", …" if len(unknown) > 20 else "")
    return (f"Ignored columns that the contract does not have: {shown}.",)
