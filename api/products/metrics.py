"""What /metrics of the products service tells beside the process's own figures."""

from prometheus_client import Counter, Gauge, Histogram

BATCHES = Counter("jobber_products_batches", "Batches answered by Load, by outcome.", ["outcome"])
ROWS = Counter("jobber_products_rows", "Rows written by Load.")
COMMIT_SECONDS = Histogram(
    "jobber_products_commit_seconds",
    "Seconds from a group's turn to its commit.",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10),
)
COPY_SECONDS = Histogram(
    "jobber_products_copy_seconds",
    "Seconds of one COPY.",
    buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10),
)
COPY_BYTES = Counter("jobber_products_copy_bytes", "Bytes that were sent by COPY.")
WAITING = Gauge("jobber_products_waiting_bytes", "Bytes of groups that arrive or wait for a COPY session.")
