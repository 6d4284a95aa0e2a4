"""Each mechanism of the SQL taken away once: the state machine must see that a promise breaks.

python -m tests.state_machine.mutants [WORD]     all of them, or those with WORD in their name
"""

import contextlib
import logging
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import psycopg

from api.jobs import dispatch, endings, turn, work
from api.jobs.decide import Limits, Tally, Verdict, choose, verdict
from api.jobs.store import Store
from api.jobs.work import Work
from api.products import ledger
from jobber.local.postgres import EmbeddedPostgres
from jobber.model import State
from tests.state_machine.campaign import MUTANT_EXAMPLES, Quiet, run
from tests.state_machine.promises import Broken
from tests.state_machine.session import Session
from tests.state_machine.world import World, migrated

Mutant = Callable[[], Any]


def sql(*pairs: tuple[str, str]) -> Mutant:
    """Statements with another text in the place of the shipped one."""

    @contextmanager
    def mutant() -> Iterator[None]:
        with patch.dict(Session.rewritten, dict(pairs)), ExitStack() as stack:
            # Constants are looked up when they are used.
            for shipped, other in pairs:
                for name in ("ENTER", "LOCK_SHARED", "CLOSE"):
                    if shipped in (text := getattr(ledger, name)):
                        stack.enter_context(patch.object(ledger, name, text.replace(shipped, other)))
            yield

    return mutant


def python(owner: Any, name: str, other: Any) -> Mutant:
    """A function with another one in its place."""
    return lambda: patch.object(owner, name, other)


def _early(tally: Tally, *, total: int, batches: int, limits: Limits) -> Verdict | None:
    return verdict(tally, total=total, batches=max(batches - 1, 1), limits=limits)


def _no_limits(tally: Tally, *, total: int, batches: int, limits: Limits) -> Verdict | None:
    return verdict(tally, total=total, batches=batches, limits=Limits())


async def _no_receipts(self: Work, job_id: str, receipts: Any, shipped: Any = Work.closed) -> Any:
    return await shipped(self, job_id, ())


async def _ends_at_once(
    self: Store, job_id: str, owner_id: str | None, actor: Any = None, shipped: Any = Store.cancel
) -> State:
    state: State = await shipped(self, job_id, owner_id)
    # It may be cut off here, as anywhere.
    with contextlib.suppress(psycopg.OperationalError):
        async with self.pool.connection() as session:
            await session.execute(
                "UPDATE jobs.jobs SET state = 'CANCELED', ended_at = now() WHERE id = %s AND state = 'CANCELING'", [job_id]
            )
    return state


async def _nothing(*args: Any, **options: Any) -> None:
    return None


async def _counter(connection: Any, ids: Any, shipped: Any = endings.tallied) -> dict[str, Tally]:
    """Counts what is stored now on top of what it remembers; a rollback does not undo that."""
    for job_id, tally in (await shipped(connection, ids)).items():
        _counts[job_id] = max(_counts.get(job_id, 0) + 1, tally.receipts)
        _counted[job_id] = Tally(
            _counts[job_id], *(getattr(tally, name) for name in ("inserted", "updated", "unchanged", "rejected", "staged"))
        )
    return {job_id: _counted[job_id] for job_id in ids}


_counts: dict[str, int] = {}
_counted: dict[str, Tally] = {}

ENTERED = "WHERE NOT EXISTS (SELECT FROM products.closed_jobs AS closed WHERE closed.job_id = given.job_id)"

MUTANTS: Mapping[str, Mutant] = {
    # products
    "the ledger takes a batch that is in it": sql(
        ("ON CONFLICT DO NOTHING\n", "ON CONFLICT (job_id, batch_no) DO UPDATE SET inserted = excluded.inserted\n")
    ),
    "no closed-job check in the transaction of the rows": sql((ENTERED, "")),
    "closing leaves no mark": python(ledger, "CLOSE", "SELECT clock_timestamp() WHERE %s::uuid IS NOT NULL"),
    "rows without their ledger's transaction": python(ledger, "_copy", _nothing),
    "an old batch does not answer its receipt": python(ledger, "STORED", ledger.STORED.replace("inserted,", "inserted + 1,")),
    # claim
    "a superseded dispatch is handed out": sql(
        (
            " AND b.dispatch_no = d.dispatch_no\n                         JOIN jobs.jobs j",
            "\n                         JOIN jobs.jobs j",
        )
    ),
    "batches with a receipt are handed out": sql(("WHERE NOT b.settled ORDER BY b.job_id", "ORDER BY b.job_id")),
    "attempts are not counted": sql(("SET attempts = b.attempts + 1, claimed_at", "SET claimed_at")),
    # plans
    "lost planners are not replaced": python(turn, "PLAN_LEASE", 1e9),
    # dispatch
    "no sweeper": python(dispatch, "lost", lambda outstanding: []),
    "no window": python(dispatch, "choose", lambda jobs, **_: choose(jobs, room=99, job_window=99)),
    "batches of closed and paused jobs keep their place in the window": sql(
        ("AND NOT b.settled AND j.state = 'RUNNING'", "AND NOT b.settled"),
        ("SET settled = true WHERE job_id = %s", "SET settled = false WHERE job_id = %s"),
    ),
    # receipts
    "a receipt does not settle its batch": sql(("SET settled = true FROM stored", "SET settled = b.settled FROM stored")),
    "counter instead of sum": python(work, "tallied", _counter),
    "a job ends before its last receipt": python(work, "verdict", _early),
    "limits of rejects are not looked at": python(work, "verdict", _no_limits),
    # ends
    "a job is closed without its receipts": python(Work, "closed", _no_receipts),
    "a cancel ends the job before products is closed": python(Store, "cancel", _ends_at_once),
    "a job that was dispatched is not closed in products": sql(
        ("next_batch > 0 AND (NOT dry_run OR mode <> 'INSERT') FROM", "false FROM")
    ),
    "pause is not numbered for followers": sql(("SET state = 'PAUSED', changes = changes + 1", "SET state = 'PAUSED'")),
    # submissions
    "idempotency keys are not looked at": sql(
        (
            "idempotency_key, payload_sha256, inline_data, upload_id, blob_key,\n           plan_blob",
            "nullif(idempotency_key, idempotency_key), payload_sha256, inline_data, upload_id, blob_key,\n           plan_blob",
        )
    ),
}

#: Those that every run of the tests hunts; the campaign hunts all.
FEW = (
    "the ledger takes a batch that is in it",
    "a superseded dispatch is handed out",
    "no sweeper",
    "a job ends before its last receipt",
    "counter instead of sum",
    "idempotency keys are not looked at",
)


def hunt(world: World, name: str, examples: int = MUTANT_EXAMPLES) -> str | None:
    """What saw the mutant first; None when it survived."""
    with MUTANTS[name](), Quiet():
        try:
            run(world, seed=0, examples=examples, shrink=False)
        except Broken as fault:
            return str(fault)
        finally:
            _counts.clear()
    return None


def main(word: str = "") -> int:
    """0 when every one was caught."""
    logging.disable(logging.CRITICAL)
    server = EmbeddedPostgres(Path(tempfile.mkdtemp(prefix="jobber-mutants-")))
    server.start("fsync=off")
    survivors = 0
    try:
        migrated(server.dsn)
        world = World(server.dsn)
        for name in (name for name in MUTANTS if word in name):
            found = hunt(world, name)
            survivors += found is None
            print(f"{'caught' if found else 'SURVIVED':9} after {world.runs:4}  {name:62} {found or ''}", flush=True)
        world.close()
    finally:
        server.stop()
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
