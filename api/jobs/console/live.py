"""What moves: fragments of the pages over server-sent events, made by the templates that made the pages.

Nothing runs for a page that nobody has in front of them: the script closes the stream when its tab is hidden.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request

from api.jobs.console import pages
from api.jobs.console.views import parts_of, people_of
from api.jobs.context import Context
from api.jobs.model import Job
from api.jobs.rejects import Group
from jobber.errors import InvalidData, JobberError, Unauthenticated
from jobber.model import State

#: Seconds between two pictures: an eye sees no more of them, and each costs a reading.
PICTURE, LIST = 0.3, 0.7
#: Seconds between two readings of what was rejected, which are dearer.
GROUPS = 3.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which jobs of the list."""

    state: str
    kind: str
    #: Number of the job that the page is behind; None: the newest.
    before: int | None

    @staticmethod
    def of(request: Request) -> "Wanted":
        """From the address. Raises InvalidData."""
        given = request.query_params
        state, before = given.get("state", ""), given.get("before", "")
        if state and state not in pages.FILTERS:
            raise InvalidData(f"There are jobs that are {', '.join(pages.FILTERS)}; {state[:40]!r} is none of these.")
        if before and not (before.isascii() and before.isdigit() and len(before) < 19):
            raise InvalidData("`before` is the number of a job.")
        return Wanted(state, given.get("type", ""), int(before) if before else None)

    def address(self, **other: Any) -> str:
        """Of the list, with some of it changed."""
        given = {"state": self.state, "type": self.kind, "before": self.before} | other
        kept = {name: value for name, value in given.items() if value}
        return pages.HOME + (f"?{urlencode(kept)}" if kept else "")

    @property
    def live(self) -> str:
        """Where the list's changes are."""
        return self.address().replace(pages.HOME, f"{pages.HOME}/live", 1)

    async def read(self, context: Context, most: int) -> tuple[list[Job], bool]:
        """Up to so many jobs, newest first, and whether there are older ones."""
        jobs = await context.store.jobs(
            context.sees,
            first=most + 1,
            before=self.before,
            name=self.kind or None,
            states=pages.FILTERS.get(self.state, ()),
        )
        return jobs[:most], len(jobs) > most


async def counted(context: Context, events: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """The events, counted among the caller's open subscriptions; a refusal comes as an event, too, and ends them."""
    async with aclosing(events):
        try:
            with context.services.following.one_more(context.who.id):
                async for event in events:
                    yield event
        except Unauthenticated:
            yield _event("signed-out", "")
        except JobberError as fault:
            yield _event("refused", fault.message)


async def jobs(context: Context, wanted: Wanted, most: int) -> AsyncGenerator[bytes, None]:
    """The rows of the list that changed, at every change; however many jobs change, the page is read once in LIST seconds."""
    shown: dict[str, str] = {}
    async with aclosing(context.services.changes.ticks(context.check)) as ticks:
        async for _ in ticks:
            found, _more = await wanted.read(context, most)
            people = await people_of(context, found)
            rows = {job.id: pages.render("row.html", job=job, people=people, who=context.who) for job in found}
            changed = [text for job_id, text in rows.items() if shown.get(job_id) != text]
            if changed:
                yield _event("rows", "".join(changed))
            if list(shown) != list(rows):
                yield _event("order", " ".join(rows))
            shown = rows
            await asyncio.sleep(LIST)


async def job(context: Context, job_id: str) -> AsyncGenerator[bytes, None]:
    """The moving parts of a job's page at every change; `ended` after the last."""
    loop = asyncio.get_running_loop()
    groups: list[Group] | None = None
    rejected, looked = 0, loop.time()
    changes = context.services.changes.follow(context.store, job_id, context.sees, None, context.check)
    async with aclosing(changes) as following:
        async for seen in following:
            again = loop.time() - looked >= GROUPS or seen.state is not State.RUNNING
            if seen.tally.rejected != rejected and again and not seen.expired:
                groups, rejected, looked = await context.rejects.groups(job_id), seen.tally.rejected, loop.time()
            yield _event("parts", pages.render("parts.html", who=context.who, **await parts_of(context, seen, groups)))
            if seen.state.terminal:
                yield _event("ended", "")
                return
            await asyncio.sleep(PICTURE)


def _event(kind: str, text: str) -> bytes:
    lines = "".join(f"data: {line}\n" for line in text.splitlines() or [""])
    return f"event: {kind}\n{lines}\n".encode()
