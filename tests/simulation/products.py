"""The products schema in memory: what the SQL of api/products/ledger.py does, with the same locks."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from api.products.model import Closed
from jobber import faults
from jobber.errors import Unavailable
from jobber.model import BatchKey, Receipt
from tests.simulation.database import Database
from tests.simulation.jobs import shown

#: What the ledger says of the time is of no consequence here.
THEN = datetime(2026, 1, 1, tzinfo=UTC)


class Ledger:
    """products.ledger, products.closed_jobs and the rows of products."""

    def __init__(self, database: Database) -> None:
        self.database = database
        #: The rows that are in the table, by (job, row_no), as often as they are there.
        self.products: Counter[tuple[str, int]] = Counter()
        database.committed.append(self._committed)

    def write(self, batches: Sequence[tuple[BatchKey, Sequence[int], Sequence[int], bool]]) -> dict[BatchKey, Receipt | Closed]:
        """As Ledger.write; a batch is its key, its rows, the rows that were rejected, and whether the rows wait."""
        faults.point("products.before_ledger")
        outcomes: dict[BatchKey, Receipt | Closed] = {}
        with self.database.transaction() as session:
            for job_id in sorted({key.job_id for key, _, _, _ in batches}):
                session.share(("advisory", job_id))
            self.database.kernel.step()
            for key, rows, rejected, staged in sorted(batches, key=lambda item: (item[0].job_id, item[0].batch_no)):
                if session.get(("closed", key.job_id)):
                    known = session.get(("ledger", key))
                    outcomes[key] = known if known is not None else Closed(key)
                    continue
                session.lock(("ledger", key))
                known = session.get(("ledger", key))
                if known is not None:
                    outcomes[key] = known
                    continue
                counts = (0, len(rows)) if staged else (len(rows), 0)
                block = repr(tuple(rejected)).encode()
                receipt = Receipt(key, counts[0], 0, 0, len(rejected), block, b"", THEN, counts[1])
                session.put(("ledger", key), receipt)
                faults.point("products.after_ledger")
                session.put(("staged" if staged else "rows", key, self.database.number()), tuple(rows))
                outcomes[key] = receipt
            # COPY takes its time.
            self.database.kernel.sleep(self.database.kernel.random.random() * 0.03)
            faults.point("products.before_commit")
        faults.point("products.after_commit")
        return outcomes

    def publish(self, job_id: str) -> list[Receipt]:
        """As Publisher.publish, for new rows, and Ledger.receipts."""
        with self.database.transaction() as session:
            if not session.try_lock(("advisory", job_id)):
                raise Unavailable("the job is being loaded, closed or published")
            self.database.kernel.step()
            if not session.get(("closed", job_id)):
                for key in self.staged(job_id):
                    session.put(("rows", key[1], self.database.number()), session.get(key))
                    session.put(key, ())
                    session.put(("ledger", key[1]), shown(session.get(("ledger", key[1]))))
                session.put(("closed", job_id), True)
            faults.point("products.before_publish")
        faults.point("products.after_publish")
        return self.receipts(job_id)

    def close(self, job_id: str) -> list[Receipt]:
        """As Ledger.close and Ledger.receipts."""
        faults.point("products.before_close")
        with self.database.transaction() as session:
            session.lock(("advisory", job_id))
            session.put(("closed", job_id), True)
            for key in self.staged(job_id):
                session.put(key, ())
        faults.point("products.after_close")
        return self.receipts(job_id)

    def staged(self, job_id: str) -> list[tuple[Any, ...]]:
        """Keys of the job's rows that wait."""
        keys: list[tuple[Any, ...]] = [key for key in self.database.rows if key[0] == "staged"]
        return [key for key in keys if key[1].job_id == job_id and self.database.rows[key]]

    def receipts(self, job_id: str) -> list[Receipt]:
        """What is committed of the job, by batch_no."""
        rows = [row for key, row in self.database.rows.items() if key[0] == "ledger"]
        return sorted((row for row in rows if row.key.job_id == job_id), key=lambda receipt: receipt.key.batch_no)

    def _committed(self, writes: Mapping[tuple[object, ...], object]) -> None:
        for key, rows in writes.items():
            if key[0] == "rows":
                assert isinstance(rows, tuple)
                assert isinstance(key[1], BatchKey)
                self.products.update((key[1].job_id, row) for row in rows)
