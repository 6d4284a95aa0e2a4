"""Subscriptions: followers of jobs, fed by committed progress (changes.py)."""

from collections.abc import AsyncIterator
from typing import Any

import graphene

from api.graphql.scalars import Long
from api.jobs import graphql_inputs as inputs
from api.jobs import graphql_types as types
from api.jobs.context import Context
from jobber.errors import NotFound


class Subscription(graphene.ObjectType):
    """What can be followed."""

    job_progress = graphene.Field(
        types.Job,
        required=True,
        id=graphene.ID(required=True),
        after_seq=Long(description="`progress.seq` of the last event that was seen: only later ones come."),
        description="The job at every committed change. The last event has its final state, and always comes.",
    )
    jobs_changed = graphene.Field(
        types.Job,
        required=True,
        filter=inputs.JobFilter(),
        description="Every job that changes from now on and that the caller may see; never ends by itself.",
    )

    async def subscribe_job_progress(
        root: Any, info: graphene.ResolveInfo, id: str, after_seq: int | None = None
    ) -> AsyncIterator[types.Job]:
        """Ends with an error once the caller's session has ended."""
        context: Context = info.context
        job_id, sees, changes = types.job_id(id), context.sees, context.services.changes
        if await context.store.job(job_id, sees) is None:
            raise NotFound("There is no such job, or it is not yours.")
        with context.services.following.one_more(context.who.id):
            async for row in changes.follow(context.store, job_id, sees, after_seq, context.check):
                yield types.Job.of(row)

    async def subscribe_jobs_changed(root: Any, info: graphene.ResolveInfo, filter: Any = None) -> AsyncIterator[types.Job]:
        """Ends with an error once the caller's session has ended."""
        context: Context = info.context
        sees, wanted = context.sees, filter or {}
        name, states, after = wanted.get("name"), wanted.get("states"), wanted.get("created_after")
        with context.services.following.one_more(context.who.id):
            async for row in context.services.changes.follow_all(context.store, sees, context.check):
                if (
                    (name is None or row.name == name)
                    and (not states or row.state in states)
                    and (after is None or row.created_at > after)
                ):
                    yield types.Job.of(row)
