"""Compares what is there at the end with what people remember: record by record, by the tables and by the public API."""

import io
import json
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, LiteralString, TypeVar

from jobber import errors
from jobber.cli.client import Client
from jobber.model import State
from tests.chaos.database import Database
from tests.chaos.keyed import Row, written
from tests.chaos.model import Known, Model
from tests.chaos.watcher import PROGRESS

#: Rejects of a job whose raw text and column are looked at, too.
LOOKED_AT = 100
#: Times that a download or a question is tried.
TRIES = 20
COUNTS = "query($id: ID!) { job(id: $id) { progress { counts { inserted updated unchanged } } } }"
ERRORS = (
    "query($id: ID!, $first: Int) { job(id: $id) { errors(first: $first) { edges { node { row column code message raw } } } } }"
)

#: Pieces of evidence that no job's submitter can see: each must answer no row. The promise, what it would mean, the query.
NEVER: tuple[tuple[str, str, LiteralString], ...] = (
    (
        "I1",
        "rows of a batch that its ledger row does not tell of",
        # What a chain's job has written, the next one may write over: keyed.py knows what must be there of it.
        """WITH alone AS (SELECT id FROM jobs.jobs WHERE NOT dry_run AND idempotency_key NOT LIKE 'chain-%%'),
                 told AS (SELECT * FROM products.ledger WHERE job_id IN (SELECT id FROM alone)),
                 there AS (SELECT job_id, batch_no, count(*) FROM products.products
                            WHERE job_id IN (SELECT id FROM alone) GROUP BY 1, 2)
           SELECT coalesce(l.job_id, p.job_id)::text, coalesce(l.batch_no, p.batch_no), l.inserted, p.count
             FROM told l FULL JOIN there p ON p.job_id = l.job_id AND p.batch_no = l.batch_no
            WHERE coalesce(l.inserted, 0) <> coalesce(p.count, 0) LIMIT 3""",
    ),
    (
        "I12",
        "a dry run that wrote products",
        """SELECT p.job_id::text, count(*) FROM products.products p JOIN jobs.jobs j ON j.id = p.job_id
            WHERE j.dry_run GROUP BY 1 LIMIT 3""",
    ),
    (
        "I5",
        "a batch of an ended job, of which jobs and products tell different stories",
        """SELECT l.job_id::text, l.batch_no, l.inserted, l.rejected, l.staged, r.inserted, r.rejected, r.staged
             FROM products.ledger l LEFT JOIN jobs.receipts r USING (job_id, batch_no)
             JOIN jobs.jobs j ON j.id = l.job_id AND j.ended_at IS NOT NULL
            WHERE (l.inserted, l.updated, l.unchanged, l.rejected, l.staged)
                  IS DISTINCT FROM (r.inserted, r.updated, r.unchanged, r.rejected, r.staged) LIMIT 3""",
    ),
    (
        "I7",
        "a receipt that is not of its batch's records",
        """SELECT r.job_id::text, r.batch_no, r.inserted, r.updated, r.unchanged, r.staged, r.rejected, b.rows
             FROM jobs.receipts r JOIN jobs.batches b USING (job_id, batch_no)
            WHERE r.inserted + r.updated + r.unchanged + r.staged + r.rejected <> b.rows LIMIT 3""",
    ),
    (
        "I3",
        "an owner's key with two jobs",
        """SELECT owner_id::text, idempotency_key, count(*) FROM jobs.jobs WHERE idempotency_key IS NOT NULL
            GROUP BY 1, 2 HAVING count(*) > 1 LIMIT 3""",
    ),
)
R = TypeVar("R")


