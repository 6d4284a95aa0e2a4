"""The peer: the least that a Python service does for the same request, starlette on uvicorn with one INSERT and its commit.

No GraphQL, no token, no plan, no job: the body is stored in a row, durably, and the row's id is answered.
"""

import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg
import psycopg_pool
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route


def main(dsn: str, port: int) -> None:
    """Serve until SIGTERM."""
    pool: psycopg_pool.AsyncConnectionPool[psycopg.AsyncConnection[tuple[object, ...]]] = psycopg_pool.AsyncConnectionPool(
        dsn, kwargs={"autocommit": True}, min_size=12, max_size=12, open=False
    )

    @asynccontextmanager
    async def opened(app: Starlette) -> AsyncIterator[None]:
        async with pool, pool.connection() as session:
            await session.execute("CREATE SCHEMA IF NOT EXISTS bare")
            await session.execute("CREATE TABLE IF NOT EXISTS bare.jobs (id uuid PRIMARY KEY, body bytea NOT NULL)")
            yield

    async def submit(request: Request) -> JSONResponse:
        made = str(uuid.uuid4())
        async with pool.connection() as session:
            await session.execute("INSERT INTO bare.jobs VALUES (%s, %s)", [made, await request.body()])
        return JSONResponse({"data": {"executeJob": {"id": made, "status": "IN_PROGRESS"}}})

    app = Starlette(routes=[Route("/graphql", submit, methods=["POST"])], lifespan=opened)
    uvicorn.run(app, host="127.0.0.1", port=port, access_log=False, log_level="warning", http="httptools", loop="uvloop")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
