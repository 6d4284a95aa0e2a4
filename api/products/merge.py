"""Which product each staged record names, and what becomes of it: as if the records were written one by one, in order.

found     one row a record: its product, whether that has the record's values already, and the outcome
twice     keys that come more than once in the input: only those are looked at in order
rivals    keys that more than one product has: which one is meant cannot be told
"""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence

from psycopg import sql
from psycopg.sql import SQL, Composed

from api.database import Connection
from api.products import staging
from api.products.model import TryAgain
from api.products.rows import COLUMNS
from jobber.model import WriteMode

#: Outcomes of a record, in `found`.
NEW, CHANGED, SAME, MISSING, RIVALS = "new", "changed", "same", "missing", "rivals"
#: Outcome -> code and message of the reject.
REJECTS = {
    MISSING: ("NOT_FOUND", "there is no product with this {}, and UPDATE makes none"),
    RIVALS: ("NOT_UNIQUE", "more than one product has this {}; which one is meant cannot be told"),
}
#: By batch.
Counts = Mapping[int, Counter[str]]

#: The left join makes a row for each pair: more rows than records means rivals.
FIND = SQL("""
    CREATE TEMP TABLE found ON COMMIT DROP AS
    SELECT s.row_no, s.batch_no, p.id AS target, hash_record_extended(ROW({keys}), 0) AS hash,
           CASE WHEN p.id IS NULL THEN {absent} WHEN {same} THEN 'same' ELSE 'changed' END AS outcome,
           p.id IS NULL OR NOT ({same}) AS wins
      FROM {staged} s LEFT JOIN products.products p ON {match}
""")
DROP_RIVALS = SQL("""
    WITH several AS (DELETE FROM found f USING (SELECT row_no FROM found GROUP BY row_no HAVING count(*) > 1) d
                      WHERE f.row_no = d.row_no RETURNING f.row_no, f.batch_no, f.hash)
    INSERT INTO found SELECT DISTINCT ON (row_no) row_no, batch_no, NULL::bigint, hash, 'rivals', false FROM several
""")
#: Records of keys that come more than once, in order: each is compared with the one before it. Whether the hash is of one key
#: or of two is told by the keys themselves.
ORDER = SQL("""
    WITH twice AS (SELECT hash FROM found WHERE outcome NOT IN ('rivals', 'missing') GROUP BY hash HAVING count(*) > 1),
    placed AS (
        SELECT f.row_no, row_number() OVER w AS place, {values} AS mine, lag({values}) OVER w AS before, f.outcome AS alone
          FROM found f JOIN twice USING (hash) JOIN {staged} s ON s.row_no = f.row_no
         WHERE f.outcome NOT IN ('rivals', 'missing')
        WINDOW w AS (PARTITION BY {keys} ORDER BY f.row_no)),
    told AS (
        SELECT row_no, CASE WHEN place = 1 THEN alone WHEN mine IS NOT DISTINCT FROM before THEN 'same'
                            ELSE 'changed' END AS outcome
          FROM placed),
    last AS (
        SELECT max(f.row_no) AS row_no FROM told f JOIN {staged} s ON s.row_no = f.row_no
         WHERE f.outcome <> 'same' GROUP BY {keys})
    UPDATE found f SET outcome = told.outcome, wins = f.row_no IN (SELECT row_no FROM last)
      FROM told WHERE f.row_no = told.row_no
""")
COUNT = "SELECT batch_no, outcome, count(*) FROM found GROUP BY 1, 2 ORDER BY 1, 2"
EXPECTED = "SELECT count(*) FILTER (WHERE target IS NOT NULL), count(*) FILTER (WHERE target IS NULL) FROM found WHERE wins"
CHANGE = SQL("""
    UPDATE products.products p SET {sets}, job_id = s.job_id, batch_no = s.batch_no, row_no = s.row_no
      FROM found f JOIN {staged} s ON s.row_no = f.row_no
     WHERE f.wins AND f.target = p.id AND {match}
""")
ADD = SQL("""
    INSERT INTO products.products ({columns})
    SELECT {of} FROM {staged} s JOIN found f ON f.row_no = s.row_no WHERE f.wins AND f.target IS NULL
""")
LOST_BATCHES = "SELECT DISTINCT batch_no FROM found WHERE outcome IN ('missing', 'rivals') ORDER BY 1"
LOST = SQL("""
    SELECT f.row_no, f.outcome, s.raw FROM found f JOIN {staged} s ON s.row_no = f.row_no
     WHERE f.batch_no = %s AND f.outcome IN ('missing', 'rivals') ORDER BY f.row_no
""")


