"""What products does, done wrong: the ledger, and closing."""

from collections.abc import Iterator, Sequence
from typing import Any

from jobber.model import BatchKey, Receipt
from tests.simulation import products
from tests.simulation.database import Database, Transaction
from tests.simulation.jobs import Jobs
from tests.simulation.mutants.table import mutant, replaced


@mutant("no ledger: a batch that comes again is written again")
def no_ledger() -> Iterator[None]:
    def get(self: Transaction, key: Any) -> Any:
        return None if key[0] == "ledger" else shipped(self, key)

    with replaced(Transaction, "get", get) as shipped:
        yield


@mutant("ledger in a transaction of its own, before the rows")
def ledger_first() -> Iterator[None]:
    def commit(self: Database, session: Transaction) -> None:
        rows = {key: row for key, row in session.writes.items() if key[0] == "rows"}
        if rows:
            for key in rows:
                del session.writes[key]
            shipped(self, session)
            # A crash here loses the rows, whose receipt is there.
            session.writes.clear()
            session.writes.update(rows)
            self.kernel.step()
            session.check()
        shipped(self, session)

    with replaced(Database, "_commit", commit) as shipped:
        yield


@mutant("the ledger keeps keys, not receipts")
def ledger_without_receipts() -> Iterator[None]:
    def write(self: products.Ledger, batches: Any) -> Any:
        outcomes = shipped(self, batches)
        return {key: _blank(outcome, self) for key, outcome in outcomes.items()}

    known: set[tuple[int, BatchKey]] = set()

    def _blank(outcome: Any, ledger: products.Ledger) -> Any:
        if not isinstance(outcome, Receipt):
            return outcome
        if (id(ledger), outcome.key) in known:
            return Receipt(outcome.key, 0, 0, 0, 0, b"()", b"", products.THEN)
        known.add((id(ledger), outcome.key))
        return outcome

    with replaced(products.Ledger, "write", write) as shipped:
        yield


@mutant("no closed-job check in the transaction of the rows")
def no_closed_check() -> Iterator[None]:
    def get(self: Transaction, key: Any) -> Any:
        return None if key[0] == "closed" else shipped(self, key)

    with replaced(Transaction, "get", get) as shipped:
        yield


@mutant("closing a job does not wait for the loads in their transactions")
def close_does_not_wait() -> Iterator[None]:
    with replaced(Transaction, "share", lambda self, key: None):
        yield


@mutant("the receipts of a closed job are not stored")
def closed_without_receipts() -> Iterator[None]:
    async def closed(self: Jobs, job_id: str, receipts: Sequence[Receipt]) -> bool:
        answer: bool = await shipped(self, job_id, ())
        return answer

    with replaced(Jobs, "closed", closed) as shipped:
        yield
