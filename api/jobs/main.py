"""`jobber jobs`: puts the room together and serves it."""

import asyncio
from pathlib import Path

from starlette.requests import HTTPConnection

from api.addresses import client_address
from api.database import open_pool
from api.graphql import Limits, graphql_app, graphql_routes, token_of
from api.grpc_server import add_health_and_reflection, grpc_server
from api.http import http_app, run, start
from api.identity import Caller, Identity
from api.jobs import metrics
from api.jobs.changes import Changes
from api.jobs.console import console_routes
from api.jobs.context import Context, Directory, Services
from api.jobs.dead_letters import DeadLetters
from api.jobs.dispatch import Dispatcher
from api.jobs.following import Following
from api.jobs.graphql_door import schema
from api.jobs.grpc_door import JobsDoor
from api.jobs.http_door import routes
from api.jobs.lineage import Lineage
from api.jobs.notices import Notices
from api.jobs.products_client import ProductsClient
from api.jobs.rejects import Rejects
from api.jobs.replay import Replays
from api.jobs.retention import Retention
from api.jobs.sources import Sources
from api.jobs.staging import Staging
from api.jobs.staging_store import StagingStore
from api.jobs.store import Store
from api.jobs.submission import Desk
from api.jobs.surveys import Surveyor
from api.jobs.tus_door import tus_routes
from api.jobs.uploads import Uploads
from api.jobs.work import Work
from api.keys import Keys
from api.migrate import migrate
from api.rates import Rates
from jobber.blobs.store import Blobs
from jobber.job import discover
from jobber.model import InputOptions
from jobber.settings import JobsSettings, TransportSettings
from jobber.transport.connect import open_publisher
from protos.jobber.jobs.v1.jobs_pb2_grpc import add_JobsServiceServicer_to_server

#: Connections to PostgreSQL; more than the work that is at once under way on two cores does not help.
POOL = 12


async def serve(settings: JobsSettings) -> None:
    """Serve until SIGTERM."""
    kinds = discover(settings.job_modules)
    pool = await open_pool(settings.database_url, name="jobber-jobs", size=POOL, timeout=settings.start_timeout)
    await migrate(settings.database_url, "jobs", Path(__file__).parent / "sql")
    publisher = await open_publisher(TransportSettings())
    products = ProductsClient(settings.products_grpc_service_url, settings.jwt_secret, settings.tls)
    directory = Directory(settings.auth_grpc_service_url, settings.jwt_secret, settings.tls)
    identity = Identity(
        settings.auth_grpc_service_url, settings.jwt_secret, settings.tls, Keys(settings.jwt_secret, settings.jwt_keys)
    )
    blobs = Blobs(settings.blobs_url)
    store, work, changes = Store(pool), Work(pool), Changes()
    notices = Notices(pool, settings.database_url, heard=changes.heard, heard_too_little=changes.heard_too_little)
    changes.tell = notices.tell
    dispatcher = Dispatcher(
        work,
        publisher,
        products,
        kinds,
        window=settings.window,
        job_window=settings.job_window,
        changed=changes.publish,
    )
    rejects, letters = Rejects(store), DeadLetters(pool)
    retention = Retention(
        pool, blobs, products, days=settings.retention_days, stray_age=settings.stray_minutes * 60, hours=settings.staged_hours
    )
    staging_store = StagingStore(
        pool,
        quota=settings.upload_quota_bytes,
        most=settings.uploads_at_once,
        hours=settings.staged_hours,
        days=settings.retention_days,
    )
    staging = Staging(staging_store, blobs, settings.upload_bytes)
    surveyor = Surveyor(
        InputOptions(batch_bytes=settings.batch_bytes, batch_rows=settings.batch_rows),
        settings.surveys_at_once,
        blobs,
        settings.expanded_bytes,
    )
    uploads = Uploads(
        store,
        blobs,
        settings.upload_bytes,
        quota=settings.upload_quota_bytes,
        most=settings.uploads_at_once,
        surveyor=surveyor,
    )
    rates = Rates(per_account=settings.requests_per_account, per_address=settings.requests_per_address)
    services = Services(
        settings,
        kinds,
        store,
        Desk(store, blobs, settings, Sources(settings.sources, uploads)),
        rejects,
        dispatcher,
        directory,
        changes,
        identity,
        products,
        Lineage(pool),
        Following(settings.subscriptions_per_caller),
        letters,
        staging,
        Replays(store, blobs, rejects, settings.upload_bytes),
    )

    async def caller_of(connection: HTTPConnection) -> Caller | None:
        token = token_of(connection)
        return await identity.caller(token) if token else None

    async def context_of(connection: HTTPConnection) -> Context:
        token = token_of(connection)
        # A token that is no good costs a question to auth: what shows one counts for its address until it is known.
        address = client_address(connection, settings.trusted_proxies)
        rates.take(identity.knows(token) if token else None, address)
        caller = await identity.caller(token) if token else None
        return Context(services, caller, str(connection.base_url).rstrip("/"), token)

    async def ready() -> bool:
        async with asyncio.timeout(2), pool.connection() as session:
            await session.execute("SELECT 1")
        return True

    graphql = graphql_app(schema, context=context_of, settings=settings, subscriptions=True, limits=Limits.of(settings))
    files = [*routes(uploads, rejects, store, caller_of), *tus_routes(staging, caller_of, settings.upload_bytes)]
    console = console_routes(services, context_of, rates)
    doors = [*files, *graphql_routes("/graphql", graphql, settings), *console]
    app = http_app(doors, ready=ready, settings=settings)
    server = grpc_server(settings)
    door = JobsDoor(
        work, dispatcher, changes.publish, letters, batch_bytes=settings.batch_bytes, batch_rows=settings.batch_rows
    )
    add_JobsServiceServicer_to_server(door, server)
    health = add_health_and_reflection(server, settings, ["jobber.jobs.v1.JobsService"])
    running = [
        asyncio.create_task(dispatcher.run(), name="dispatcher"),
        asyncio.create_task(notices.run(), name="notices"),
        asyncio.create_task(retention.run(), name="retention"),
        asyncio.create_task(metrics.keep_looking(pool), name="backlog"),
    ]

    async def stop() -> None:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        for part in (surveyor, publisher, products, directory, identity, pool):
            await part.close()

    await run(app, server, settings, http_port=settings.http_port, grpc_port=settings.grpc_port, on_stop=[stop], health=health)


def main() -> None:
    """Read the environment and serve until SIGTERM."""
    start("jobs", JobsSettings, serve, beside=[TransportSettings])


if __name__ == "__main__":
    main()
