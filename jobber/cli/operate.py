"""What operators of the services need beside them: `jobber migrate` and `jobber healthy`."""

import asyncio
import os
from importlib.util import find_spec
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import ProxyHandler, build_opener

from jobber.errors import InvalidData, Unavailable

#: Rooms that have a schema of their own, of the same name.
SCHEMAS = ("auth", "jobs", "products")


def migrate() -> None:
    """Bring all schemas of DATABASE_URL up to date; services that start meanwhile wait for it.

    Raises InvalidData without DATABASE_URL, MigrationFault when a file cannot be applied.
    """
    from api.migrate import migrate as apply

    dsn = os.environ.get("DATABASE_URL")
    if not dsn:
        raise InvalidData("DATABASE_URL is not set: which database?")

    async def run() -> None:
        for schema in SCHEMAS:
            spec = find_spec(f"api.{schema}")
            assert spec is not None
            assert spec.origin is not None
            await apply(dsn, schema, Path(spec.origin).parent / "sql")
            print(f"{schema} is up to date")

    asyncio.run(run())


def healthy(port: int) -> None:
    """Answer when the service at the port says that it is ready. Raises Unavailable."""
    try:
        # No environment: a proxy for the outside world must not be asked for localhost.
        with build_opener(ProxyHandler({})).open(f"http://127.0.0.1:{port}/health/ready", timeout=4):
            return
    except HTTPError as fault:
        fault.close()
        raise Unavailable(f"The service at port {port} is not ready: it answers {fault.code}.") from fault
    except OSError as fault:
        raise Unavailable(f"The service at port {port} is not ready: {fault}") from fault
