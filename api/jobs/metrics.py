"""What /metrics of the jobs service tells: what came and went here, and how much waits in the database.

What waits is the same whichever replica is asked: take the maximum of them, not the sum.
"""

import asyncio
import math
from typing import LiteralString

from prometheus_client import Counter, Gauge, Histogram

from api.database import Pool
from api.database import connection as checkout
from jobber.errors import JobberError

SUBMITTED = Counter("jobber_jobs_submitted", "Jobs accepted, by job type.", ["type"])
ENDED = Counter("jobber_jobs_ended", "Jobs that came to their end here, by state.", ["state"])
DISPATCHED = Counter("jobber_jobs_dispatched_messages", "Messages published to the transport, by lane.", ["lane"])
REISSUED = Counter("jobber_jobs_reissued_batches", "Batches published again because they seemed lost.")
UNPUBLISHED = Counter("jobber_jobs_unpublished_messages", "Messages that the transport did not take.")
ATTEMPTS = Counter("jobber_jobs_batch_attempts", "Attempts at batches: the first, and any further one.", ["attempt"])
LAG_SECONDS = Histogram(
    "jobber_jobs_transport_lag_seconds",
    "Seconds from a batch's dispatch to its claim by an executor.",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 30, 120),
)
RECEIPTS = Counter("jobber_jobs_receipts", "Receipts that executors brought.")
UPLOADS = Counter("jobber_jobs_uploads", "Uploads stored.")
UPLOAD_BYTES = Counter("jobber_jobs_upload_bytes", "Bytes of the uploads stored.")

WAITING = Gauge("jobber_jobs_waiting", "Jobs of which nothing is dispatched yet.")
QUEUE_AGE = Gauge("jobber_jobs_queue_age_seconds", "Seconds that the oldest of them waits; 0 when there is none.")
BACKLOG = Gauge("jobber_jobs_backlog_batches", "Batches that are planned and not dispatched.")
IN_FLIGHT = Gauge("jobber_jobs_in_flight_batches", "Batches that are with the transport or with executors.")
UNCLAIMED = Gauge("jobber_jobs_unclaimed_batches", "Batches of them that no executor has claimed.")
UNCLAIMED_AGE = Gauge("jobber_jobs_unclaimed_age_seconds", "Seconds since the dispatch of the oldest of these.")
CLOSING = Gauge("jobber_jobs_closing", "Jobs that wait for products to close them.")
_GAUGES = (WAITING, QUEUE_AGE, BACKLOG, IN_FLIGHT, UNCLAIMED, UNCLAIMED_AGE, CLOSING)

#: Seconds between two looks. One is four index scans.
EVERY = 5.0

#: The conditions are those of the partial indexes. A negative infinity is a batch that is to go out again at once.
LOOK: LiteralString = """
    SELECT coalesce(unplanned.jobs, 0) + coalesce(hungry.jobs, 0),
           coalesce(extract(epoch FROM clock_timestamp() - least(unplanned.oldest, hungry.oldest)), 0)::float8,
           coalesce(hungry.batches, 0), coalesce(outstanding.batches, 0), coalesce(outstanding.unclaimed, 0),
           coalesce(extract(epoch FROM clock_timestamp() - outstanding.oldest), 0)::float8, closing.jobs
      FROM (SELECT count(*) AS jobs, min(created_at) AS oldest FROM jobs.jobs
             WHERE state IN ('QUEUED', 'VALIDATING') AND batches IS NULL) unplanned,
           (SELECT count(*) FILTER (WHERE next_batch = 0) AS jobs, min(created_at) FILTER (WHERE next_batch = 0) AS oldest,
                   sum(batches - next_batch)::bigint AS batches FROM jobs.jobs
             WHERE state IN ('QUEUED', 'RUNNING') AND batches IS NOT NULL AND next_batch < batches) hungry,
           (SELECT count(*) AS batches, count(*) FILTER (WHERE claimed_at IS NULL) AS unclaimed,
                   min(dispatched_at) FILTER (WHERE claimed_at IS NULL AND isfinite(dispatched_at)) AS oldest
              FROM jobs.batches WHERE dispatch_no > 0 AND NOT settled) outstanding,
           (SELECT count(*) AS jobs FROM jobs.jobs WHERE state = 'CANCELING') closing
"""


async def look(pool: Pool) -> None:
    """Set what waits; NaN when the database does not say."""
    try:
        async with checkout(pool) as session:
            found = await (await session.execute(LOOK)).fetchone()
    except JobberError:
        found = None
    for gauge, value in zip(_GAUGES, found or [math.nan] * len(_GAUGES), strict=True):
        gauge.set(value)


async def keep_looking(pool: Pool) -> None:
    """Look again and again, until cancelled."""
    while True:
        await look(pool)
        await asyncio.sleep(EVERY)
