"""What people do to jobs, whichever door they come through: GraphQL's mutations and the console's forms.

Each checks that the caller may, changes what is stored, and wakes who has to know.
"""

from api.jobs import retry as retries
from api.jobs.context import Context
from api.jobs.submission import Asked
from api.jobs.submit import Stored
from jobber import faults
from jobber.log import event


async def submit(context: Context, asked: Asked) -> Stored:
    """Store a job durably. Raises Forbidden, and as `Desk.submit` does."""
    context.may_submit()
    outcome = await context.services.desk.submit(asked)
    context.services.dispatcher.wake()
    context.services.changes.publish([outcome.job_id])
    return outcome


async def cancel(context: Context, job_id: str) -> None:
    """Close the job for good. Raises Forbidden, NotFound, InvalidState."""
    context.may_submit()
    await context.store.cancel(job_id, context.sees, context.who.actor)
    faults.point("cancel.after_commit")
    event("job_cancelled", "A job's cancel was asked.", job=job_id, by=context.who.id)
    # No row may appear after the answer: products closes the job first. When it is away the answer says CANCELING.
    await context.services.dispatcher.close_jobs()
    context.services.dispatcher.wake()
    context.services.changes.publish([job_id])


async def pause(context: Context, job_id: str) -> None:
    """Dispatch nothing more of the job for now. Raises Forbidden, NotFound, InvalidState."""
    context.may_submit()
    await context.store.pause(job_id, context.sees, context.who.actor)
    context.services.changes.publish([job_id])


async def resume(context: Context, job_id: str) -> None:
    """Go on with a paused job. Raises Forbidden, NotFound, InvalidState."""
    context.may_submit()
    await context.store.resume(job_id, context.sees, context.who.actor)
    context.services.dispatcher.wake()
    context.services.changes.publish([job_id])


async def retry(context: Context, job_id: str) -> tuple[str, bool]:
    """Run what a failed or cancelled job left: the child's id, and whether it was there. Raises as api.jobs.retry does."""
    context.may_submit()
    child, replayed = await retries.retry(context.store.pool, job_id, context.sees, context.who.actor)
    context.services.dispatcher.wake()
    context.services.changes.publish([child])
    return child, replayed


async def replay(context: Context, job_id: str, upload_id: str | None = None) -> tuple[str, bool]:
    """Run the rejects again: the child's id, and whether it was there. Raises as `Replays.replay` does."""
    context.may_submit()
    who = context.who
    child, replayed = await context.services.replays.replay(job_id, context.sees, who.id, who.actor, upload_id)
    context.services.dispatcher.wake()
    context.services.changes.publish([child])
    return child, replayed
