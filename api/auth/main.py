"""`jobber auth`: puts the room together and serves it."""

import asyncio
import contextlib

from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from api.addresses import client_address
from api.auth.api_tokens import ApiTokens
from api.auth.graphql_door import Context, schema
from api.auth.grpc_door import SERVICE, AuthDoor
from api.auth.limiter import Limiter
from api.auth.passwords import Passwords
from api.auth.service import Auth
from api.auth.store import MIGRATIONS, Store
from api.auth.token_store import TokenStore
from api.database import open_pool
from api.graphql import Limits, graphql_app, graphql_routes
from api.grpc_server import add_health_and_reflection, grpc_server
from api.http import http_app, run, start
from api.keys import Keys
from api.migrate import migrate
from api.rates import Rates
from jobber.errors import NotFound, Transient
from jobber.settings import AuthSettings
from protos.jobber.auth.v1.auth_pb2_grpc import add_AuthServiceServicer_to_server

#: Connections to PostgreSQL; a request needs one for under a millisecond.
POOL = 6
#: Characters of a text; an e-mail or a password has fewer, and what is longer is not looked at.
TEXT_CHARS = 4 << 10
#: Seconds between two sweeps.
SWEEP = 3600.0


async def serve(settings: AuthSettings) -> None:
    """Serve until SIGTERM."""
    pool = await open_pool(settings.database_url, name="jobber-auth", size=POOL, timeout=settings.start_timeout)
    await migrate(settings.database_url, "auth", MIGRATIONS)
    hashes = Passwords()
    api_tokens = TokenStore(pool)
    keys = Keys(settings.jwt_secret, settings.jwt_keys)
    keys.signing("")  # Says at once when there is none to sign with.
    auth = Auth(
        Store(pool),
        hashes,
        keys,
        session_seconds=settings.session_hours * 3600,
        limiter=Limiter(
            pool,
            per_account=settings.login_failures_per_account,
            per_address=settings.login_failures_per_address,
            window=settings.login_window,
        ),
        api_tokens=api_tokens,
    )
    programs = ApiTokens(api_tokens)
    await auth.bootstrap(settings.admin_email, settings.admin_password, strict=settings.mode == "production")

    rates = Rates(per_account=settings.requests_per_account, per_address=settings.requests_per_address)
    limits = Limits.of(settings, text_chars=TEXT_CHARS)

    async def context_of(connection: HTTPConnection) -> Context:
        address = client_address(connection, settings.trusted_proxies)
        rates.take(None, address)
        return Context(auth, programs, connection, address)

    graphql = graphql_app(schema, context=context_of, settings=settings, subscriptions=False, limits=limits)
    app = http_app([*graphql_routes("/graphql", graphql, settings), jwks_route(keys)], ready=auth.ready, settings=settings)
    server = grpc_server(settings)
    add_AuthServiceServicer_to_server(AuthDoor(auth), server)
    health = add_health_and_reflection(server, settings, [SERVICE])
    sweeping = asyncio.create_task(_sweep(auth), name="sweep")

    async def stop() -> None:
        sweeping.cancel()
        hashes.close()
        await pool.close()

    await run(
        app,
        server,
        settings,
        http_port=settings.http_port,
        grpc_port=settings.grpc_port,
        on_stop=[stop],
        health=health,
    )


def main() -> None:
    """Read the environment and serve."""
    start("auth", AuthSettings, serve)


def jwks_route(keys: Keys) -> Route:
    """The public keys, for who checks tokens without asking."""

    async def jwks(request: Request) -> Response:
        found = keys.jwks
        if found is None:
            raise NotFound("Tokens are signed with a secret; there is no public key.")
        return JSONResponse(found, media_type="application/jwk-set+json")

    return Route("/.well-known/jwks.json", jwks, methods=["GET"])


async def _sweep(auth: Auth) -> None:
    while True:
        with contextlib.suppress(Transient):
            await auth.sweep()
        await asyncio.sleep(SWEEP)


if __name__ == "__main__":
    main()
