"""Celery's tasks: COPY of a batch, INSERT of a record. As people run it; acknowledged late, so that a crash loses nothing."""

import csv
import functools
import io
import os

import psycopg
import redis
from celery import Celery

from benchmarks.peers.programs.served import COLUMNS, DSN, TABLE

REDIS = os.environ["PEER_REDIS"]
#: What the sender looks at; a result backend would cost Celery more.
FINISHED = "finished"

app = Celery("peer", broker=REDIS)
app.conf.update(
    task_acks_late=True, task_ignore_result=True, worker_prefetch_multiplier=4, broker_connection_retry_on_startup=True
)


@functools.cache
def session() -> psycopg.Connection:
    """One of each worker process, kept."""
    return psycopg.connect(DSN, autocommit=True)


@functools.cache
def counter() -> "redis.Redis":
    """One of each process, kept."""
    return redis.Redis.from_url(REDIS)


@app.task  # type: ignore[untyped-decorator]  # Celery has no types
def copy_batch(rows: list[list[str]]) -> None:
    """One COPY, one commit."""
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    with session().cursor() as cursor, cursor.copy(f"COPY {TABLE} ({', '.join(COLUMNS)}) FROM STDIN (FORMAT csv)") as sink:
        sink.write(text.getvalue())
    counter().incrby(FINISHED, len(rows))


@app.task  # type: ignore[untyped-decorator]  # Celery has no types
def insert_record(row: list[str]) -> None:
    """One INSERT, one commit."""
    session().execute(f"INSERT INTO {TABLE} ({', '.join(COLUMNS)}) VALUES (%s, %s, %s, %s, %s, %s)", row)
    counter().incr(FINISHED)
