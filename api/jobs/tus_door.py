"""Uploads in pieces over HTTP: tus 1.0 (tus.io), with creation (also with bytes), expiration, checksum and termination."""

import base64
import binascii
import re
from collections.abc import Awaitable, Callable
from datetime import UTC
from email.utils import format_datetime

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from api.http import headers_of, status_of
from api.identity import Caller
from api.jobs.http_door import Authenticate, who
from api.jobs.staging import CHECKSUMS, Checksum, ChecksumMismatch, Staging
from api.jobs.staging_store import Staged
from jobber.errors import InvalidData, JobberError, NotFound, QuotaExceeded
from jobber.ids import is_id
from jobber.model import Format

#: Where uploads in pieces are.
ROOT = "/uploads/tus"
VERSION = "1.0.0"
EXTENSIONS = "creation,creation-with-upload,expiration,checksum,termination"
#: Longest Upload-Metadata that is kept.
METADATA = 4096
_NATURAL = re.compile(r"[0-9]{1,18}")
_BODY = "application/offset+octet-stream"


def tus_routes(staging: Staging, authenticate: Authenticate, limit: int) -> list[Route]:
    """`POST /uploads/tus/`; `HEAD`, `PATCH` and `DELETE` of what it names; `OPTIONS` of both."""

    async def options(request: Request) -> Response:
        headers = {
            "tus-version": VERSION,
            "tus-max-size": str(limit),
            "tus-extension": EXTENSIONS,
            "tus-checksum-algorithm": ",".join(CHECKSUMS),
        }
        return Response(status_code=204, headers=headers)

    async def create(request: Request, caller: Caller) -> Response:
        for unknown in ("upload-defer-length", "upload-concat"):
            if unknown in request.headers:
                raise InvalidData(f"{unknown} is not served: say the whole file's Upload-Length.")
        text = request.headers.get("upload-metadata", "")
        metadata = _metadata(text)
        sha256, form = metadata.get("sha256"), metadata.get("format", "").upper() or None
        if form is not None and form not in Format.__members__:
            raise InvalidData(f"The format is one of {', '.join(Format)}.")
        staged = await staging.create(
            caller.id,
            metadata.get("filename") or metadata.get("name") or "upload",
            _natural(request, "upload-length"),
            caller.actor,
            sha256=sha256_from(sha256) if sha256 else None,
            format=form,
            metadata=text,
        )
        headers = {"location": f"{ROOT}/{staged.id}"}
        if request.headers.get("content-type") == _BODY and not staged.complete:
            staged = await staging.append(caller.id, staged.id, 0, request.stream(), caller.actor, _checksum(request))
        return Response(status_code=201, headers={**headers, **_state(staged)})

    async def look(request: Request, caller: Caller) -> Response:
        staged = await staging.settle(caller.id, _id(request))
        headers = {"upload-length": str(staged.size), **_state(staged)}
        return Response(headers={**headers, **({"upload-metadata": staged.metadata} if staged.metadata else {})})

    async def append(request: Request, caller: Caller) -> Response:
        if request.headers.get("content-type") != _BODY:
            return JSONResponse({"code": "INVALID_DATA", "message": f"The content type must be {_BODY}."}, 415)
        offset, chunks = _natural(request, "upload-offset"), request.stream()
        length = request.headers.get("content-length")
        staged_id = _id(request)
        if length is not None:
            staged = await staging.find(caller.id, staged_id)
            if offset + int(length) > staged.size:
                raise QuotaExceeded(f"The file was announced with {staged.size:,} bytes, and this is more.")
        staged = await staging.append(caller.id, staged_id, offset, chunks, caller.actor, _checksum(request))
        return Response(status_code=204, headers=_state(staged))

    async def delete(request: Request, caller: Caller) -> Response:
        await staging.delete(caller.id, _id(request), caller.actor)
        return Response(status_code=204)

    acts = {"HEAD": look, "PATCH": append, "DELETE": delete}

    async def collection(request: Request) -> Response:
        return await options(request) if request.method == "OPTIONS" else await _answered(request, authenticate, create)

    async def one(request: Request) -> Response:
        # The protocol's way around proxies that know neither PATCH nor DELETE.
        method = request.headers.get("x-http-method-override", request.method).upper()
        if method == "OPTIONS":
            return await options(request)
        act = acts.get(method)
        if act is None:
            return Response(status_code=405, headers={"allow": "HEAD, PATCH, DELETE, OPTIONS", "tus-resumable": VERSION})
        return await _answered(request, authenticate, act)

    methods = ["HEAD", "PATCH", "DELETE", "OPTIONS", "POST"]
    return [
        Route(ROOT, collection, methods=["POST", "OPTIONS"]),
        Route(f"{ROOT}/", collection, methods=["POST", "OPTIONS"]),
        Route(f"{ROOT}/{{upload_id}}", one, methods=methods),
    ]


