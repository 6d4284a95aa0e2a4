"""Jobber from outside: GraphQL, uploads and downloads, as the CLI, the demo and the tests use them."""

import io
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

import httpx

from jobber import errors
from jobber.local.home import Home
from jobber.model import State

#: Seconds between two looks at a job: short at first, as most jobs are.
FIRST_LOOK, LAST_LOOK = 0.02, 0.25
#: Seconds for which a service may be away (it is started again) before a follower gives up.
PATIENCE = 60.0

JOB = """
fragment Everything on Job {
  id name state status error warnings
  progress { counts { total read inserted updated unchanged rejected unprocessed } rowsPerSecond etaSeconds }
}
"""
LOGIN = "mutation ($input: LoginInput!) { login(input: $input) { token } }"
EXECUTE = JOB + "mutation ($input: ExecuteJobInput!) { executeJob(input: $input) { ...Everything } }"
LOOK = JOB + "query ($id: ID!) { job(id: $id) { ...Everything } }"
CANCEL = JOB + "mutation ($id: ID!) { jobCancel(id: $id) { job { ...Everything } userErrors { code message } } }"
REPLAY = (
    JOB
    + """mutation ($id: ID!, $upload: ID) {
  jobReplayRejected(id: $id, correctedUploadId: $upload) { replayed job { ...Everything } userErrors { code message } }
}"""
)
WHY = "query ($id: ID!) { job(id: $id) { errorGroups { code column count sample { row message raw } } } }"


@dataclass(frozen=True, slots=True)
class Job:
    """Where a job is."""

    id: str
    name: str
    state: State
    error: str | None
    warnings: tuple[str, ...]
    #: None until the input was read through.
    total: int | None
    loaded: int
    rejected: int
    unprocessed: int

    @property
    def done(self) -> int:
        """Records whose fate is known."""
        return self.loaded + self.rejected


class Client:
    """Speaks for one user. Answers raise errors of jobber.errors."""

    def __init__(self, jobs: str, auth: str, token: str = "") -> None:
        self.jobs, self.auth, self.token = _base(jobs), _base(auth), token
        # No environment: a proxy for the outside world must not be asked for localhost.
        self._http = httpx.Client(timeout=httpx.Timeout(30, write=300), trust_env=False)

    def close(self) -> None:
        """Let go of connections."""
        self._http.close()

    def login(self, email: str, password: str) -> None:
        """Be that user from now on."""
        answer = self.ask(LOGIN, {"input": {"email": email, "password": password}}, service=self.auth)
        self.token = answer["login"]["token"]

    def ask(self, query: str, variables: Mapping[str, Any] | None = None, *, service: str | None = None) -> dict[str, Any]:
        """The `data` of a GraphQL answer."""
        answer = self._send("POST", f"{service or self.jobs}/graphql", json={"query": query, "variables": variables or {}})
        try:
            body = answer.json()
        except ValueError:
            raise errors.Unavailable(f"{answer.url} answered {answer.status_code} and no JSON") from None
        if body.get("errors"):
            raise _error(body["errors"][0])
        data: dict[str, Any] = body["data"]
        return data

    def upload(self, path: Path, sent: Callable[[int], None] = lambda _: None) -> dict[str, Any]:
        """Store a file; `sent` hears how many bytes went out."""
        with _Counted(path, sent) as file:
            answer = self._send("POST", f"{self.jobs}/uploads", files={"file": (path.name, file)})
        if answer.status_code != 201:
            raise _refused(answer)
        stored: dict[str, Any] = answer.json()
        return stored

    def download(self, path: str, into: BinaryIO) -> None:
        """Stream a download of the jobs service, like `/jobs/ID/rejects.csv`."""
        try:
            with self._http.stream("GET", f"{self.jobs}{path}", headers=self._headers()) as answer:
                if answer.status_code != 200:
                    answer.read()
                    raise _refused(answer)
                for chunk in answer.iter_bytes():
                    into.write(chunk)
        except httpx.TransportError as fault:
            raise _unreachable(self.jobs, fault) from fault

    def execute(self, name: str, data: Any, options: Mapping[str, Any] | None = None, *, key: str | None = None) -> Job:
        """Submit a job; `data` is sent as a JSON text. With the same idempotency `key` it is submitted only once."""
        given: dict[str, Any] = {"name": name, "data": data if isinstance(data, str) else json.dumps(data)}
        if options:
            given["options"] = dict(options)
        if key is not None:
            given["idempotencyKey"] = key
        return _job(self.ask(EXECUTE, {"input": given})["executeJob"])

    def job(self, id: str) -> Job:
        """Where the job is.

        Raises NotFound.
        """
        found = self.ask(LOOK, {"id": id})["job"]
        if found is None:
            raise errors.NotFound(f"There is no job {id}, or it is not yours.")
        return _job(found)

    def cancel(self, id: str) -> Job:
        """Cancel the job."""
        return _changed(self.ask(CANCEL, {"id": id})["jobCancel"])

    def replay(self, id: str, upload_id: str | None) -> Job:
        """Run the job's rejects again, corrected in an upload, or as they were; the child job."""
        return _changed(self.ask(REPLAY, {"id": id, "upload": upload_id})["jobReplayRejected"])

    def reasons(self, id: str) -> list[dict[str, Any]]:
        """Why records were rejected, the most frequent reason first."""
        groups: list[dict[str, Any]] = self.ask(WHY, {"id": id})["job"]["errorGroups"]
        return sorted(groups, key=lambda group: -int(group["count"]))

    def follow(self, id: str) -> Iterator[Job]:
        """The job again and again; the last one has ended. A service that is away for a moment is waited for."""
        pause, answered = FIRST_LOOK, time.monotonic()
        while True:
            try:
                job = self.job(id)
            except errors.Transient:
                if time.monotonic() - answered > PATIENCE:
                    raise
            else:
                answered = time.monotonic()
                yield job
                if job.state.terminal:
                    return
            time.sleep(pause)
            pause = min(pause * 1.3, LAST_LOOK)

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}

    def send(self, method: str, path: str, **content: Any) -> httpx.Response:
        """A request to the jobs service, and its answer whatever it is. Raises Unavailable."""
        return self._send(method, f"{self.jobs}{path}", **content)

    def refused(self, answer: httpx.Response) -> errors.JobberError:
        """What an answer that is no success says."""
        return _refused(answer)

    def _send(self, method: str, url: str, headers: Mapping[str, str] | None = None, **content: Any) -> httpx.Response:
        try:
            return self._http.request(method, url, headers={**self._headers(), **(headers or {})}, **content)
        except httpx.TransportError as fault:
            raise _unreachable(url, fault) from fault


