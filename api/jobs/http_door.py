"""The HTTP door beside GraphQL: uploads in, rejects and results out."""

from collections.abc import Awaitable, Callable
from typing import Literal

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from api.identity import Caller
from api.jobs.multipart import incoming_file
from api.jobs.rejects import Rejects
from api.jobs.store import Store
from api.jobs.uploads import Uploads
from api.scopes import JOBS_READ
from jobber.contract import Contract
from jobber.errors import NotFound, Unauthenticated
from jobber.ids import is_id
from jobber.job import find
from jobber.model import Format

Authenticate = Callable[[Request], Awaitable[Caller | None]]
MEDIA = {Format.CSV: "text/csv; charset=utf-8", Format.NDJSON: "application/x-ndjson"}


def routes(uploads: Uploads, rejects: Rejects, store: Store, authenticate: Authenticate) -> list[Route]:
    """`POST /uploads` (also `/uploads/upload`, as the original), `GET /jobs/{id}/rejects.csv|.ndjson|results.csv|.ndjson`."""

    async def upload(request: Request) -> Response:
        caller = await who(request, authenticate)  # before the body is read
        caller.check_writes()
        announced = int(request.headers.get("content-length") or 0)
        incoming = await incoming_file(request)
        stored = await uploads.receive(caller.id, incoming.name, incoming.chunks, caller.actor, announced)
        answer = {"id": stored.id, "fileName": stored.file_name, "bytes": stored.size, "sha256": stored.sha256.hex()}
        return JSONResponse(answer, 201)

    async def download(request: Request) -> Response:
        caller = await who(request, authenticate)
        kind: Literal["rejects", "results"] = "rejects" if request.path_params["kind"] == "rejects" else "results"
        form = {"csv": Format.CSV, "ndjson": Format.NDJSON}.get(request.path_params["form"])
        job_id = request.path_params["job_id"]
        if request.path_params["kind"] not in ("rejects", "results") or form is None or not is_id(job_id):
            raise NotFound("There is nothing to download here.")
        job = await store.job(job_id, caller.sees)
        if job is None:
            raise NotFound("There is no such job, or it is not yours.")
        if job.expired:
            raise NotFound("The job's rejects and results are not kept any more.")
        name = f"{job.name}-{job.id}-{kind}.{request.path_params['form']}"
        headers = {
            "content-disposition": f'attachment; filename="{name}"',
            "x-content-type-options": "nosniff",
            "cache-control": "no-store",
        }
        return StreamingResponse(rejects.download(job.id, kind, form), media_type=MEDIA[form], headers=headers)

    async def contract(request: Request) -> Response:
        caller = await who(request, authenticate)
        caller.check(JOBS_READ)
        kind = find(str(request.path_params["name"]))
        rules, form = Contract.of(kind.contract), request.path_params["form"]
        if form == "schema.json":
            return JSONResponse(rules.json_schema(), media_type="application/schema+json")
        if form != "template.csv":
            raise NotFound("There is nothing to download here.")
        headers = {"content-disposition": f'attachment; filename="{kind.name}-template.csv"'}
        return Response(rules.template(), media_type=MEDIA[Format.CSV], headers=headers)

    return [
        Route("/contracts/{name}/{form}", contract, methods=["GET"]),
        Route("/uploads", upload, methods=["POST"]),
        Route("/uploads/upload", upload, methods=["POST"]),
        Route("/jobs/{job_id}/{kind}.{form}", download, methods=["GET"]),
    ]


async def who(request: Request, authenticate: Authenticate) -> Caller:
    """Whose request it is. Raises Unauthenticated."""
    caller = await authenticate(request)
    if caller is None:
        raise Unauthenticated
    return caller
