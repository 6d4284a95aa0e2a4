"""The planning process of an executor (`python -m pipelines.planner`); it ends with its executor."""

from bytewax.run import cli_main

from jobber.blobs.store import Blobs
from jobber.credentials import service_token
from jobber.errors import Unavailable
from jobber.local.child import end_with_supervisor
from jobber.log import configure, event, hide
from jobber.model import Lane
from jobber.settings import ExecutorSettings, TransportSettings
from jobber.transport import Group
from jobber.transport.connect import open_consumer
from pipelines.connectors.jobs import Jobs
from pipelines.connectors.transport import TransportSource
from pipelines.executor import wanted
from pipelines.plan import PlanSteps, RecordPlans, plan_flow
from pipelines.process import executor_name, stop_on_signals, wait_until_reachable
from pipelines.room import Room


def main() -> None:
    """Plan until SIGTERM."""
    end_with_supervisor()
    stopping = stop_on_signals()
    settings = ExecutorSettings()
    configure("planner", settings.log_level)
    hide(settings.jwt_secret, service_token(settings.jwt_secret))
    kinds = wanted(settings)
    try:
        wait_until_reachable("the jobs service", settings.jobs_grpc_service_url, stopping, settings)
    except Unavailable as fault:
        raise SystemExit(fault.message) from fault
    consumer = open_consumer(TransportSettings(), [Group(tuple(f"{kind.name}.{Lane.PLAN}" for kind in kinds), 1)], "plan")
    room = Room(1)
    jobs = Jobs(settings.jobs_grpc_service_url, settings.jwt_secret, executor_name(), stopping)
    steps = PlanSteps(jobs, Blobs(settings.blobs_url), stopping)
    event("ready", "Plans inputs.", jobs=[kind.name for kind in kinds])
    source = TransportSource(consumer, room, stopping)
    cli_main(plan_flow(source, steps, RecordPlans(jobs, consumer, room)))  # type: ignore[no-untyped-call]
    consumer.close()
    jobs.close()


if __name__ == "__main__":
    main()
