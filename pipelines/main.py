"""`jobber executor`: the load dataflow, with the planning dataflow in a child process."""

import logging
import os
import subprocess
import sys
import threading
import time

from bytewax.run import cli_main
from pydantic import ValidationError

from jobber.blobs.store import Blobs
from jobber.credentials import service_token
from jobber.errors import JobberError
from jobber.job import JobType, discover
from jobber.log import configure, event, hide
from jobber.model import Lane
from jobber.settings import ExecutorSettings, TransportSettings
from jobber.transport import Group
from jobber.transport.connect import open_consumer
from pipelines.connectors.bulk_write import BulkWrite
from pipelines.connectors.services import Jobs, Products
from pipelines.connectors.transport import Room, TransportSource
from pipelines.health import serve_health
from pipelines.load import load_flow
from pipelines.process import executor_name, stop_on_signals, wait_until_reachable
from pipelines.steps import Steps

#: Small batches that are taken together: one claim, one call, one commit.
TOGETHER = 64
#: Seconds between the end of a planning process and the start of the next, at first.
RESTART_DELAY = 0.5


def main() -> None:
    """Read the environment and work until SIGTERM."""
    try:
        settings, transport = ExecutorSettings(), TransportSettings()
        _ = transport.url
    except (ValidationError, ValueError) as fault:
        configure("executor", "INFO")
        why = (
            "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in fault.errors(include_input=False))
            if isinstance(fault, ValidationError)
            else str(fault)
        )
        event("failed", f"The settings are wrong: {why}", level=logging.ERROR)
        sys.exit(1)
    configure("executor", settings.log_level)
    hide(settings.jwt_secret, service_token(settings.jwt_secret))
    event("starting", f"executor starts in {settings.mode} mode.", mode=settings.mode)
    try:
        work(settings, transport)
    except JobberError as fault:
        event("failed", fault.message, level=logging.ERROR, code=fault.code)
        sys.exit(1)
    event("stopped", "executor has ended.")


def work(settings: ExecutorSettings, transport: TransportSettings) -> None:
    """Load until SIGTERM; what is in flight then comes to its end."""
    stopping = stop_on_signals()
    kinds = wanted(settings)
    state = {"ready": False}
    server = serve_health(settings.host, settings.http_port, lambda: state["ready"] and not stopping.is_set())
    planner = threading.Thread(target=_keep_planning, args=(stopping,), name="planner")
    planner.start()
    try:
        wait_until_reachable("the jobs service", settings.jobs_grpc_service_url, stopping, settings)
        wait_until_reachable("the products service", settings.products_grpc_service_url, stopping, settings)
        consumer = open_consumer(transport, lanes(kinds), "load")
        room = Room(settings.in_flight)
        jobs = Jobs(settings.jobs_grpc_service_url, settings.jwt_secret, executor_name(), stopping)
        products = Products(settings.products_grpc_service_url, settings.jwt_secret, stopping)
        flow = load_flow(
            TransportSource(consumer, room, stopping),
            Steps(jobs, Blobs(settings.blobs_url)),
            BulkWrite(jobs, products, consumer, room, settings.in_flight),
        )
        state["ready"] = True
        event("ready", "Loads batches.", jobs=sorted(kind.name for kind in kinds))
        # No recovery store: the transport's acknowledgements and the ledger give the guarantee.
        cli_main(flow, workers_per_process=1)  # type: ignore[no-untyped-call]
        consumer.close()
    finally:
        stopping.set()
        planner.join()
        server.shutdown()


def wanted(settings: ExecutorSettings) -> list[JobType]:
    """The job types that this executor works for."""
    kinds = discover(settings.job_modules)
    return [kind for name, kind in sorted(kinds.items()) if not settings.only_jobs or name in settings.only_jobs]


def lanes(kinds: list[JobType]) -> list[Group]:
    """Small batches many at once, large ones one by one; the lanes take turns."""
    return [
        Group(tuple(f"{kind.name}.{Lane.FAST}" for kind in kinds), TOGETHER),
        Group(tuple(f"{kind.name}.{Lane.BULK}" for kind in kinds), 1),
    ]


def _keep_planning(stopping: threading.Event) -> None:
    """Run the planning process, again when it dies, until the executor stops."""
    delay = RESTART_DELAY
    environment = {**os.environ, "JOBBER_EXECUTOR_PID": str(os.getpid())}
    while not stopping.is_set():
        began = time.monotonic()
        child = subprocess.Popen([sys.executable, "-m", "pipelines.planner"], env=environment)
        while child.poll() is None and not stopping.wait(0.2):
            pass
        if stopping.is_set():
            child.terminate()
            child.wait()
            return
        event("child_died", f"The planning process ended with {child.returncode}.", level=logging.WARNING)
        delay = RESTART_DELAY if time.monotonic() - began > 10 else min(delay * 2, 10)
        stopping.wait(delay)


if __name__ == "__main__":
    main()
