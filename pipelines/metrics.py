"""What /metrics of an executor tells beside the process's own figures."""

from collections.abc import Iterable

from prometheus_client import Counter, Gauge, Histogram

from pipelines.work import Closed, Failed
from protos.jobber.v1 import receipt_pb2

BATCHES = Counter("jobber_executor_batches", "Batches that came to an end here, by outcome.", ["outcome"])
RECORDS = Counter("jobber_executor_records", "Records of batches that were acknowledged, by outcome.", ["outcome"])
HANDED_BACK = Counter("jobber_executor_handed_back", "Messages handed back to the transport, to be tried again.")
IN_FLIGHT = Gauge("jobber_executor_in_flight", "Groups of batches on their way to a commit.")
STEP_SECONDS = Counter("jobber_executor_step_seconds", "Seconds spent in each step of the load dataflow.", ["step"])
SETTLE_SECONDS = Histogram(
    "jobber_executor_settle_seconds",
    "Seconds from a group's being ready to its last acknowledgement.",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 30),
)


def settled(outcomes: Iterable[receipt_pb2.Receipt | Closed | Failed], seconds: float) -> None:
    """A group came to its end."""
    SETTLE_SECONDS.observe(seconds)
    for outcome in outcomes:
        if isinstance(outcome, receipt_pb2.Receipt):
            BATCHES.labels("receipt").inc()
            RECORDS.labels("loaded").inc(outcome.inserted + outcome.updated + outcome.unchanged)
            RECORDS.labels("rejected").inc(outcome.rejected)
        else:
            BATCHES.labels("closed" if isinstance(outcome, Closed) else "failed").inc()
