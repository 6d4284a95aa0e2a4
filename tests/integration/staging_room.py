"""Two jobs services on one real PostgreSQL and one blob store, as far as uploads go, over HTTP."""

import asyncio
import base64
import hashlib
import random
from pathlib import Path

import httpx
import psycopg
from starlette.requests import Request

from api.database import Pool
from api.http import http_app
from api.identity import Caller
from api.jobs.http_door import routes
from api.jobs.rejects import Rejects
from api.jobs.retention import Retention
from api.jobs.staging import Staging
from api.jobs.staging_store import StagingStore
from api.jobs.store import Store
from api.jobs.tus_door import tus_routes
from api.jobs.uploads import Uploads
from jobber.blobs.store import Blobs
from jobber.ids import uuid7
from jobber.settings import ServiceSettings
from tests.integration.test_retention import Ledger

SETTINGS = ServiceSettings(jwt_secret="of thirty-two bytes, and for tests")
LIMIT, QUOTA, MOST = 40 << 20, 60 << 20, 4
OWNER, OTHER = uuid7(), uuid7()
TUS = {"tus-resumable": "1.0.0"}
BODY = {**TUS, "content-type": "application/offset+octet-stream"}
FILES = {"file": ("a.csv", b"1")}
BYTES = random.Random(1).randbytes(20 << 20)


async def _authenticate(request: Request) -> Caller | None:
    owner = request.headers.get("authorization")
    return Caller(owner, "", "MEMBER", None) if owner else None


async def _good() -> bool:
    return True


class Replica:
    """One jobs service, as far as uploads go."""

    def __init__(self, pool: Pool, blobs: Blobs) -> None:
        self.store, self.blobs = Store(pool), blobs
        self.staging = Staging(StagingStore(pool, quota=QUOTA, most=MOST, hours=24, days=30), blobs, LIMIT)
        uploads = Uploads(self.store, blobs, LIMIT, quota=QUOTA, most=MOST)
        doors = [
            *routes(uploads, Rejects(self.store), self.store, _authenticate),
            *tus_routes(self.staging, _authenticate, LIMIT),
        ]
        app = http_app(doors, ready=_good, settings=SETTINGS)
        self.http = httpx.AsyncClient(
            transport=httpx.ASGITransport(app=app), base_url="http://here", headers={"authorization": OWNER}
        )

    async def create(self, size: int, owner: str = OWNER, **metadata: str) -> str:
        """Where the upload is."""
        answer = await self.post(size, owner, **metadata)
        assert answer.status_code == 201, answer.text
        return answer.headers["location"]

    async def post(self, size: int, owner: str = OWNER, **metadata: str) -> httpx.Response:
        pairs = ",".join(f"{name} {base64.b64encode(value.encode()).decode()}" for name, value in metadata.items())
        headers = {**TUS, "upload-length": str(size), "upload-metadata": pairs, "authorization": owner}
        return await self.http.post("/uploads/tus/", headers=headers)

    async def patch(self, url: str, offset: int, body: object, **headers: str) -> httpx.Response:
        given = {**BODY, "upload-offset": str(offset), **{name.replace("_", "-"): text for name, text in headers.items()}}
        return await self.http.patch(url, content=body, headers=given)  # type: ignore[arg-type]

    async def offset(self, url: str) -> int:
        answer = await self.http.head(url, headers=TUS)
        assert answer.status_code == 200
        return int(answer.headers["upload-offset"])

    async def whole(self, url: str) -> bytes:
        """The bytes of the upload that has become of it."""
        upload = await self.store.upload(OWNER, url.rpartition("/")[2])
        assert upload is not None
        data = await asyncio.to_thread(lambda: b"".join(self.blobs.windows(upload.blob_key)))
        assert (len(data), hashlib.sha256(data).digest()) == (upload.size, upload.sha256)
        return data


class World:
    def __init__(self, dsn: str, pool: Pool, blobs: Blobs, folder: Path | None) -> None:
        self.dsn, self.pool, self.blobs, self.folder = dsn, pool, blobs, folder
        self.one, self.two = Replica(pool, blobs), Replica(pool, blobs)
        self.retention = Retention(pool, blobs, Ledger(), days=30, stray_age=3600)

    def sql(self, query: str, *parameters: object) -> list[tuple[object, ...]]:
        with psycopg.connect(self.dsn, autocommit=True) as session:
            cursor = session.execute(query.encode(), parameters)
            return cursor.fetchall() if cursor.description else []

    async def keys(self) -> set[str]:
        return {key async for page in self.blobs.keys(100) for key in page}
