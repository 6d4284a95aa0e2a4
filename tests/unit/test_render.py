"""Rejects as people download them: each record in the input's own columns, whichever way it is taken apart."""

import csv
import io
import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.jobs import render
from jobber.model import Format, Layout
from operators.frames import faults_of
from operators.rejects import to_block

COLUMNS = ("name", "price", "note")


def block_of(raws: Sequence[str]) -> bytes:
    faults = faults_of([(row, "price", "TYPE", "price must be a number") for row in range(1, len(raws) + 1)])
    return to_block(faults, lambda rows: [raws[row - 1] for row in rows])


def read(raws: Sequence[str], layout: Layout) -> list[list[str]]:
    made = b"".join(render.rejects(block_of(raws), layout, Format.CSV, True))
    return list(csv.reader(io.StringIO(made.decode(), newline="")))


def told(raws: Sequence[str], layout: Layout) -> list[dict[str, Any]]:
    lines = b"".join(render.rejects(block_of(raws), layout, Format.NDJSON, True)).decode().splitlines()
    return [json.loads(line) for line in lines]


def test_records_with_and_without_quotes_come_in_their_columns_and_order() -> None:
    raws = ["a,1,x", '"b, and c",2,y', "d", "e,4,f,g,h", "", '"i\nj",5,"k""l"', "m,,n", "=1+1,-5,@x", "\t1,+7,-8.5"]
    layout = Layout(format=Format.CSV, columns=COLUMNS)
    assert read(raws, layout) == [
        [*COLUMNS, "row", "code", "message"],
        *(
            [*cells, str(row), "TYPE", "price must be a number"]
            for row, cells in enumerate(
                [
                    ["a", "1", "x"],
                    ["b, and c", "2", "y"],
                    ["d", "", ""],
                    ["e", "4", "f,g,h"],  # what is too much stays visible
                    ["", "", ""],
                    ["i\nj", "5", 'k"l'],
                    ["m", "", "n"],
                    ["'=1+1", "-5", "'@x"],
                    ["'\t1", "+7", "-8.5"],
                ],
                1,
            )
        ),
    ]
    records = told(raws, layout)
    assert records[1] == {
        "name": "b, and c",
        "price": "2",
        "note": "y",
        "row": 2,
        "code": "TYPE",
        "message": "price must be a number",
    }
    assert [record["name"] for record in records] == ["a", "b, and c", "d", "e", "", "i\nj", "m", "=1+1", "\t1"]


def test_a_quote_that_is_left_open_takes_no_other_record_in() -> None:
    layout = Layout(format=Format.CSV, columns=COLUMNS)
    raws = ['"a,1,x', '"b",2,"y"', 'c"d,3,"z', '"e', '"f",4,"v"']
    assert [record["name"] for record in told(raws, layout)] == ["a,1,x", "b", 'c"d', "e", "f"]


def test_many_records_come_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(render, "RECORDS", 10)
    layout = Layout(format=Format.CSV, columns=COLUMNS)
    block = block_of([f"p{row},1,x" for row in range(1, 26)])
    parts = list(render.rejects(block, layout, Format.CSV, True))
    assert [part.count(b"\n") for part in parts] == [1, 10, 10, 5]
    assert b"".join(render.rejects(block, layout, Format.CSV, False)) == b"".join(parts[1:])


def test_columns_that_are_called_like_ours_and_formulas_in_the_header() -> None:
    layout = Layout(format=Format.CSV, columns=("row", "=code"), delimiter=";")
    header, line = read(["7;x"], layout)
    assert header == ["row", "'=code", "row", "code", "message"]
    assert line == ["7", "x", "1", "TYPE", "price must be a number"]
    assert told(["7;x"], layout)[0] == {"row": 1, "=code": "x", "code": "TYPE", "message": "price must be a number"}


def test_a_json_record_that_cannot_be_taken_apart_stays_in_its_line() -> None:
    layout = Layout(format=Format.NDJSON, fields={"name": "name", "price": "cost"})
    raws = ['{"name": "a", "cost": 1.50, "else": 1}', "{bad", '{"name": null, "cost": [1, "b"]}', "[1]"]
    header, *rows = read(raws, layout)
    assert header == ["name", "cost", "row", "code", "message"]
    assert [row[:3] for row in rows] == [["a", "1.50", "1"], ["{bad", "", "2"], ["", '["1", "b"]', "3"], ["[1]", "", "4"]]
    assert [record.get("raw") for record in told(raws, layout)] == [None, "{bad", None, "[1]"]


@settings(deadline=None)
@given(st.lists(st.lists(st.text("a;\"'=-+1\n\r\té", max_size=4), min_size=3, max_size=3), min_size=1, max_size=8))
def test_whatever_is_in_the_cells_they_come_back(records: list[list[str]]) -> None:
    raws = []
    for cells in records:
        out = io.StringIO(newline="")
        csv.writer(out, delimiter=";", lineterminator="\r\n").writerow(cells)
        raws.append(out.getvalue().removesuffix("\r\n"))
    layout = Layout(format=Format.CSV, columns=COLUMNS, delimiter=";")
    assert [[record[name] for name in COLUMNS] for record in told(raws, layout)] == records
    for cells, row in zip(records, read(raws, layout)[1:], strict=True):
        for cell, shown in zip(cells, row[:3], strict=True):
            assert shown in (cell, f"'{cell}")
            assert shown[:1] not in ("=", "@", "\t", "\r")
