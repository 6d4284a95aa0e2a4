"""The SQL of products and categories, one by one. What is loaded in bulk is in ledger.py."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import LiteralString

import psycopg
from psycopg.rows import TupleRow

from api.database import Pool, connection
from api.products.model import AlreadyExists, Category, Product
from jobber.errors import NotFound

#: Bytes of text of one page: a page of long descriptions is cut short, as its message must stay below gRPC's 64 MiB.
PAGE_BYTES = 8 << 20

COLUMNS: LiteralString = "id, name, category, price, stock, rating, description, job_id::text, batch_no, row_no"

INSERT: LiteralString = f"""
    INSERT INTO products.products (name, category, price, stock, rating, description)
    VALUES (%s, %s, %s, %s, %s, %s) RETURNING {COLUMNS}
"""

SELECT: LiteralString = f"SELECT {COLUMNS} FROM products.products WHERE id = %s"

UPDATE: LiteralString = f"""
    UPDATE products.products SET name = %s, category = %s, price = %s, stock = %s, rating = %s, description = %s
     WHERE id = %s RETURNING {COLUMNS}
"""

DELETE: LiteralString = "DELETE FROM products.products WHERE id = %s"

#: Walks the primary key.
ALL: LiteralString = """
    SELECT * FROM products.products
     WHERE id > %(after)s AND (%(category)s::text IS NULL OR category = %(category)s)
     ORDER BY id LIMIT %(limit)s
"""

#: Walks the ranges of the primary key that the ledger knows the job's batches to have.
OF_JOB: LiteralString = """
    SELECT found.*
      FROM (SELECT first_id, first_id + 99999 AS last_id FROM products.ledger
             WHERE job_id = %(job_id)s AND inserted > 0 AND first_id + 99999 > %(after)s ORDER BY first_id) AS batch
     CROSS JOIN LATERAL (
           SELECT * FROM products.products
            WHERE id BETWEEN greatest(batch.first_id, %(after)s + 1) AND batch.last_id
              AND job_id = %(job_id)s AND (%(category)s::text IS NULL OR category = %(category)s)
            ORDER BY id LIMIT %(limit)s) AS found
     ORDER BY batch.first_id, found.id LIMIT %(limit)s
"""

#: The first row always; the others while the text of all fits. octet_length of a long text does not read it.
CUT: LiteralString = """
    SELECT {columns}, there FROM (
        SELECT *, count(*) OVER () AS there, row_number() OVER (ORDER BY id) AS place,
               sum(octet_length(name) + coalesce(octet_length(category), 0) + coalesce(octet_length(description), 0))
                   OVER (ORDER BY id) AS bytes
          FROM ({found}) AS found) AS page
     WHERE bytes <= %(bytes)s OR place = 1 ORDER BY id
"""


@dataclass(frozen=True, slots=True)
class Filter:
    """Which products a list has; None: all."""

    job_id: str | None = None
    category: str | None = None


class Store:
    """`products.products` and `products.categories`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def create_product(self, product: Product) -> Product:
        """Store a product without lineage under a new id."""
        return _product((await self._rows(INSERT, _values(product)))[0])

    async def product(self, product_id: int) -> Product:
        """Raises NotFound."""
        return _one(await self._rows(SELECT, [product_id]), product_id)

    async def update_product(self, product: Product) -> Product:
        """Replace all but the lineage. Raises NotFound."""
        return _one(await self._rows(UPDATE, [*_values(product), product.id]), product.id)

    async def delete_product(self, product_id: int) -> None:
        """Raises NotFound."""
        async with connection(self._pool) as session:
            if not (await session.execute(DELETE, [product_id])).rowcount:
                raise NotFound(f"There is no product {product_id}.")

    async def products(self, wanted: Filter, *, after: int, limit: int) -> tuple[list[Product], bool]:
        """At most `limit` products with ids above `after`, by id, and whether there are more."""
        found = ALL if wanted.job_id is None else OF_JOB
        parameters = {"job_id": wanted.job_id, "category": wanted.category, "after": after, "limit": limit + 1}
        rows = await self._rows(CUT.format(columns=COLUMNS, found=found), parameters | {"bytes": PAGE_BYTES})
        page = [_product(row) for row in rows[:limit]]
        return page, bool(rows) and rows[0][-1] > len(page)

    async def create_category(self, category: Category) -> Category:
        """Raises AlreadyExists."""
        try:
            rows = await self._rows(
                "INSERT INTO products.categories (name, charge) VALUES (%s, %s) RETURNING name, charge",
                [category.name, category.charge],
            )
        except psycopg.errors.UniqueViolation as fault:
            raise AlreadyExists(f"There is a category {category.name!r} already.") from fault
        return Category(*rows[0])

    async def category(self, name: str) -> Category:
        """Raises NotFound."""
        rows = await self._rows("SELECT name, charge FROM products.categories WHERE name = %s", [name])
        return _category(rows, name)

    async def update_category(self, category: Category) -> Category:
        """Set the charge; jobs that have started keep the old one. Raises NotFound."""
        rows = await self._rows(
            "UPDATE products.categories SET charge = %s WHERE name = %s RETURNING name, charge",
            [category.charge, category.name],
        )
        return _category(rows, category.name)

    async def delete_category(self, name: str) -> None:
        """Raises NotFound."""
        rows = await self._rows("DELETE FROM products.categories WHERE name = %s RETURNING name, charge", [name])
        _category(rows, name)

    async def categories(self) -> list[Category]:
        """All, by name."""
        return [Category(*row) for row in await self._rows("SELECT name, charge FROM products.categories ORDER BY name", [])]

    async def _rows(self, query: LiteralString, parameters: Sequence[object] | Mapping[str, object]) -> list[TupleRow]:
        async with connection(self._pool) as session:
            return await (await session.execute(query, parameters)).fetchall()


def _values(product: Product) -> list[object]:
    return [product.name, product.category, product.price, product.stock, product.rating, product.description]


def _product(row: TupleRow) -> Product:
    return Product(*row[:10])


def _one(rows: Sequence[TupleRow], product_id: int) -> Product:
    if not rows:
        raise NotFound(f"There is no product {product_id}.")
    return _product(rows[0])


def _category(rows: Sequence[TupleRow], name: str) -> Category:
    if not rows:
        raise NotFound(f"There is no category {name[:80]!r}.")
    return Category(*rows[0])
