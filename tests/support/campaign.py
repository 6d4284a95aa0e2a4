"""What tests ask of a system whose processes are killed meanwhile: they ask again, by idempotency key, until it is answered."""

import io
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from jobber.cli.client import Client, Job
from jobber.errors import NotFound, Transient
from jobber.ids import uuid7
from jobber.model import State
from tests.support.system import System, until

T = TypeVar("T")

SUBMIT = """mutation ($input: SubmitJobInput!) { jobSubmit(input: $input) { job { id } userErrors { code message } } }"""
CHANGE = "mutation ($id: ID!) {{ {0}(id: $id) {{ job {{ id state }} userErrors {{ code message }} }} }}"

#: Every so many records one is bad.
EVERY = 50


def persist(ask: Callable[[], T], seconds: float = 60) -> T:
    """Ask again while a service is away. What went wrong on the way may have been done all the same."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return ask()
        except Transient:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def write(path: Path, rows: int, name: str = "Product") -> Path:
    """A CSV file of products with numbered names, of which every 50th has a price below zero."""
    lines = [f"{name} {row},{-row if row % EVERY == 0 else row}.25" for row in range(1, rows + 1)]
    path.write_text("\n".join(["name,price", *lines, ""]))
    return path


def submit(
    client: Client, name: str, source: Mapping[str, Any], key: str | None = None, options: Mapping[str, Any] | None = None
) -> str:
    """The id of the job, once it is answered; asked for by one idempotency key however often."""
    given = {"name": name, "source": dict(source), "idempotencyKey": key or uuid7(), "options": options}
    answer = persist(lambda: client.ask(SUBMIT, {"input": given})["jobSubmit"])
    assert not answer["userErrors"], answer
    return str(answer["job"]["id"])


def change(client: Client, mutation: str, job_id: str) -> str:
    """Ask for `jobPause` or the like until it is answered; the job's state then.

    Asked again it may find itself done already: INVALID_STATE is no answer to a question that was asked twice.
    """
    answer = persist(lambda: client.ask(CHANGE.format(mutation), {"id": job_id})[mutation])
    return str(answer["job"]["state"]) if answer["job"] else str(persist(lambda: client.job(job_id)).state)


def ended(client: Client, job_id: str, seconds: float = 60) -> Job:
    """The job in its final state."""
    found: list[Job] = []

    def over() -> bool:
        found[:] = [persist(lambda: client.job(job_id))]
        return found[0].state.terminal

    until(over, seconds, f"the end of job {job_id}")
    return found[0]


def load(system: System, path: Path, rows: int, name: str = "LoadProducts") -> str:
    """Upload a file and submit it as a job; the job's id."""
    stored = persist(lambda: system.client.upload(write(path, rows)))
    return submit(system.client, name, {"uploadId": stored["id"]})


def expect_exact(system: System, job: Job, rows: int, product: str = "Product") -> None:
    """Every good record of `write` is in the table once, every bad one among the rejects, and the job says so."""
    bad = list(range(EVERY, rows + 1, EVERY))
    good = [row for row in range(1, rows + 1) if row % EVERY]
    state = State.PARTIAL if bad else State.SUCCEEDED
    assert (job.state, job.total, job.loaded, job.rejected) == (state, rows, len(good), len(bad)), job
    stored = [(row_no, name, f"{price}") for row_no, name, _, price, *_ in persist(lambda: system.loaded(job))]
    assert stored == [(row, f"{product} {row}", f"{row}.25") for row in good]
    assert rejects(system.client, job.id) == [(row, f"{product} {row}", f"-{row}.25", "RANGE") for row in bad]


def rejects(client: Client, job_id: str) -> list[tuple[int, str, str, str]]:
    """Row, name, price and code of every reject, as they are downloaded."""

    def download() -> bytes:
        into = io.BytesIO()
        client.download(f"/jobs/{job_id}/rejects.ndjson", into)
        return into.getvalue()

    lines = map(json.loads, persist(download).decode().splitlines())
    return [(line["row"], line["name"], line["price"], line["code"]) for line in lines]


def expect_nothing_left(system: System) -> None:
    """No message, dispatch, lease, open transaction or half-written file is left."""
    outstanding = """SELECT count(*) FROM jobs.jobs j LEFT JOIN jobs.batches b ON b.job_id = j.id AND NOT b.settled
                      WHERE j.state NOT IN ('SUCCEEDED', 'PARTIAL', 'FAILED', 'CANCELED')"""
    until(lambda: system.rows(outstanding) == [(0,)], what="the end of all jobs")
    if system.state["transport"] == system.state["database"]:
        until(lambda: system.rows("SELECT count(*) FROM transport.messages") == [(0,)], what="an empty transport")
    idle = "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%%' AND pid <> pg_backend_pid()"
    until(lambda: system.rows(idle) == [(0,)], what="the end of all transactions")
    assert system.rows("SELECT count(*) FROM pg_prepared_xacts") == [(0,)]
    until(lambda: not stray_blobs(system), what="the end of blobs that nothing refers to")
    incoming = system.folder / "blobs" / ".incoming"
    until(lambda: not incoming.exists() or not list(incoming.iterdir()), what="the end of all half-written files")


def blobs(system: System) -> set[str]:
    """Keys of all whole blobs."""
    root = system.folder / "blobs"
    return {f"{path.relative_to(root)}" for path in root.rglob("*") if path.is_file() and path.parent.name != ".incoming"}


def stray_blobs(system: System) -> set[str]:
    """Those that no upload and no job refers to."""
    used = "SELECT unnest(ARRAY[blob_key, plan_blob]) FROM "
    return blobs(system) - {key for (key,) in system.rows(f"{used} jobs.uploads UNION {used} jobs.jobs")}


def gone(client: Client, job_id: str) -> bool:
    """Whether there is no such job."""
    try:
        persist(lambda: client.job(job_id))
    except NotFound:
        return True
    return False