async def _answered(
    request: Request, authenticate: Authenticate, act: Callable[[Request, Caller], Awaitable[Response]]
) -> Response:
    """The protocol wants its version in every answer, those about errors too."""
    try:
        caller = await who(request, authenticate)
        caller.check_writes()
        if request.headers.get("tus-resumable") != VERSION:
            message = f"Tus-Resumable must be {VERSION}."
            answer: Response = JSONResponse({"code": "INVALID_DATA", "message": message}, 412, {"tus-version": VERSION})
        else:
            answer = await act(request, caller)
    except JobberError as fault:
        # 460 is the protocol's own.
        status = 460 if isinstance(fault, ChecksumMismatch) else status_of(fault)
        answer = JSONResponse({"code": fault.code, "message": fault.message}, status, headers_of(fault))
    except ClientDisconnect:
        answer = Response(status_code=400)
    answer.headers["tus-resumable"] = VERSION
    return answer


def sha256_from(text: str) -> bytes:
    """A sha256 as people write it. Raises InvalidData."""
    if not re.fullmatch(r"[0-9a-fA-F]{64}", text):
        raise InvalidData("A sha256 is 64 hexadecimal digits.")
    return bytes.fromhex(text)


def _id(request: Request) -> str:
    staged_id = str(request.path_params["upload_id"])
    if not is_id(staged_id):
        raise NotFound("There is no such upload, or it is not yours, or it has expired.")
    return staged_id


def _state(staged: Staged) -> dict[str, str]:
    expires = {"upload-expires": format_datetime(staged.expires_at.astimezone(UTC), usegmt=True)}
    return {"upload-offset": str(staged.received), **({} if staged.complete else expires)}


def _natural(request: Request, name: str) -> int:
    text = request.headers.get(name, "")
    if not _NATURAL.fullmatch(text):
        raise InvalidData(f"{name.title()} must be a number of bytes.")
    return int(text)


def _metadata(text: str) -> dict[str, str]:
    """Upload-Metadata: `key base64, key base64, key`."""
    if len(text) > METADATA:
        raise InvalidData(f"Upload-Metadata has more than {METADATA:,} characters.")
    found = {}
    for pair in filter(None, (part.strip() for part in text.split(","))):
        key, _, value = pair.partition(" ")
        try:
            found[key] = base64.b64decode(value.strip(), validate=True).decode(errors="replace")
        except binascii.Error as fault:
            raise InvalidData(f"Upload-Metadata: the value of {key[:40]!r} is not Base64.") from fault
    return found


def _checksum(request: Request) -> Checksum | None:
    text = request.headers.get("upload-checksum")
    if text is None:
        return None
    algorithm, _, value = text.partition(" ")
    if algorithm not in CHECKSUMS:
        raise InvalidData(f"Upload-Checksum knows {', '.join(CHECKSUMS)}.")
    try:
        return Checksum(algorithm, base64.b64decode(value, validate=True))
    except binascii.Error as fault:
        raise InvalidData("Upload-Checksum is not Base64.") from fault
