"""DuckDB reads the same input and says what must have become of every record; the tables and the rejects must agree."""

import csv
import gzip
import io
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobber.cli.client import Job
from jobber.ids import uuid7
from jobber.model import State
from tests.support.inputs import write_csv, write_json
from tests.support.oracle import judge
from tests.support.system import System, ended


def rejects(system: System, job: Job) -> list[dict[str, str]]:
    into = io.BytesIO()
    system.client.download(f"/jobs/{job.id}/rejects.csv", into)
    return list(csv.DictReader(io.StringIO(into.getvalue().decode())))


FAULTS = """query ($id: ID!, $after: String) { job(id: $id) { errors(first: 100, after: $after) {
  totalCount pageInfo { hasNextPage endCursor } edges { node { row column code message raw } } } } }"""


def faults(system: System, job: Job) -> list[dict[str, Any]]:
    """All of the job's faults, page by page."""
    found: list[dict[str, Any]] = []
    after = None
    while True:
        page = system.client.ask(FAULTS, {"id": job.id, "after": after})["job"]["errors"]
        found += [edge["node"] for edge in page["edges"]]
        after = page["pageInfo"]["endCursor"]
        if not page["pageInfo"]["hasNextPage"]:
            assert page["totalCount"] == len(found)
            return found


@pytest.mark.parametrize("name", ["products.csv", "products.ndjson", "products.json"])
@pytest.mark.parametrize(("count", "compressed"), [(400, False), (20_000, False), (20_000, True)])
def test_every_record_ends_as_the_oracle_says(
    system: System, tmp_path: Path, name: str, count: int, *, compressed: bool
) -> None:
    path = (write_csv if name.endswith(".csv") else write_json)(tmp_path / name, count, seed=count)
    upload = path
    if compressed:
        upload = path.with_suffix(path.suffix + ".gz")
        upload.write_bytes(gzip.compress(path.read_bytes()))
    charges = {category: Decimal(charge) for category, charge in system.rows("SELECT name, charge FROM products.categories")}
    verdict = judge(path, charges)
    assert len(verdict.loaded) > count * 0.9
    assert len(verdict.rejected) > count * 0.02

    stored = system.client.upload(upload)
    job = ended(system.client, system.client.execute("LoadProducts", {"fileName": stored["id"]}))

    assert (job.state, job.error) == (State.PARTIAL, None)
    assert (job.total, job.loaded, job.rejected) == (count, len(verdict.loaded), len(verdict.rejected))
    assert system.loaded(job) == verdict.loaded
    told = rejects(system, job)
    assert sorted({int(fault["row"]) for fault in told}) == verdict.rejected
    assert all(fault["code"] and fault["message"] for fault in told)
    named = {(fault["row"], fault["column"]) for fault in faults(system, job) if fault["column"]}
    assert named == {(row, column) for row, column in verdict.faults if column}


def test_a_parquet_file_loads(system: System, tmp_path: Path) -> None:
    count = 20_000
    table = {
        "name": [f"Product {number}" for number in range(count)],
        "price": [1.555 if number % 1000 == 7 else number / 4 for number in range(count)],
        "stock": pa.array(range(count), pa.int64()),
        "colour": ["blue"] * count,
    }
    pq.write_table(pa.table(table), tmp_path / "products.parquet", row_group_size=7_000)
    stored = system.client.upload(tmp_path / "products.parquet")
    job = ended(system.client, system.client.execute("LoadProducts", {"fileName": stored["id"]}))
    assert (job.state, job.total, job.loaded, job.rejected) == (State.PARTIAL, count, count - 20, 20)
    rows = system.rows("SELECT row_no, name, price, stock FROM products.products WHERE job_id = %s ORDER BY row_no", job.id)
    good = [number for number in range(count) if number % 1000 != 7]
    assert rows == [(number + 1, f"Product {number}", Decimal(number) / 4, number) for number in good]
    told = rejects(system, job)
    assert [int(fault["row"]) for fault in told] == [number + 1 for number in range(7, count, 1000)]
    assert (told[0]["name"], told[0]["price"], told[0]["code"]) == ("Product 7", "1.555", "SCALE")


def test_options_reach_planning_and_decoding(system: System, tmp_path: Path) -> None:
    path = tmp_path / "odd.csv.gz"
    path.write_bytes(gzip.compress("titel;price\n'Größe; rot';1,5\n'Cup';2\n".encode("utf-16")))
    upload = system.client.upload(path)["id"]
    options = {"delimiter": ";", "quote": "'", "encoding": "utf-16", "mapping": {"name": "Titel"}}

    def run(source: dict[str, str], options: dict[str, Any]) -> Job:
        payload = system.client.ask(
            """mutation ($source: SourceInput!, $options: LoadOptions, $key: String!) {
                 jobSubmit(input: {name: "LoadProducts", source: $source, options: $options, idempotencyKey: $key}) {
                   job { id } userErrors { message } } }""",
            {"source": {"uploadId": upload, **source}, "options": options, "key": uuid7()},
        )["jobSubmit"]
        assert payload["userErrors"] == []
        return ended(system.client, system.client.job(payload["job"]["id"]))

    job = run({"format": "CSV", "compression": "GZIP"}, options)
    assert (job.state, job.loaded, job.rejected) == (State.PARTIAL, 1, 1)
    assert rejects(system, job)[0]["titel"] == "Größe; rot"
    for source, given, code in (
        ({"compression": "ZSTD"}, options, "FORMAT"),
        ({"format": "PARQUET"}, options, "FORMAT"),
        ({}, {**options, "encoding": "utf-8"}, "ENCODING"),
        ({}, {**options, "delimiter": ","}, "HEADER"),
    ):
        failed = run(source, given)
        assert failed.state is State.FAILED
        assert (failed.error or "").startswith(code), failed.error


def test_enrichment_follows_the_categories_as_they_are_at_the_start(system: System) -> None:
    with system.products() as (stub, proof):
        from protos.jobber.products.v1 import products_pb2 as pb

        stub.CreateCategory(pb.CreateCategoryRequest(category=pb.Category(name="Oracle", charge="0.07")), metadata=proof)
        try:
            data = [{"name": "a", "price": 1.1, "category": "Oracle"}, {"name": "b", "price": 0, "category": "oracle"}]
            first = ended(system.client, system.client.execute("LoadProducts", data))
            stub.UpdateCategory(pb.UpdateCategoryRequest(category=pb.Category(name="Oracle", charge="10.00")), metadata=proof)
            second = ended(system.client, system.client.execute("LoadProducts", data))
        finally:
            stub.DeleteCategory(pb.DeleteCategoryRequest(name="Oracle"), metadata=proof)
    assert [row[3] for row in system.loaded(first)] == [Decimal("1.17"), Decimal("0.00")]
    assert [row[3] for row in system.loaded(second)] == [Decimal("11.10"), Decimal("0.00")]


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("empty.csv", b""),
        ("header.csv", b"name;price\na;1\n"),
        ("quote.csv", b'name,price\n"a,1\nb,2\n'),
        ("utf16.csv", "name,price\na,1\n".encode("utf-16")),
        ("cut.json", b'[{"name": "a", "price": 1}, {"name": '),
        ("scalar.json", b"17"),
    ],
)
def test_a_broken_file_loads_nothing_and_says_why(system: System, tmp_path: Path, name: str, body: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(body)
    stored = system.client.upload(path)
    job = ended(system.client, system.client.execute("LoadProducts", {"fileName": stored["id"]}))
    assert job.state is State.FAILED
    assert job.error
    assert job.loaded == 0
    assert system.loaded(job) == []
