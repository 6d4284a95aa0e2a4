"""What a campaign left over, once all its jobs have ended: nothing of it may stay (I17)."""

import contextlib
import json
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import LiteralString

import psutil

from jobber.local.child import HOME
from tests.chaos.database import Database

#: Seconds that what is left over may take to go away by itself.
TIDY = 60.0

#: In the database: how it is counted.
LEFT: dict[str, LiteralString] = {
    "batches with executors": """
        SELECT count(*) FROM jobs.batches b JOIN jobs.jobs j ON j.id = b.job_id
         WHERE b.dispatch_no > 0 AND NOT b.settled AND j.state NOT IN ('CANCELED', 'FAILED')""",
    "messages of the transport": "SELECT count(*) FROM transport.messages",
    "staging tables": "SELECT count(*) FROM pg_tables WHERE schemaname = 'products' AND tablename LIKE 'staged\\_%%'",
    "prepared transactions": "SELECT count(*) FROM pg_prepared_xacts",
    "temporary tables": "SELECT count(*) FROM pg_class WHERE relpersistence = 't'",
    "transactions that are open for 10 s": """
        SELECT count(*) FROM pg_stat_activity
         WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start < clock_timestamp() - interval '10 s'""",
    "advisory locks": """
        SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid)
         WHERE l.locktype = 'advisory' AND a.xact_start < clock_timestamp() - interval '10 s'""",
}


def left_over(database: Database, folder: Path, *, pulsar: bool) -> dict[str, int]:
    """What is still there after TIDY seconds; empty when all is tidy. `folder` is the running `up`'s."""
    deadline = time.monotonic() + TIDY
    while True:
        found = dict(_now(database, folder, pulsar=pulsar))
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(1)


def _now(database: Database, folder: Path, *, pulsar: bool) -> Iterator[tuple[str, int]]:
    for what, query in LEFT.items():
        with_pulsar = pulsar and what == "messages of the transport"
        count = _backlog(folder) if with_pulsar else int(database.rows(query)[0][0])
        if count:
            yield what, count
    if orphans := _orphans(database, folder / "blobs"):
        yield f"blobs of nobody, like {orphans[0]}", len(orphans)
    if lost := strays(folder):
        yield f"processes without a parent, like {lost[0]}", len(lost)


def _backlog(folder: Path) -> int:
    """Messages that Pulsar keeps for the executors, those that they have and did not acknowledge included."""
    admin = f"http://127.0.0.1:{(folder / 'pulsar' / 'ports').read_text().split()[1]}/admin/v2"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def ask(path: str) -> object:
        with opener.open(f"{admin}{path}", timeout=10) as answer:
            return json.loads(answer.read())

    count = 0
    topics = ask("/persistent/public/default")
    assert isinstance(topics, list)
    for topic in topics:
        stats = ask(f"/{topic.replace('://', '/')}/stats")
        assert isinstance(stats, dict)
        count += sum(int(subscription["msgBacklog"]) for subscription in stats["subscriptions"].values())
    return count


def _orphans(database: Database, blobs: Path) -> list[str]:
    """Files of inputs that no upload and no job refers to."""
    named = {
        row[0]
        for row in database.rows(
            "SELECT unnest(ARRAY[blob_key, plan_blob]) FROM jobs.uploads"
            " UNION SELECT unnest(ARRAY[blob_key, plan_blob]) FROM jobs.jobs"
        )
    }
    return sorted({str(path.relative_to(blobs)) for path in blobs.rglob("*") if path.is_file()} - named)


def running(folder: Path) -> list[psutil.Process]:
    """Processes that an `up` on the folder started, and theirs."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get(HOME) == str(folder.resolve()) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def strays(folder: Path) -> list[str]:
    """Those whose parent has ended, but for the services' `up` itself."""
    found = []
    for process in running(folder):
        with contextlib.suppress(psutil.Error):
            if process.ppid() == 1:
                found.append(" ".join(process.cmdline())[-80:])
    return found
