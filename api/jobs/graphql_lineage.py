"""Batches in GraphQL: what a job consists of, and what a row came from."""

from typing import Any

import graphene

from api.graphql.scalars import DateTime, Long, RawJson
from api.graphql.types import Node
from api.jobs.context import Context
from api.jobs.graphql_inputs import json_value
from api.jobs.graphql_types import Job
from api.jobs.lineage import BatchRow
from jobber.errors import InvalidData
from jobber.ids import is_id
from jobber.model import BatchKey

#: The largest of a 4-byte and of an 8-byte integer.
MOST_BATCHES, MOST_ROWS = (1 << 31) - 1, (1 << 63) - 1


class Batch(graphene.ObjectType):
    """Records that succeed or fail together."""

    class Meta:  # noqa: D106
        interfaces = (Node,)

    index = graphene.Int(required=True, description="Its number in the job, from 0.")
    first_row = Long(required=True, description="Number of its first record in the input, from 1.")
    rows = graphene.Int(required=True)
    attempts = graphene.Int(required=True, description="How often it was begun.")
    committed_at = graphene.Field(DateTime, description="Null until it is.")
    job = graphene.Field(Job, required=True)

    @staticmethod
    def of(row: BatchRow) -> "Batch":
        """As people see it."""
        batch = Batch(
            id=f"{row.key.job_id}:{row.key.batch_no}",
            index=row.key.batch_no,
            first_row=row.first_row,
            rows=row.rows,
            attempts=row.attempts,
            committed_at=row.committed_at,
        )
        batch.key = row.key
        return batch

    async def resolve_job(root: Any, info: graphene.ResolveInfo) -> Job:
        """Many at once; the batch was only found because its job may be seen."""
        context: Context = info.context
        row = await context.jobs.load(root.key.job_id)
        assert row is not None
        return Job.of(row)


def batch_key(id: str) -> BatchKey | None:
    """The batch of that id; None when it is no batch's."""
    job_id, _, number = id.lower().partition(":")
    if is_id(job_id) and number.isascii() and number.isdigit() and len(number) <= 10 and int(number) <= MOST_BATCHES:
        return BatchKey(job_id, int(number))
    return None


async def find_batch(context: Context, id: str) -> Batch | None:
    """The batch, when its job may be seen."""
    sees, key = context.sees, batch_key(id)
    found = await context.services.lineage.batches([key], sees) if key else []
    return Batch.of(found[0]) if found else None


async def row_lineage(context: Context, table: str, key: RawJson) -> list[Batch]:
    """The batches that wrote the row, as far as their jobs may be seen. Raises InvalidData for what names no row."""
    sees = context.sees
    if table != "products":
        raise InvalidData('The table with lineage is "products".')
    value = json_value(key)
    number = value.get("id") if isinstance(value, dict) and set(value) == {"id"} else value
    if not isinstance(number, int) or isinstance(number, bool) or not 0 < number <= MOST_ROWS:
        raise InvalidData('A product is named by its number: {"id": 1}.')
    origin = await context.services.products.origin(number)
    return [Batch.of(row) for row in await context.services.lineage.batches([origin], sees)] if origin else []
