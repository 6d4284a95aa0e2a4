"""`jobReplayRejected` in the GraphQL schema."""

from typing import Any

import graphene

from api.graphql.types import user_error
from api.jobs import acts
from api.jobs import graphql_types as types
from api.jobs.context import Context
from jobber.errors import JobberError


class JobReplayRejected(graphene.Mutation):
    """Run a job's rejects again, as a job of its own: corrected in an upload, or as they were. Again: the same child."""

    class Arguments:  # noqa: D106
        id = graphene.ID(required=True)
        corrected_upload_id = graphene.ID(
            description="An upload of the caller's, in the form of the rejects' download; without it, the rejects as they were."
        )

    Output = graphene.NonNull(types.JobPayload)

    @staticmethod
    async def mutate(
        root: Any, info: graphene.ResolveInfo, id: str, corrected_upload_id: str | None = None
    ) -> types.JobPayload:
        """The child job."""
        context: Context = info.context
        context.may_submit()
        try:
            child, replayed = await acts.replay(context, types.job_id(id), corrected_upload_id)
            row = await context.store.job(child, None)
            assert row is not None
        except JobberError as fault:
            return types.JobPayload(job=None, replayed=False, user_errors=[user_error(fault)])
        return types.JobPayload(job=types.Job.of(row), replayed=replayed, user_errors=[])
