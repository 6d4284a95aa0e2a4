"""One trace holds a job: submission, planning, each batch, COPY and acknowledge, over four services and a lost executor."""

import json
import os
import re
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from jobber.cli.client import Job
from tests.support import system as running
from tests.support.inputs import write_csv
from tests.support.otlp import Collector, collector
from tests.support.system import System, ended, until

ROWS, BATCHES = 400, 4
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SUBMIT = "mutation($name: String!, $data: JSON!) { executeJob(input: {name: $name, data: $data}) { id } }"


@pytest.fixture(scope="module", params=["embedded", pytest.param("pulsar", marks=pytest.mark.pulsar)])
def traced(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[System, Collector]]:
    """A system that sends its traces, and whose executor dies once, with a batch in its hands."""
    folder = tmp_path_factory.mktemp("traces")
    with collector() as found:
        environment = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": found.url,
            "OTEL_BSP_SCHEDULE_DELAY": "100",
            "JOBBER_BATCH_ROWS": str(ROWS // BATCHES),
            # Its input is planned by an executor, which is a part of the trace.
            "JOBBER_SURVEYS_AT_ONCE": "0",
            "JOBBER_FAIL": "load.before_write:2:kill",
            "JOBBER_FAIL_ONCE": str(folder / "fired"),
        }
        (folder / "fired").mkdir()
        started = running.start(folder / "data", "--broker", request.param, "--jobs", "2", environment=environment)
        yield started, found
        assert started.stop() == 0, started.said()


def submitted(system: System, data: object, traceparent: str) -> Job:
    """A job whose submitter has a trace of their own."""
    answer = httpx.post(
        system.state["jobs"],
        json={"query": SUBMIT, "variables": {"name": "LoadProducts", "data": data}},
        headers={"authorization": f"Bearer {system.client.token}", "traceparent": traceparent},
        trust_env=False,
    ).json()
    return system.client.job(answer["data"]["executeJob"]["id"])


def test_one_trace_holds_the_whole_job(traced: tuple[System, Collector], tmp_path: Path) -> None:
    system, found = traced
    stored = system.client.upload(write_csv(tmp_path / "traced.csv", ROWS, broken=False))
    job = submitted(system, {"fileName": stored["id"]}, f"00-{TRACE}-00f067aa0ba902b7-01")
    assert ended(system.client, job).loaded == ROWS

    def names() -> Counter[tuple[str, str]]:
        return Counter((service.removeprefix("jobber-"), span.name.rpartition("/")[2]) for service, span in found.trace(TRACE))

    # What the executor that died did last it could not send.
    sent = BATCHES - 1
    until(lambda: names()["executor", "acknowledge"] >= sent, what="the last spans")
    # Each service sends what it has in its own time.
    for first in (("executor", "plan"), ("executor", "record"), ("jobs", "RecordPlan"), ("jobs", "submit")):
        until(lambda first=first: names()[first] > 0, what=str(first))  # type: ignore[misc]
    for last in (("jobs", "Acknowledge"), ("products", "COPY")):
        until(lambda last=last: names()[last] >= BATCHES, what=f"the last of {last}")  # type: ignore[misc]
    seen = names()
    assert seen["jobs", "mutation.executeJob"] == seen["jobs", "submit"] == 1
    # On a busy machine a plan may be dispatched twice, and is made once.
    assert seen["executor", "plan"] >= seen["executor", "scan"] == seen["executor", "record"] == seen["jobs", "RecordPlan"] == 1
    # One batch was in the hands of the executor that died, and was dispatched anew by a sweeper, or came again by itself.
    for step in ("batch", "claim", "send", "acknowledge"):
        assert seen["executor", step] >= sent, (step, seen)
    # Small batches that came at once are made ready in company.
    for step in ("decode", "check", "enrich"):
        assert seen["executor", step] + seen["executor", "together"] >= sent, (step, seen)
    assert seen["products", "Load"] + seen["products", "LoadSmall"] >= BATCHES
    assert seen["products", "COPY"] == BATCHES
    assert seen["jobs", "Acknowledge"] >= BATCHES

    spans = {span.span_id: span for _, span in found.trace(TRACE)}
    # Of the executor that died, children are there whose parents are not.
    known = [(span, spans[span.parent_span_id]) for span in spans.values() if span.parent_span_id in spans]
    parents = {(span.name.rpartition("/")[2], parent.name.rpartition("/")[2]) for span, parent in known}
    above = {"submit": "mutation.executeJob", "dispatch": "submit", "plan": "dispatch", "batch": "dispatch", "send": "batch"}
    for pair in {**above, "COPY": "commit", "Acknowledge": "acknowledge"}.items():
        assert pair in parents
    assert {("Load", "send"), ("LoadSmall", "send")} & parents
    assert {("commit", "Load"), ("commit", "LoadSmall")} & parents
    batches = {
        item.value.int_value
        for span in spans.values()
        if span.name == "batch"
        for item in span.attributes
        if item.key == "jobber.batch"
    }
    assert len(batches) >= sent
    assert all(span.trace_id.hex() == TRACE for span in spans.values())


def test_a_batch_that_was_dispatched_again_is_in_the_same_trace(traced: tuple[System, Collector]) -> None:
    """The executor died with a batch: what another one did of it has the job's trace."""
    system, found = traced
    fired = [path.name for path in Path(system.folder.parent / "fired").iterdir()]
    assert len(fired) == 1, fired
    attempts = system.rows("SELECT max(attempts) FROM jobs.batches")
    assert attempts[0][0] >= 2
    again = [span for _, span in found.trace(TRACE) if span.name == "batch"]
    assert len({span.span_id for span in again}) >= BATCHES - 1


def test_small_jobs_that_travel_together_keep_their_own_traces(traced: tuple[System, Collector]) -> None:
    system, found = traced
    ids = [f"{number:032x}" for number in range(1, 9)]
    (executor,) = system.pids("executor")
    # It finds them all at once when it goes on.
    os.kill(executor, signal.SIGSTOP)
    jobs = [submitted(system, [{"name": "small", "price": 1}], f"00-{trace}-00f067aa0ba902b7-01") for trace in ids]
    waiting = "SELECT count(*) FROM jobs.batches WHERE dispatch_no > 0 AND claimed_at IS NULL AND NOT settled"
    until(lambda: system.rows(waiting) == [(len(ids),)], what="the dispatch")
    os.kill(executor, signal.SIGCONT)
    for job in jobs:
        assert ended(system.client, job).loaded == 1
    for trace in ids:
        until(lambda trace=trace: "COPY" in {span.name for _, span in found.trace(trace)}, what=f"COPY in {trace}")  # type: ignore[misc]
        until(lambda trace=trace: "batch" in {span.name for _, span in found.trace(trace)}, what=f"batch in {trace}")  # type: ignore[misc]
    together = [
        item.value.int_value
        for trace in ids
        for _, span in found.trace(trace)
        for item in span.attributes
        if span.name == "send" and item.key == "jobber.batches"
    ]
    assert max(together) > 1, "they did not travel together"


def test_logs_name_the_trace(traced: tuple[System, Collector]) -> None:
    system, _ = traced
    lines = [json.loads(line) for line in (system.folder / "logs" / "jobs.log").read_text().splitlines() if line[:1] == "{"]
    lines += [json.loads(line) for line in (system.folder / "logs" / "jobs-2.log").read_text().splitlines() if line[:1] == "{"]
    told = [line for line in lines if line["action"] == "job_submitted"]
    assert TRACE in {line["trace"] for line in told}
    assert all(re.fullmatch(r"[0-9a-f]{32}", line["trace"]) and line["job"] for line in told)
