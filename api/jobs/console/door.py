"""The console's addresses: pages, forms, live fragments, files."""

from collections.abc import AsyncGenerator
from typing import Any
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from api.graphql.sse import stream
from api.graphql.types import decode_cursor, encode_cursor
from api.jobs import acts, graphql_types
from api.jobs.console import live, pages
from api.jobs.console.load import load_form, load_submitted
from api.jobs.console.session import SIGN_IN, ContextOf, Handler, guarded, sign_in_routes
from api.jobs.console.views import parts_of, people_of
from api.jobs.context import Context, Services
from api.jobs.model import Job
from api.rates import Rates
from jobber.contract import Contract
from jobber.errors import InvalidData, NotFound

#: Jobs and rejects on a page.
JOBS, REJECTS = 25, 50
ACTS = {"cancel": acts.cancel, "pause": acts.pause, "resume": acts.resume}
CHILDREN = {"retry": acts.retry, "replay": acts.replay}


def console_routes(services: Services, context_of: ContextOf, rates: Rates) -> list[BaseRoute]:
    """Everything beneath `/console`; `/` leads there."""
    sign_in, sign_out = sign_in_routes(services, rates)

    def get(path: str, handler: Handler) -> Route:
        return Route(f"{pages.HOME}{path}", guarded(context_of, handler), methods=["GET"])

    def post(path: str, handler: Handler) -> Route:
        return Route(f"{pages.HOME}{path}", guarded(context_of, handler), methods=["POST"])

    async def home(request: Request) -> Response:
        return RedirectResponse(pages.HOME, 307)

    return [
        Route("/", home, methods=["GET"]),
        Route(f"{pages.HOME}/", home, methods=["GET"]),
        Route(SIGN_IN, sign_in, methods=["GET", "POST"]),
        Route(f"{pages.HOME}/sign-out", sign_out, methods=["POST"]),
        Route(f"{pages.HOME}/static/{{name}}", pages.asset, methods=["GET"]),
        get("", _jobs),
        get("/live", _jobs_live),
        get("/load", load_form),
        post("/load", load_submitted),
        get("/types", _types),
        get("/jobs/{id}", _job),
        get("/jobs/{id}/live", _job_live),
        get("/jobs/{id}/rejects", _rejects),
        post("/jobs/{id}/{act}", _act),
    ]


async def _jobs(request: Request, context: Context) -> Response:
    wanted = live.Wanted.of(request)
    jobs, more = await wanted.read(context, JOBS)
    people = await people_of(context, jobs)
    kinds = sorted(context.services.kinds)
    return pages.page("jobs.html", who=context.who, jobs=jobs, more=more, people=people, wanted=wanted, kinds=kinds)


async def _jobs_live(request: Request, context: Context) -> Response:
    return _streamed(request, context, live.jobs(context, live.Wanted.of(request), JOBS))


async def _job(request: Request, context: Context) -> Response:
    job = await _found(request, context)
    groups = await context.rejects.groups(job.id) if job.tally.rejected and not job.expired else []
    parent = await context.jobs.load(job.parent_id) if job.parent_id else None
    people = await people_of(context, [job])
    return pages.page(
        "job.html",
        who=context.who,
        parent=parent,
        people=people,
        expires=context.expires(job),
        **await parts_of(context, job, groups),
    )


async def _job_live(request: Request, context: Context) -> Response:
    job = await _found(request, context)
    return _streamed(request, context, live.job(context, job.id))


def _streamed(request: Request, context: Context, events: AsyncGenerator[bytes, None]) -> Response:
    return stream(request, live.counted(context, events))


async def _rejects(request: Request, context: Context) -> Response:
    job = await _found(request, context)
    if job.expired:
        raise NotFound("The job's rejects and results are not kept any more.")
    place = decode_cursor(request.query_params.get("after"), 2)
    faults, more = await context.rejects.page(job.id, REJECTS, (place[0], place[1]) if place else None)
    return pages.page(
        "rejects.html",
        who=context.who,
        job=job,
        faults=faults,
        first=place is None,
        after=encode_cursor(faults[-1].batch_no, faults[-1].index) if more and faults else None,
        count=await context.rejects.count(job.id),
    )


async def _types(request: Request, context: Context) -> Response:
    _ = context.sees
    kinds: list[dict[str, Any]] = [
        {
            "kind": kind,
            "columns": Contract.of(kind.contract).table(),
            "template": f"/contracts/{quote(kind.name)}/template.csv",
            "schema": f"/contracts/{quote(kind.name)}/schema.json",
        }
        for kind in sorted(context.services.kinds.values(), key=lambda kind: kind.name)
    ]
    return pages.page("types.html", who=context.who, kinds=kinds)


async def _act(request: Request, context: Context) -> Response:
    job_id, act = graphql_types.job_id(str(request.path_params["id"])), str(request.path_params["act"])
    if act in ACTS:
        await ACTS[act](context, job_id)
    elif act in CHILDREN:
        job_id, _ = await CHILDREN[act](context, job_id)
    else:
        raise InvalidData("There is nothing of that name to do.")
    return RedirectResponse(f"{pages.HOME}/jobs/{job_id}", 303)


async def _found(request: Request, context: Context) -> Job:
    """The job of the address. Raises NotFound when there is none that the caller may see."""
    job = await context.store.job(graphql_types.job_id(str(request.path_params["id"])), context.sees)
    if job is None:
        raise NotFound("There is no such job, or it is not yours.")
    return job
