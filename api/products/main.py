"""`jobber products`: puts the room together and serves it."""

from dataclasses import dataclass
from pathlib import Path

from api.database import Pool, open_pool
from api.grpc_server import add_health_and_reflection, grpc_server
from api.http import http_app, run, start
from api.migrate import migrate
from api.products.grpc_door import CLOSING, ProductsDoor, add_to_server
from api.products.ids import Ids
from api.products.ledger import Ledger
from api.products.load import Budget, Loader
from api.products.publish import PUBLISHING
from api.products.store import Store
from jobber import memory
from jobber.settings import ProductsSettings

#: Connections for single products and categories; apart from the loads', so that neither waits for the other.
POOL = 2
SERVICE = "jobber.products.v1.ProductsService"
SQL = Path(__file__).parent / "sql"


@dataclass(frozen=True, slots=True)
class Room:
    """The service without its servers."""

    door: ProductsDoor
    loader: Loader
    budget: Budget
    pool: Pool
    loads: Pool

    async def ready(self) -> bool:
        """Whether the database answers."""
        async with self.pool.connection() as session:
            await session.execute("SELECT 1")
        return True

    async def close(self) -> None:
        """Finish what is being written, and let go of the database."""
        await self.loader.drain()
        await self.loads.close()
        await self.pool.close()


async def open_room(settings: ProductsSettings) -> Room:
    """Wait for the database and bring it up to date. Raises Unavailable, MigrationFault."""
    dsn, timeout = settings.database_url, settings.start_timeout
    pool = await open_pool(dsn, name="jobber-products", size=POOL, timeout=timeout)
    await migrate(dsn, "products", SQL)
    loads = await open_pool(
        dsn, name="jobber-products-load", size=settings.copy_sessions + CLOSING + PUBLISHING + 1, timeout=timeout
    )
    ledger = Ledger(loads)
    loader, budget = Loader(ledger, settings.copy_sessions), Budget()
    door = ProductsDoor(Store(pool), ledger, loader, Ids(loads), budget)
    return Room(door, loader, budget, pool, loads)


async def serve(settings: ProductsSettings) -> None:
    """Serve until SIGTERM."""
    room = await open_room(settings)
    server = grpc_server(settings)
    add_to_server(room.door, server)
    health = add_health_and_reflection(server, settings, [SERVICE])
    app = http_app([], ready=room.ready, settings=settings)
    ports = {"http_port": settings.http_port, "grpc_port": settings.grpc_port}
    await run(app, server, settings, **ports, on_stop=[room.close], health=health)


def main() -> None:
    """Read the environment and serve."""
    memory.keep_freed()
    start("products", ProductsSettings, serve)


if __name__ == "__main__":
    main()
