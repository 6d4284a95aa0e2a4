"""What /metrics of auth, jobs and products tell alike: gRPC and GraphQL by rate, errors and duration, and the pools' use.

Labels are bounded: methods and fields are those of the schemas, never what a caller wrote.
"""

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Any

import grpc
from prometheus_client import REGISTRY, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from psycopg_pool import AsyncConnectionPool

# A second series for each counter, with the time of its making: nobody asks for it.
disable_created_metrics()  # type: ignore[no-untyped-call]

BUCKETS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)

GRPC_CALLS = Counter("jobber_grpc_calls", "gRPC calls answered, by method and status code.", ["method", "code"])
GRPC_SECONDS = Histogram("jobber_grpc_call_seconds", "Seconds of a gRPC call.", ["method"], buckets=(*BUCKETS, 30))
GRAPHQL_REQUESTS = Counter(
    "jobber_graphql_requests",
    "GraphQL requests answered, by root field and outcome: ok, refused (the caller's), unavailable, bug.",
    ["field", "outcome"],
)
GRAPHQL_SECONDS = Histogram("jobber_graphql_request_seconds", "Seconds of a query or mutation.", ["field"], buckets=BUCKETS)
SUBSCRIPTIONS = Gauge("jobber_graphql_subscriptions", "Subscriptions that are open.")

#: Of gRPC calls that were refused before their method was looked at.
UNAUTHENTICATED = "unauthenticated"
#: Of GraphQL requests that were refused before anything of them ran.
NOTHING = "none"

_codes = {code.value[0]: code.name for code in grpc.StatusCode}


@contextmanager
def grpc_call(method: str, context: Any) -> Iterator[None]:
    """Count the call, with the status that it has in the end."""
    began = perf_counter()
    try:
        yield
    except BaseException as fault:
        # An abort has set its status; a cancelled call has none.
        code = context.code()
        count_call(method, _code(code) if code else "CANCELLED" if not isinstance(fault, Exception) else "UNKNOWN")
        raise
    else:
        count_call(method, _code(context.code()))
    finally:
        GRPC_SECONDS.labels(method).observe(perf_counter() - began)


def count_call(method: str, code: str) -> None:
    """A call was answered."""
    GRPC_CALLS.labels(method, code).inc()


def _code(code: Any) -> str:
    """The name of a status, which gRPC gives as an enum or as its number; none is OK."""
    return code.name if isinstance(code, grpc.StatusCode) else _codes.get(code or 0, "UNKNOWN")


def pool_families() -> tuple[GaugeMetricFamily | CounterMetricFamily, ...]:
    """What is told of each pool, without values."""
    labels = ["pool"]
    return (
        GaugeMetricFamily("jobber_database_connections", "Connections to PostgreSQL that are open.", labels=labels),
        GaugeMetricFamily("jobber_database_connections_limit", "Connections that there may be.", labels=labels),
        GaugeMetricFamily("jobber_database_connections_used", "Connections that are in use.", labels=labels),
        GaugeMetricFamily("jobber_database_waiting", "Requests that wait for a connection.", labels=labels),
        CounterMetricFamily("jobber_database_wait_seconds", "Seconds that requests waited for a connection.", labels=labels),
        CounterMetricFamily("jobber_database_errors", "Requests that got no connection in time.", labels=labels),
    )


class _Pools(Collector):
    """Reads the pools' own figures when it is asked."""

    def __init__(self) -> None:
        self.pools: weakref.WeakSet[AsyncConnectionPool[Any]] = weakref.WeakSet()

    def describe(self) -> list[Metric]:
        """Nothing: names are known when there is a pool."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Connections, those that are in use, and who waits for one."""
        families = size, most, used, waits, waited, failed = pool_families()
        for pool in sorted(self.pools, key=lambda pool: pool.name):
            stats, name = pool.get_stats(), [pool.name]
            size.add_metric(name, stats.get("pool_size", 0))
            most.add_metric(name, stats.get("pool_max", 0))
            used.add_metric(name, stats.get("pool_size", 0) - stats.get("pool_available", 0))
            waits.add_metric(name, stats.get("requests_waiting", 0))
            waited.add_metric(name, stats.get("requests_wait_ms", 0) / 1000)
            failed.add_metric(name, stats.get("requests_errors", 0))
        yield from families


_pools = _Pools()
REGISTRY.register(_pools)


def watch(pool: AsyncConnectionPool[Any]) -> None:
    """Tell of this pool, as long as it is there."""
    _pools.pools.add(pool)
