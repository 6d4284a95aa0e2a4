"""Each reject has the number of its record in the input, however many batches and lines come before it."""

import gzip
import random
from collections.abc import Callable

import pytest

from tests.support.outcome import outcome

ROWS = 3_000


def sprinkled(seed: int, rows: int = ROWS) -> set[int]:
    """Rows that are bad: the first and the last, some beside each other, and far apart."""
    dice = random.Random(seed)
    start = dice.randrange(2, rows - 20)
    return {1, rows, *range(start, start + 5), *dice.sample(range(1, rows + 1), 40)}


def csv_of(bad: set[int], quoted: bool) -> bytes:
    """With records of several lines, blank lines, line ends of both kinds; bad in one way after the other."""
    kinds = (b"P%d,none", b"P%d", b"P%d,1,2", b'P"%d,1', b"\xff%d,1")
    lines = [b"name,price"]
    for row in range(1, ROWS + 1):
        name = b'"P\n%d"' if quoted and row % 3 == 0 else b"P%d"
        lines.append((kinds[row % len(kinds)] if row in bad else name + b",1") % row)
        if row % 7 == 0:
            lines.append(b"")
    return b"".join(line + (b"\r\n" if number % 5 == 0 else b"\n") for number, line in enumerate(lines))


def ndjson_of(bad: set[int]) -> bytes:
    kinds = (b'{"name": "P%d", "price": "x"}', b"{bad %d", b"[%d]", b'{"name": "P%d"}')
    good = b'{"name": "P%d", "price": 1}'
    return b"\n\n".join((kinds[row % len(kinds)] if row in bad else good) % row for row in range(1, ROWS + 1))


def json_of(bad: set[int]) -> bytes:
    kinds = (b'{"name": "P%d", "price": "x"}', b"[%d]", b'{"name": "P%d"}', b'{"name": "],[%d", "price": -1}')
    good = b'{"name": "],[ P%d", "price": 1}'
    records = ((kinds[row % len(kinds)] if row in bad else good) % row for row in range(1, ROWS + 1))
    return b"[\n" + b"\n,\n".join(records) + b"]\n"


WRITERS: dict[str, Callable[[set[int]], bytes]] = {
    "CSV": lambda bad: csv_of(bad, quoted=False),
    "CSV, quoted": lambda bad: csv_of(bad, quoted=True),
    "CSV, gzip": lambda bad: gzip.compress(csv_of(bad, quoted=True), 1),
    "NDJSON": ndjson_of,
    "JSON": json_of,
    "JSON, gzip": lambda bad: gzip.compress(json_of(bad), 1),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_row_numbers_are_right_to_the_row(kind: str) -> None:
    bad = sprinkled(len(kind))
    # Told, as two broken lines at the beginning may be an object over several lines.
    told = {"format": "NDJSON"} if kind == "NDJSON" else {}
    found = outcome(WRITERS[kind](bad), window=10_007, batch_bytes=2_000, batch_rows=100, **told)
    assert found.fault is None
    assert len(found.batches) >= 30
    assert set(found.rejected) == bad
    assert sum(found.batches) == ROWS == len(found.loaded) + len(bad)
    assert all(str(row) in found.raw[row] for row in bad)
    assert all(values["name"].endswith(str(row)) for row, values in found.loaded.items())
