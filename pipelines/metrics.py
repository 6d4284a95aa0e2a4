"""What /metrics of an executor tells beside the process's own figures."""

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import grpc
from prometheus_client import Counter, Gauge, Histogram, disable_created_metrics

from pipelines.work import Closed, Failed
from protos.jobber.v1 import receipt_pb2

# A second series for each counter, with the time of its making: nobody asks for it.
disable_created_metrics()  # type: ignore[no-untyped-call]

BATCHES = Counter("jobber_executor_batches", "Batches that came to an end here, by outcome.", ["outcome"])
RECORDS = Counter("jobber_executor_records", "Records of batches that were acknowledged, by outcome.", ["outcome"])
REJECTS = Counter("jobber_executor_rejects", "Faults of records of batches that were acknowledged, by code.", ["code"])
CLAIMED = Counter("jobber_executor_claimed_batches", "Batches claimed, a suspect or not.", ["suspect"])
HANDED_BACK = Counter("jobber_executor_handed_back", "Messages handed back to the transport, to be tried again.")
IN_FLIGHT = Gauge("jobber_executor_in_flight", "Groups of batches on their way to a commit.")
IN_FLIGHT_LIMIT = Gauge("jobber_executor_in_flight_limit", "Groups that may be.")
TRANSPORT_UP = Gauge("jobber_executor_transport_up", "Whether the transport answered when it was last asked.")
STEP_SECONDS = Counter("jobber_executor_step_seconds", "Seconds spent in each step of the load dataflow.", ["step"])
SETTLE_SECONDS = Histogram(
    "jobber_executor_settle_seconds",
    "Seconds from a group's being ready to its last acknowledgement.",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 30),
)
CALLS = Counter("jobber_executor_calls", "gRPC calls made, by method and status code; each try counts.", ["method", "code"])
CALL_SECONDS = Histogram(
    "jobber_executor_call_seconds",
    "Seconds of a gRPC call.",
    ["method"],
    buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 30),
)
PLANNER_SECONDS = Histogram(
    "jobber_executor_planner_seconds",
    "Seconds of the scan of an input, by outcome: planned, fault, returned.",
    ["outcome"],
    buckets=(0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 1800),
)
PLANNER_STARTS = Counter("jobber_executor_planner_starts", "Starts of the planning process.")

#: A job type makes codes of its own: beyond so many different ones they are counted together.
MOST_CODES, OTHER = 60, "OTHER"
_codes: set[str] = set()


def settled(
    outcomes: Iterable[receipt_pb2.Receipt | Closed | Failed], codes: Iterable[Mapping[str, int]], seconds: float
) -> None:
    """A group came to its end."""
    SETTLE_SECONDS.observe(seconds)
    for outcome in outcomes:
        if isinstance(outcome, receipt_pb2.Receipt):
            BATCHES.labels("receipt").inc()
            RECORDS.labels("loaded").inc(outcome.inserted + outcome.updated + outcome.unchanged)
            RECORDS.labels("rejected").inc(outcome.rejected)
        else:
            BATCHES.labels("closed" if isinstance(outcome, Closed) else "failed").inc()
    for counted in codes:
        for code, count in counted.items():
            if len(_codes) < MOST_CODES:
                _codes.add(code)
            REJECTS.labels(code if code in _codes else OTHER).inc(count)


@contextmanager
def call(method: str) -> Iterator[None]:
    """A call to another service, with what became of it."""
    began = time.perf_counter()
    code = grpc.StatusCode.OK.name
    try:
        yield
    except grpc.RpcError as fault:
        code = fault.code().name
        raise
    except Exception:
        # gRPC's word for a call on a channel that was closed.
        code = grpc.StatusCode.CANCELLED.name
        raise
    finally:
        CALLS.labels(method, code).inc()
        CALL_SECONDS.labels(method).observe(time.perf_counter() - began)