def compare(model: Model, database: Database, admin: Client) -> None:
    """Every job against the model; what does not hold is blamed on its promise."""
    by_id = {row[0]: row[1:] for row in database.rows(PROGRESS)}
    products: dict[str, dict[int, list[tuple[str, Decimal]]]] = defaultdict(lambda: defaultdict(list))
    for job_id, row, name, price in database.rows("SELECT job_id::text, row_no, name, price FROM products.products"):
        if job_id is not None:
            products[job_id][row].append((name, price))
    _find(model, database)
    known = {job.id for job in model.jobs}
    chains: dict[str, dict[str, tuple[Row, ...]]] = defaultdict(dict)
    # Those of one chain in the order in which they were submitted.
    for job in model.jobs:
        if job.id not in by_id:
            model.blame("I4", f"job {job.id} was answered and is not there")
            continue
        comparison = _Comparison(model, job, by_id[job.id], products.get(job.id, {}), admin)
        if job.chain is not None:
            chains[job.chain] = comparison.chained(chains[job.chain])
        comparison.all()
    for chain, rows in chains.items():
        ids = [job.id for job in model.jobs if job.chain == chain]
        _compare_chain(model, chain, rows, {job_id: products.get(job_id, {}) for job_id in ids})
    for job_id in products.keys() - by_id.keys():
        model.blame("I1", f"products has rows of job {job_id}, which is not there")
    for job_id in by_id.keys() - known:
        model.blame("I3", f"job {job_id} is there, and nobody submitted it")
    for promise, what, query in NEVER:
        if found := database.rows(query):
            model.blame(promise, f"{what}: {found}")


def _find(model: Model, database: Database) -> None:
    """Those of the unanswered submissions that are there all the same: they are jobs as any other."""
    ids = dict(database.rows("SELECT idempotency_key, id::text FROM jobs.jobs WHERE idempotency_key IS NOT NULL"))
    for job in model.unanswered:
        if job.key in ids:
            job.id = ids[job.key]
            model.jobs.append(job)


def _compare_chain(
    model: Model,
    chain: str,
    rows: Mapping[str, tuple[Row, ...]],
    found: Mapping[str, Mapping[int, list[tuple[str, Decimal]]]],
) -> None:
    """The products that all its jobs left, with the job and the row that each came from last."""
    wanted = Counter((name, Decimal(price), job_id, row) for name, several in rows.items() for price, job_id, row in several)
    there = Counter(
        (name, price, job_id, row) for job_id, of in found.items() for row, several in of.items() for name, price in several
    )
    if there != wanted:
        more, less = list((there - wanted).elements()), list((wanted - there).elements())
        model.blame(
            "I1", f"of chain {chain} {len(more)} products are wrong, like {more[:3]}, {len(less)} missing, like {less[:3]}"
        )