class Merge:
    """One job's staged rows against the products."""

    def __init__(self, session: Connection, job_id: str, mode: WriteMode, keys: Sequence[str], columns: Sequence[str]) -> None:
        self._session = session
        self._job_id = job_id
        self._mode = mode
        self._keys = keys
        self._columns = columns
        self._staged = staging.named(job_id)

    async def find(self) -> None:
        """Make `found`."""
        session = self._session
        # Nobody has looked at the new table yet: without its size the planner would take it for a small one.
        await session.execute(SQL("ANALYZE {}").format(self._staged))
        same = SQL("({}) IS NOT DISTINCT FROM ({})").format(_row("p", self._columns), _row("s", self._columns))
        absent = MISSING if self._mode is WriteMode.UPDATE else NEW
        query = FIND.format(
            keys=_of("s", self._keys), absent=sql.Literal(absent), same=same, staged=self._staged, match=self._match()
        )
        pairs = (await session.execute(query)).rowcount
        await session.execute("ANALYZE found")
        if pairs != await self._count():
            await session.execute(DROP_RIVALS)
        if absent == MISSING:
            await session.execute("UPDATE found SET wins = false WHERE outcome = 'missing'")
        await session.execute(ORDER.format(values=_row("s", self._columns), keys=_of("s", self._keys), staged=self._staged))

    async def _count(self) -> int:
        row = await (await self._session.execute(SQL("SELECT count(*) FROM {}").format(self._staged))).fetchone()
        assert row is not None
        return int(row[0])

    async def counts(self) -> Counts:
        """How many records came to which outcome."""
        found: dict[int, Counter[str]] = {}
        for batch_no, outcome, count in await (await self._session.execute(COUNT)).fetchall():
            found.setdefault(batch_no, Counter())[outcome] = count
        return found

    async def write(self) -> int:
        """Change and add products; answer how many. Raises TryAgain when somebody changed or deleted one meanwhile."""
        session = self._session
        row = await (await session.execute(EXPECTED)).fetchone()
        assert row is not None
        sets = SQL(", ").join(SQL("{} = s.{}").format(sql.Identifier(c), sql.Identifier(c)) for c in self._columns)
        changed = (await session.execute(CHANGE.format(sets=sets, staged=self._staged, match=self._match()))).rowcount
        if changed != row[0]:
            raise TryAgain("a product was changed by hand")
        names = ("id", "job_id", "batch_no", *COLUMNS)
        columns = SQL(", ").join(map(sql.Identifier, names))
        added = (await session.execute(ADD.format(columns=columns, of=_of("s", names), staged=self._staged))).rowcount
        if added != row[1]:
            raise AssertionError(f"{added} rows were added of {row[1]}")
        return changed + added

    async def rejects(self) -> Mapping[int, bytes]:
        """The whole block of rejects of each batch that has new ones."""
        session, blocks = self._session, {}
        for (batch_no,) in await (await session.execute(LOST_BATCHES)).fetchall():
            lost = await (await session.execute(LOST.format(staged=self._staged), [batch_no])).fetchall()
            cursor = await session.execute(
                "SELECT rejects FROM products.ledger WHERE job_id = %s AND batch_no = %s", [self._job_id, batch_no]
            )
            row = await cursor.fetchone()
            assert row is not None
            blocks[batch_no] = await asyncio.to_thread(_block, bytes(row[0]), lost, self._keys)
        return blocks

    def _match(self) -> Composed:
        pairs = (SQL("p.{} = s.{}").format(sql.Identifier(key), sql.Identifier(key)) for key in self._keys)
        return SQL(" AND ").join(pairs)


def _of(alias: str, names: Sequence[str]) -> Composed:
    return SQL(", ").join(sql.Identifier(alias, name) for name in names)


def _row(alias: str, names: Sequence[str]) -> Composed:
    return SQL("ROW({})").format(_of(alias, names))


def _block(there: bytes, lost: Sequence[tuple[int, str, str | None]], keys: Sequence[str]) -> bytes:
    """Polars is imported only when something is rejected."""
    from operators import rejects
    from operators.frames import faults_of

    column = keys[0] if len(keys) == 1 else None
    rows = [(row_no, column, *_told(outcome, keys)) for row_no, outcome, _ in lost]
    texts = {row_no: raw or "" for row_no, _, raw in lost}
    return rejects.concat([there, rejects.to_block(faults_of(rows), lambda numbers: [texts[number] for number in numbers])])


def _told(outcome: str, keys: Sequence[str]) -> tuple[str, str]:
    code, message = REJECTS[outcome]
    return code, message.format(" and ".join(keys))
