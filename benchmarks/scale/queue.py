"""Ten thousand jobs of a thousand users that wait: who waits how long, and whoever comes meanwhile."""

import asyncio
import os
import signal
import time
import uuid
from collections.abc import Sequence
from typing import Any

import psycopg

from api.tokens import api_token_hash, new_api_token
from benchmarks import drive, report
from tests.support.system import System, until

#: Connections that submit.
CLIENTS = 32
RECORDS = 10
WAITING = "SELECT count(*) FROM jobs.jobs WHERE ended_at IS NULL"


def users(dsn: str, count: int) -> list[str]:
    """Members, made in the database with a token each: passwords cost a tenth of a second each by intent. The tokens."""
    tokens = [new_api_token() for _ in range(count)]
    with psycopg.connect(dsn) as session, session.cursor() as cursor:
        ids = [str(uuid.uuid4()) for _ in tokens]
        emails = [f"user-{number}@bench.local" for number in range(count)]
        cursor.executemany(
            "INSERT INTO auth.users (id, email, email_key, password_hash, role) VALUES (%s, %s, %s, 'none', 'MEMBER')",
            [(made, email, email) for made, email in zip(ids, emails, strict=True)],
        )
        cursor.executemany(
            "INSERT INTO auth.api_tokens (id, user_id, name, scopes, sha256) VALUES (%s, %s, 'bench', %s, %s)",
            [
                (str(uuid.uuid4()), made, ["jobs:read", "jobs:write"], api_token_hash(token))
                for made, token in zip(ids, tokens, strict=True)
            ],
        )
    return tokens


async def submitted(url: str, requests: Sequence[bytes]) -> drive.Answers:
    """All of them, in their order, from a few connections."""
    answers, left, done = drive.Answers(), iter(requests), asyncio.Event()
    open_connections = min(CLIENTS, len(requests))

    def answered(connection: drive.Connection, status: int, body: bytes) -> None:
        nonlocal open_connections
        answers.take(status, body, time.perf_counter() - connection.began)
        if following := next(left, None):
            connection.send(following)
        else:
            connection.close()
            open_connections -= 1
            if not open_connections:
                done.set()

    for connection in await drive.connect(url, open_connections, answered):
        connection.send(next(left))
    async with asyncio.timeout(600):
        await done.wait()
    return answers


def measure(system: System, jobs: int, people: int) -> dict[str, Any]:
    """Submit user by user while no executor works; let them work; tell who waited how long.

    Raises AssertionError when a job was not taken, or did not load its records.
    """
    dsn, url = system.state["database"], system.state["jobs"]
    body = drive.submission(RECORDS)
    tokens = users(dsn, people + 1)
    each = max(jobs // people, 1)
    # The last user's jobs come when all others' wait: in order of submission, they would be the last ones done.
    requests = [drive.request(url, token, body) for token in tokens[:people] for _ in range(each)]
    stopped = system.pids("executor")
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    try:
        began = time.perf_counter()
        answers = asyncio.run(submitted(url, requests))
        accepted = len(requests) / (time.perf_counter() - began)
        assert not answers.wrong, answers.wrong[:3]
        assert len(answers.ids) == len(requests), answers.refused
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
    before, began = report.cpu_by_role(system), time.perf_counter()
    ((opened,),) = system.rows("SELECT clock_timestamp()")
    late = asyncio.run(latecomers(system, drive.request(url, tokens[people], body)))
    until(lambda: system.rows(WAITING)[0][0] == 0, 600, "the end of all jobs")
    used, wall = report.spent(before, report.cpu_by_role(system)), time.perf_counter() - began
    firsts = [
        float(row[0])
        for row in system.rows(
            "SELECT extract(epoch FROM min(ended_at) - %s) FROM jobs.jobs WHERE id = ANY (%s::uuid[])"
            " GROUP BY owner_id ORDER BY min(number)",
            opened,
            answers.ids,
        )
    ]
    ((wrong,),) = system.rows(
        "SELECT count(*) FROM jobs.jobs j LEFT JOIN products.ledger l ON l.job_id = j.id WHERE j.id = ANY (%s::uuid[])"
        " AND (j.state, l.inserted) IS DISTINCT FROM ('SUCCEEDED', %s)",
        answers.ids,
        RECORDS,
    )
    assert not wrong, f"{wrong} jobs did not load their records"
    return {
        "jobs": len(requests),
        "users": people,
        "accepted/s": accepted,
        "drained s": wall,
        "finished/s": len(requests) / wall,
        "CPU s/1000": used["total"] * 1000 / len(requests),
        # In the order in which they came; a fair queue gives everybody a first job within the first of `each` rounds.
        "first user s": firsts[0],
        "last user s": firsts[-1],
        "slowest first s": max(firsts),
        "fair would be s": wall / each,
        **_late("dispatched", [dispatched for dispatched, _ in late]),
        **_late("ended", [ended for _, ended in late]),
    }


async def latecomers(system: System, asked: bytes) -> list[tuple[float, float]]:
    """Jobs of one who comes while the others' wait, each after the end of the one before: seconds to dispatch, and to end."""
    answers = drive.Answers()
    while system.rows(WAITING)[0][0] > CLIENTS:
        answers.ids += (await submitted(system.state["jobs"], [asked])).ids
        while not system.rows("SELECT ended_at FROM jobs.jobs WHERE id = %s", answers.ids[-1])[0][0]:
            await asyncio.sleep(0.02)
    until(lambda: system.rows(WAITING)[0][0] == 0, 600, "the end of all jobs")
    return [
        (float(dispatched), float(ended))
        for dispatched, ended in system.rows(
            "SELECT extract(epoch FROM b.dispatched_at - j.created_at), extract(epoch FROM j.ended_at - j.created_at)"
            " FROM jobs.jobs j JOIN jobs.batches b ON b.job_id = j.id WHERE j.id = ANY (%s::uuid[])",
            answers.ids,
        )
    ]


def _late(what: str, seconds: Sequence[float]) -> dict[str, float]:
    middle, most = report.quantile(seconds, 0.5), max(seconds, default=float("nan"))
    return {f"late {what} p50 ms": middle * 1000, f"late {what} max ms": most * 1000}
