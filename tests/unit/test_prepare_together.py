"""Small batches that are made ready in company are what they would be alone."""

import json
import random
from collections.abc import Sequence
from typing import Any
from unittest.mock import patch

import polars as pl
import pytest

from jobber.contract import Contract
from jobber.digest import digest_of
from jobber.ids import uuid7
from jobber.job import Lookups, discover, find
from jobber.jobtypes.load_products import LoadProducts
from jobber.model import BatchKey, Format, InputOptions, Writing
from operators import arrow, rejects
from operators.plan import plan
from pipelines import together
from pipelines.prepare import meet, prepare, take
from pipelines.together import prepare_together
from pipelines.work import Batch, Failed, Item, Prepared, Read, Source, Spec

CHARGES = {"charges": {"Books": "1.50", "Toys": "0.95"}}
GOOD = (
    '{"name": "A", "price": 1.5, "category": "Books"}',
    '{"price":10,"name":"B \\" , x: [{","stock":7}',
    '{"name":"Ü","price":0}',
)
ODD = (
    '{"name": "E", "price": 1e2}',
    '{"name": "K", "unknown": [1, {"x": ","}], "price": 2}',
    '{"name":"T\\t","price":3,"rating":null}',
)
BAD = (
    '{"name": "", "price": 1}',
    '{"price": -3, "name": "x"}',
    '{"name": "x", "price": 1, "price": 2}',
    "7",
    '{"name":"x","price":"1"}',
)

discover()


def read(records: Sequence[str], *, lookups: Lookups = CHARGES, first_row: int = 1, attempt: int = 1, **more: Any) -> Read:
    """A batch of a job of its own, planned as jobs does it."""
    kind = find("LoadProducts")
    data = f"[{', '.join(records)}]".encode()
    planned = plan([data], Contract.of(kind.contract), InputOptions(format=Format.JSON))
    [cut] = planned.batches
    part = data[cut.offset : cut.offset + cut.length]
    spec = Spec(uuid7(), kind, kind.decode_args(b"{}"), planned.layout, lookups, **more)
    batch = Batch(BatchKey(spec.job_id, 0), attempt, spec, Source(inline=part), first_row, cut.rows, digest_of(part))
    return Read(batch, part)


def alone(item: Read) -> Item:
    return prepare(meet(take(item)))


def shown(item: Item) -> Any:
    """What is to be written, as values."""
    assert isinstance(item, Prepared)
    rows = arrow.from_ipc(item.frame).rows(named=True) if item.frame else []
    faults = rejects.from_block(item.rejects).rows() if item.rejects else []
    return item.key, item.target, item.rows, item.rejected, faults, rows, dict(item.codes)


@pytest.mark.parametrize("seed", range(12))
def test_the_same_as_alone(seed: int) -> None:
    dice = random.Random(seed)
    # The first seeds have good records only.
    records = (*GOOD, *(ODD if seed > 2 else ()), *(BAD if seed > 5 else ()))
    reads = [
        read(
            [dice.choice(records if dice.random() < 0.2 else GOOD) for _ in range(dice.randint(1, 12))],
            lookups=dice.choice((CHARGES, CHARGES, {"charges": {}}, {"charges": {"Books": "2.00"}})),
            first_row=dice.choice((1, 1, 1001)),
        )
        for _ in range(9)
    ]
    made = prepare_together(reads)
    assert [shown(alone(item) if isinstance(item, Read) else item) for item in made] == [shown(alone(item)) for item in reads]
    if seed <= 2:
        # One of a lookup that no other has goes alone.
        lonely = sum(1 for item in reads if [other.batch.spec.lookups for other in reads].count(item.batch.spec.lookups) == 1)
        assert sum(isinstance(item, Read) for item in made) == lonely


def test_a_bad_one_goes_alone_and_the_others_stay_together() -> None:
    reads = [read(GOOD) for _ in range(16)]
    reads[5] = read([*GOOD, BAD[1]])
    made = prepare_together(reads)
    assert [place for place, item in enumerate(made) if isinstance(item, Read)] == [4, 5]


def test_a_row_that_the_target_cannot_hold_goes_alone() -> None:
    """It met the contract: only its charge makes it too large."""
    high = read(['{"name": "H", "price": 9999999999.50, "category": "Books"}', *GOOD])
    reads = [read(GOOD), read(GOOD), high, read(GOOD)]
    made = prepare_together(reads)
    assert [isinstance(item, Read) for item in made] == [False, False, True, True]
    assert [shown(alone(item) if isinstance(item, Read) else item) for item in made] == [shown(alone(item)) for item in reads]
    assert shown(alone(high))[3] == 1


def test_only_what_may_be_in_company_is() -> None:
    big = read([json.dumps({"name": "x" * 1000, "price": 1})] * 100)
    items: list[Item] = [
        *(read(GOOD) for _ in range(2)),
        big,
        read(GOOD, attempt=4),
        read(GOOD, writing=Writing(dry_run=True)),
        Failed(BatchKey(uuid7(), 0), "CHANGED", "gone"),
    ]
    made = prepare_together(items)
    assert [isinstance(item, Prepared) for item in made] == [True, True, False, False, False, False]
    assert made[2:] == items[2:]
    with patch.object(LoadProducts, "by_row", False):
        assert prepare_together(items) == items


def test_dry_runs_in_company_write_nothing() -> None:
    made = prepare_together([read(GOOD, writing=Writing(dry_run=True)) for _ in range(2)])
    assert [(item.target, item.rows, item.frame) for item in made if isinstance(item, Prepared)] == [(None, 3, b"")] * 2


def test_a_job_type_that_fails_is_asked_alone() -> None:
    def enrich(self: Any, records: pl.DataFrame, lookups: Lookups) -> pl.DataFrame:
        raise ZeroDivisionError

    reads = [read(GOOD) for _ in range(3)]
    with patch.object(LoadProducts, "enrich", enrich):
        assert prepare_together(reads) == reads


def test_a_job_type_sees_each_records_own_number() -> None:
    seen: list[list[int]] = []

    def enrich(self: Any, records: pl.DataFrame, lookups: Lookups) -> pl.DataFrame:
        seen.append(records["row_no"].to_list())
        return records

    with patch.object(LoadProducts, "enrich", enrich):
        prepare_together([read(GOOD), read(GOOD[:2], first_row=41)])
    assert seen == [[1, 2, 3, 41, 42]]


def test_a_count_that_does_not_agree_sends_all_alone() -> None:
    reads = [read(GOOD), read(GOOD)]
    with patch.object(together, "decode", lambda data, *rest: take(read(GOOD)).decoded):
        assert prepare_together(reads) == reads