def connect(
    *, url: str | None, auth_url: str | None, token: str | None, email: str | None, password: str | None, data_dir: Path
) -> Client:
    """A client for the Jobber at `url`, or else for the running `jobber up` of the data folder, as its admin."""
    if url:
        parts = urlsplit(_base(url))
        client = Client(url, auth_url or f"{parts.scheme}://{parts.hostname}:3000")
    else:
        running = Home(data_dir.resolve()).recall()
        client = Client(running["jobs"], running["auth"])
        if not token and not email:
            email, password = running["admin"]["email"], running["admin"]["password"]
    if token:
        client.token = token
    elif email and password:
        client.login(email, password)
    else:
        raise errors.Unauthenticated()
    return client


class _Counted(io.FileIO):
    """A file that tells how much of it was read."""

    def __init__(self, path: Path, tell: Callable[[int], None]) -> None:
        super().__init__(path, "rb")
        self._tell = tell

    def read(self, size: int | None = -1) -> bytes:
        """As FileIO."""
        chunk = super().read(size) or b""
        self._tell(len(chunk))
        return chunk


def _base(url: str) -> str:
    return (url if "://" in url else f"http://{url}").rstrip("/").removesuffix("/graphql")


def _changed(payload: Mapping[str, Any]) -> Job:
    for fault in payload["userErrors"]:
        raise _error({"message": fault["message"], "extensions": {"code": fault["code"]}})
    return _job(payload["job"])


def _job(found: Mapping[str, Any]) -> Job:
    counts = {name: None if value is None else int(value) for name, value in found["progress"]["counts"].items()}
    return Job(
        id=found["id"],
        name=found["name"],
        state=State(found["state"]),
        error=found["error"],
        warnings=tuple(found["warnings"]),
        total=counts["total"],
        loaded=(counts["inserted"] or 0) + (counts["updated"] or 0) + (counts["unchanged"] or 0),
        rejected=counts["rejected"] or 0,
        unprocessed=counts["unprocessed"] or 0,
    )


_KINDS: tuple[type[errors.JobberError], ...] = (
    *(errors.NotFound, errors.Forbidden, errors.Unauthenticated, errors.UnknownJob, errors.InvalidData),
    *(errors.Conflict, errors.InvalidState, errors.QuotaExceeded, errors.UploadIncomplete, errors.Unavailable),
)
_BY_CODE = {kind.code: kind for kind in _KINDS}


def _error(fault: Mapping[str, Any]) -> errors.JobberError:
    code = (fault.get("extensions") or {}).get("code", "")
    return _BY_CODE.get(code, errors.Terminal)(fault["message"])


def _refused(answer: httpx.Response) -> errors.JobberError:
    if answer.status_code == 401:
        return errors.Unauthenticated()
    try:
        said = answer.json()
        code, message = str(said["code"]), str(said["message"])
    except (ValueError, KeyError, TypeError):
        code = "NOT_FOUND" if answer.status_code == 404 else ""
        message = f"{answer.request.method} {answer.url.path} was answered {answer.status_code}: {answer.text.strip()[:500]}"
    away = answer.status_code in (429, 502, 503, 504, 507)
    return (errors.Unavailable if away else _BY_CODE.get(code, errors.Terminal))(message)


def _unreachable(url: str, fault: Exception) -> errors.Unavailable:
    return errors.Unavailable(f"{_base(url)} does not answer ({type(fault).__name__}: {fault})")
