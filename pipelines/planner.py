"""The planning process of an executor (`python -m pipelines.planner`); it ends with its executor."""

import logging
import sys
import threading

from bytewax.run import cli_main

from jobber import tracing
from jobber.blobs.store import Blobs
from jobber.credentials import service_token
from jobber.errors import JobberError
from jobber.local.child import end_with_supervisor
from jobber.log import configure, event, hide
from jobber.model import Lane
from jobber.settings import ExecutorSettings, TransportSettings
from jobber.transport import Group
from jobber.transport.connect import open_consumer
from pipelines.child import tell
from pipelines.connectors.jobs import Jobs
from pipelines.connectors.transport import TransportSource
from pipelines.executor import wanted
from pipelines.isolation import Isolation
from pipelines.opened import Planner
from pipelines.plan import PlanSteps, RecordPlans, plan_flow
from pipelines.process import Watchdog, executor_name, limit_memory, stop_on_signals, wait_until_reachable
from pipelines.room import Room


def main() -> None:
    """Plan until SIGTERM."""
    end_with_supervisor()
    stopping = stop_on_signals()
    settings = ExecutorSettings()
    configure("planner", settings.log_level, form=settings.log_format)
    tracing.configure("executor", settings.otlp_endpoint)
    hide(settings.jwt_secret, service_token(settings.jwt_secret))
    try:
        work(settings, TransportSettings(), stopping)
    except JobberError as fault:
        event("failed", fault.message, level=logging.ERROR, code=fault.code)
        sys.exit(1)
    except Exception as fault:
        event("bug", "Planning ends because of a bug; what it held comes again.", level=logging.ERROR, error=fault)
        sys.exit(1)
    finally:
        tracing.close()


def work(settings: ExecutorSettings, transport: TransportSettings, stopping: threading.Event) -> None:
    """Plan inputs, one at a time. Raises Unavailable when the jobs service is not there within the start timeout."""
    kinds = wanted(settings)
    wait_until_reachable("the jobs service", settings.jobs_grpc_service_url, stopping, settings)
    consumer = open_consumer(transport, [Group(tuple(f"{kind.name}.{Lane.PLAN}" for kind in kinds), 1)], "plan")
    room = Room(1)
    jobs = Jobs(settings.jobs_grpc_service_url, settings.jwt_secret, executor_name(), stopping, settings.tls)
    watchdog = Watchdog(settings.stall_seconds)
    source = TransportSource(consumer, room, stopping, beat=watchdog.beat)
    isolation = Isolation(
        memory=settings.isolated_memory, seconds=settings.isolated_seconds, modules=settings.job_modules, beat=watchdog.beat
    )
    planner = Planner(Blobs(settings.blobs_url), settings.expanded_bytes)
    steps = PlanSteps(jobs, planner, stopping, isolation, beat=watchdog.beat, tell=tell)
    limit_memory(settings.memory)
    event("ready", "Plans inputs.", jobs=[kind.name for kind in kinds])
    cli_main(plan_flow(source, steps, RecordPlans(jobs, consumer, room)))  # type: ignore[no-untyped-call]
    watchdog.stop()
    isolation.close()
    consumer.close()
    jobs.close()


if __name__ == "__main__":
    main()
