"""Negative controls: a mechanism is taken away from the running services, and the campaign must see a promise break.

    python -m tests.chaos --seed 1 --faults 30 --without ledger      reported I1: rows are there more than once
    python -m tests.chaos --seed 1 --faults 10 --without sweeper     reported I2, I17: jobs are RUNNING for ever
    python -m tests.chaos --seed 6 --faults 25 --without closing     reported I5, I1: rows of batches after the job was closed
    python -m tests.chaos --seed 3 --faults 8 --without staging      reported I12: 39,595 of 98,975 rows of a whole job seen
    python -m tests.chaos --seed 3 --faults 8 --without merging      reported I1: 30,000 inserted, of which 50 should be
    python -m tests.chaos --seed 3 --faults 8 --without trying       reported I12: a dry run wrote 10 rows

Those in Python take effect where this module is loaded, as one of the job modules, in the services that have the mechanism.
"""

import os
import sys
from typing import Any, LiteralString

import psycopg

#: Says which mechanism is missing, to the processes of the services.
WITHOUT = "JOBBER_CHAOS_WITHOUT"

#: Every job is submitted with something changed.
SUBMITTED: LiteralString = """
    CREATE FUNCTION jobs.changed() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {} RETURN NEW; END $$;
    CREATE TRIGGER changed BEFORE INSERT ON jobs.jobs FOR EACH ROW EXECUTE FUNCTION jobs.changed()"""

#: Mechanism -> the promise that breaks without it, and what is done to the database for it.
MECHANISMS: dict[str, tuple[str, LiteralString]] = {
    # A batch that comes again is written again.
    "ledger": ("I1", "ALTER TABLE products.ledger DROP CONSTRAINT ledger_pkey"),
    # Messages are acknowledged on receipt, and nothing is issued again.
    "sweeper": ("I2", "SELECT"),
    # Products forgets at once that a job is closed.
    "closing": (
        "I5",
        """CREATE FUNCTION products.forget() RETURNS trigger LANGUAGE plpgsql AS
           $$ BEGIN DELETE FROM products.closed_jobs WHERE job_id = NEW.job_id; RETURN NULL; END $$;
           CREATE TRIGGER forget AFTER INSERT ON products.closed_jobs FOR EACH ROW EXECUTE FUNCTION products.forget()""",
    ),
    # Batches of a whole job become visible one by one.
    "staging": ("I12", SUBMITTED.replace("{}", "NEW.whole := false;")),
    # Keys are forgotten: every record becomes a new row.
    "merging": ("I1", SUBMITTED.replace("{}", "NEW.mode := 'INSERT'; NEW.keys := '{}';")),
    # Dry runs write.
    "trying": ("I12", SUBMITTED.replace("{}", "NEW.dry_run := false;")),
}


def sabotage(dsn: str, mechanism: str) -> None:
    """Do to the database what is to be done."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(MECHANISMS[mechanism][1])


def _no_sweeper(role: str) -> None:
    if role == "jobs":
        from api.jobs import dispatch

        dispatch.lost = lambda outstanding: []  # type: ignore[attr-defined]
    elif role == "executor":
        from jobber.transport.postgres import PostgresConsumer

        shipped = PostgresConsumer.receive

        def receive(self: PostgresConsumer, wait: float) -> Any:
            deliveries = shipped(self, wait)
            self.acknowledge(deliveries)
            return deliveries

        PostgresConsumer.receive = receive  # type: ignore[method-assign]


if os.environ.get(WITHOUT) == "sweeper":
    _no_sweeper(sys.argv[1] if len(sys.argv) > 1 else "")
