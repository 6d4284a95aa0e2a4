"""Decoding: the bytes of a batch become text records; those that cannot be taken apart become faults."""

from jobber.contract import Contract
from jobber.model import Format, Layout
from operators.decode.csv import decode_csv
from operators.decode.json import decode_json
from operators.decode.parquet import decode_parquet
from operators.frames import Decoded

__all__ = ["Decoded", "decode"]


def decode(data: bytes, layout: Layout, contract: Contract, first_row: int, plain: int | None = None) -> Decoded:
    """The records of a planned batch, numbered from `first_row`; never raises for what is in them.

    `plain` is the number of records of a batch that planning found to be plain (model.PlannedBatch): it is taken apart faster.
    """
    if layout.format is Format.CSV:
        return decode_csv(data, layout, contract, first_row, plain)
    if layout.format is Format.PARQUET:
        return decode_parquet(data, layout, contract, first_row)
    return decode_json(data, layout, contract, first_row)
