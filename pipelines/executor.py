"""The executor's composition: the load dataflow here, the planning dataflow in a child process."""

import os
import threading

from bytewax.run import cli_main

from jobber.blobs.store import Blobs
from jobber.errors import Unavailable
from jobber.job import JobType, discover, find
from jobber.log import event
from jobber.model import Lane
from jobber.settings import ExecutorSettings, TransportSettings
from jobber.transport import Group
from jobber.transport.connect import open_consumer
from pipelines.child import keep_planning
from pipelines.connectors.bulk_write import BulkWrite
from pipelines.connectors.jobs import Jobs
from pipelines.connectors.products import Products
from pipelines.connectors.transport import TransportSource
from pipelines.health import serve_health
from pipelines.isolation import Isolation
from pipelines.load import load_flow
from pipelines.process import Watchdog, executor_name, limit_memory, stop_on_signals, wait_until_reachable
from pipelines.room import Gate, Room
from pipelines.steps import Steps

#: Small batches that are taken together: one claim, one call, one commit. A large one travels alone.
TOGETHER = 64
#: Seconds of the grace that are kept for the planning process and for the way out.
SPARE = 3.0


def work(settings: ExecutorSettings, transport: TransportSettings) -> None:
    """Load until SIGTERM; what is in flight then comes to its end.

    Raises UnknownJob, Terminal for a taken port, Unavailable when a service is not there within the start timeout.
    """
    # It would bind 0.0.0.0 with the dataflow's structure.
    os.environ.pop("BYTEWAX_DATAFLOW_API_ENABLED", None)
    stopping = stop_on_signals()
    kinds = wanted(settings)
    room = Room(settings.in_flight)
    jobs = Jobs(settings.jobs_grpc_service_url, settings.jwt_secret, executor_name(), stopping, settings.tls)
    products = Products(settings.products_grpc_service_url, settings.jwt_secret, stopping, settings.tls)
    gate = Gate("the products service", products.answers)
    consumer = open_consumer(transport, lanes(kinds), "load")
    watchdog = Watchdog(settings.stall_seconds)
    source = TransportSource(consumer, room, stopping, lambda: gate.open, watchdog.beat)
    isolation = Isolation(
        memory=settings.isolated_memory, seconds=settings.isolated_seconds, modules=settings.job_modules, beat=watchdog.beat
    )
    sink = BulkWrite(jobs, products, consumer, room, gate, grace=max(settings.grace - SPARE, 0.5))
    server = serve_health(settings.host, settings.http_port, lambda: source.answers is True and not stopping.is_set())
    planner = threading.Thread(target=keep_planning, args=(stopping, settings.grace), name="planner")
    planner.start()
    try:
        wait_until_reachable("the jobs service", settings.jobs_grpc_service_url, stopping, settings)
        wait_until_reachable("the products service", settings.products_grpc_service_url, stopping, settings)
        limit_memory(settings.memory)
        event("ready", "Loads batches.", jobs=[kind.name for kind in kinds])
        # One worker, and no recovery store: the transport's acknowledgements and the ledger give the guarantee.
        cli_main(load_flow(source, Steps(jobs, Blobs(settings.blobs_url), room, isolation, stopping), sink))  # type: ignore[no-untyped-call]
    except Unavailable:
        if not stopping.is_set():
            raise
    finally:
        stopping.set()
        watchdog.stop()
        isolation.close()
        consumer.close()
        planner.join()
        server.shutdown()
        server.server_close()
        jobs.close()
        products.close()


def wanted(settings: ExecutorSettings) -> list[JobType]:
    """The job types that this executor works for. Raises UnknownJob for a name that there is not."""
    kinds = discover(settings.job_modules)
    chosen = {find(name).name for name in settings.only_jobs} or set(kinds)
    return [kinds[name] for name in sorted(chosen)]


def lanes(kinds: list[JobType]) -> list[Group]:
    """Small batches many at once, large ones one by one; the lanes take turns."""
    return [
        Group(tuple(f"{kind.name}.{Lane.FAST}" for kind in kinds), TOGETHER),
        Group(tuple(f"{kind.name}.{Lane.BULK}" for kind in kinds), 1),
    ]
