"""/metrics of every service, by what Prometheus holds for good names, and by whether it tells what happened."""

import re
import time
from collections.abc import Iterator

import httpx
import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from tests.support.system import ROOT, System, ended, until

#: Prometheus' base units, and how else a name may end (https://prometheus.io/docs/practices/naming/).
GOOD = re.compile(r"jobber_[a-z]+(_[a-z]+)*")
ABBREVIATED = re.compile(r"_(s|ms|us|ns|sec|secs|min|mins|kb|mb|gb|milliseconds|minutes|kilobytes)(_|$)")
#: Series of one metric of one service: a method has about ten buckets.
MOST_SERIES = 700


def families(url: str) -> Iterator[Metric]:
    yield from text_string_to_metric_families(httpx.get(f"{url}/metrics", trust_env=False).text)


def told(system: System) -> dict[str, dict[str, Metric]]:
    return {role: {family.name: family for family in families(urls[0])} for role, urls in system.state["http"].items()}


def value(family: Metric, suffix: str = "", **labels: str) -> float:
    return sum(
        sample.value
        for sample in family.samples
        if sample.name == family.name + suffix and labels.items() <= sample.labels.items()
    )


def settled(system: System) -> bool:
    """Whether executors have counted what there was."""

    def counted() -> float:
        return value(told(system)["executor"]["jobber_executor_records"], "_total")

    before = counted()
    time.sleep(0.3)
    return counted() == before


@pytest.fixture
def seen(system: System) -> dict[str, dict[str, Metric]]:
    """What the services tell after a job with two good records and two bad ones, whose price is broken."""
    # Others have used this system, and may have left without waiting for their jobs.
    until(lambda: system.rows("SELECT count(*) FROM jobs.jobs WHERE ended_at IS NULL") == [(0,)], what="the end of all jobs")
    until(lambda: settled(system), what="the settling of their batches")
    before = told(system)
    records = [{"name": "a", "price": 1}, {"name": "b", "price": 2}, {"name": "c", "price": "x"}, {"name": "d", "price": -1}]
    job = ended(system.client, system.client.execute("LoadProducts", records))
    assert (job.loaded, job.rejected) == (2, 2)

    def grown(role: str, name: str, suffix: str = "_total", **labels: str) -> float:
        return value(told(system)[role][name], suffix, **labels) - value(before[role][name], suffix, **labels)

    assert grown("products", "jobber_products_rows") == 2
    assert grown("products", "jobber_products_copy_seconds", "_count") == 1
    assert grown("jobs", "jobber_jobs_submitted", type="LoadProducts") == 1
    assert grown("jobs", "jobber_jobs_ended", state="PARTIAL") == 1
    assert grown("jobs", "jobber_jobs_batch_attempts", attempt="first") == 1
    assert grown("jobs", "jobber_jobs_transport_lag_seconds", "_count") == 1
    assert grown("jobs", "jobber_graphql_requests", field="mutation.executeJob", outcome="ok") == 1
    # The executor counts when the transport has let go of the message, which is after the job's end.
    until(lambda: grown("executor", "jobber_executor_records", outcome="rejected") == 2, what="the settling")
    assert grown("executor", "jobber_executor_rejects") == 2
    loads = sum(grown("executor", "jobber_executor_calls", method=method, code="OK") for method in ("Load", "LoadSmall"))
    assert loads == 1
    return told(system)


def test_names_help_and_series_are_as_prometheus_has_them(seen: dict[str, dict[str, Metric]]) -> None:
    documented = set(re.findall(r"^\| `(jobber_\w+)`", (ROOT / "docs/observability.md").read_text(), re.MULTILINE))
    exposed = set()
    for role, found in seen.items():
        for name, family in found.items():
            assert family.documentation, (role, name)
            assert len(family.samples) <= MOST_SERIES, (role, name, len(family.samples))
            if name.startswith("jobber_"):
                assert GOOD.fullmatch(name), name
                assert not ABBREVIATED.search(name), name
                assert family.type in ("counter", "gauge", "histogram"), name
                exposed.add(f"{name}_total" if family.type == "counter" else name)
    assert exposed == documented


def test_waiting_is_told_by_the_database(system: System, seen: dict[str, dict[str, Metric]]) -> None:
    def waiting() -> tuple[float, float]:
        jobs = told(system)["jobs"]
        return value(jobs["jobber_jobs_waiting"]), value(jobs["jobber_jobs_in_flight_batches"])

    until(lambda: waiting() == (0, 0), what="an empty queue")
    assert value(seen["jobs"]["jobber_database_connections_limit"], pool="jobber-jobs") == 12