class _Comparison:
    """Of one job."""

    def __init__(
        self, model: Model, job: Known, found: tuple[Any, ...], rows: dict[int, list[tuple[str, Decimal]]], admin: Client
    ) -> None:
        self._model, self._job, self._rows, self._admin = model, job, rows, admin
        state, error, self._total, self._loaded, self._rejected, _ = found
        self._state = State(state)
        self._where = f"job {job.id} ({job.kind}, key {job.key}, {job.total} records, {state}: {error})"

    def _blame(self, promise: str, evidence: str) -> None:
        self._model.blame(promise, f"{self._where}: {evidence}")

    def all(self) -> None:
        """Everything."""
        job = self._job
        if not self._state.terminal:
            return self._blame("I2", "has not ended")
        self._counts()
        if job.chain is None:
            self._table()
        self._rejects()
        self._verdict()

    def chained(self, before: dict[str, tuple[Row, ...]]) -> dict[str, tuple[Row, ...]]:
        """The chain's products after this job. What it should have said is compared with what it said."""
        job, made = self._job, written(before, self._job)
        job.bad |= made.lost
        job.good = {row: record for row, record in job.good.items() if row not in made.lost}
        published = self._state in (State.SUCCEEDED, State.PARTIAL) or (self._state is State.CANCELED and self._loaded)
        if not published:
            return before
        counts = _insist(lambda: self._admin.ask(COUNTS, {"id": job.id}))["job"]["progress"]["counts"]
        told = tuple(int(counts[name]) for name in ("inserted", "updated", "unchanged"))
        if told != made.counts:
            self._blame("I1", f"{told} inserted, updated and unchanged, should be {made.counts}")
        return before if job.writing.dry_run else made.after

    def _counts(self) -> None:
        job, total, loaded, rejected = self._job, self._total, self._loaded, self._rejected
        if total is not None and total != job.total:
            self._blame("I1", f"has {total} records instead")
        if total is None and self._state is not State.CANCELED and job.total:
            self._blame("I1", "was never planned")
        if self._state in (State.SUCCEEDED, State.PARTIAL) and loaded + rejected != job.total:
            self._blame("I1", f"{loaded} loaded and {rejected} rejected")
        told = _insist(lambda: self._admin.job(job.id))
        if (told.total, told.loaded, told.rejected) != (total, loaded, rejected):
            self._blame("I1", f"receipts say {total}, {loaded}, {rejected}, and the API {told}")
        if job.writing.staged and loaded not in (0, len(job.good)):
            self._blame("I12", f"{loaded} of {len(job.good)} loaded, which are to become visible together")
        if job.writing.staged and self._state is State.FAILED and loaded:
            self._blame("I12", f"failed, and {loaded} are loaded")
        if total is not None and told.loaded + told.rejected + told.unprocessed != total:
            self._blame("I1", f"the API's counts do not add up: {told}")

    def _table(self) -> None:
        """The multiset of rows; of Fibonacci there are none."""
        job, rows = self._job, self._rows
        if job.name == "Fibonacci":
            if rows:
                self._blame("I1", "loaded products")
            return
        if job.writing.dry_run:
            if rows:
                self._blame("I12", f"is a dry run, and wrote {len(rows)} rows")
            return
        twice = [row for row, found in rows.items() if len(found) > 1]
        if twice:
            self._blame("I1", f"rows {twice[:5]} are there more than once")
        wrong = [row for row, found in rows.items() if not _same(found[0], job.good.get(row))]
        if wrong:
            self._blame("I1", f"rows {wrong[:5]} are not what was submitted")
        if len(rows) != self._loaded:
            self._blame("I1", f"{len(rows)} rows, and receipts say {self._loaded}")
        if job.rows_at_cancel is not None and len(rows) != job.rows_at_cancel:
            self._blame("I5", f"{job.rows_at_cancel} rows when the cancel was answered, {len(rows)} now")

    def _rejects(self) -> None:
        """All by the download; the first ones by GraphQL, which tells more of each."""
        job = self._job
        found = _downloaded(self._admin, job)
        if len(found) != self._rejected:
            self._blame("I11", f"{len(found)} rejects, and receipts say {self._rejected}")
        for row, told in found.items():
            wanted = job.bad.get(row)
            if [code for code, _ in told] != [wanted and wanted.code]:
                poison = any(code == "POISON" for code, _ in told)
                return self._blame("I9" if poison else "I11", f"row {row} was rejected as {told}, not {wanted}")
            if wanted and not told[0][1].startswith(wanted.message):
                return self._blame("I11", f"row {row} was rejected as {told}, not {wanted}")
        if self._rejected:
            answer = _insist(lambda: self._admin.ask(ERRORS, {"id": job.id, "first": LOOKED_AT}))
            for edge in answer["job"]["errors"]["edges"]:
                node = edge["node"]
                wanted = job.bad.get(int(node["row"]))
                if wanted is None or (node["column"], node["raw"]) != (wanted.column, wanted.raw):
                    return self._blame("I11", f"{node} should be {wanted}")

    def _verdict(self) -> None:
        job = self._job
        if self._state is State.CANCELED:
            if not job.canceled:
                self._blame("I1", "was never cancelled")
            return
        if job.allowed is not None and len(job.bad) > job.allowed:
            wanted = State.FAILED
        elif not job.bad:
            wanted = State.SUCCEEDED
        else:
            wanted = State.PARTIAL if job.good else State.FAILED
        if self._state is not wanted:
            self._blame("I1", f"should be {wanted}: {self._loaded} loaded, {self._rejected} rejected")


def _same(found: tuple[str, Decimal], wanted: tuple[str, str] | None) -> bool:
    return wanted is not None and found[0] == wanted[0] and found[1] == Decimal(wanted[1])


def _downloaded(admin: Client, job: Known) -> dict[int, list[tuple[str, str]]]:
    """Row number -> its codes with their messages."""

    def download() -> bytes:
        into = io.BytesIO()
        admin.download(f"/jobs/{job.id}/rejects.ndjson", into)
        return into.getvalue()

    found: dict[int, list[tuple[str, str]]] = defaultdict(list)
    for line in _insist(download).splitlines():
        reject = json.loads(line)
        found[int(reject["row"])].append((reject["code"], reject["message"]))
    return found


def _insist(work: Callable[[], R]) -> R:
    for _ in range(TRIES):
        try:
            return work()
        except errors.Transient:
            time.sleep(0.5)
    return work()
