"""The planning process of an executor (`python -m pipelines.planner`); it dies with its executor."""

import os
import sys

from bytewax.run import cli_main

from jobber.blobs.store import Blobs
from jobber.credentials import service_token
from jobber.log import configure, event, hide
from jobber.model import Lane
from jobber.settings import ExecutorSettings, TransportSettings
from jobber.transport import Group
from jobber.transport.connect import open_consumer
from pipelines.connectors.services import Jobs
from pipelines.connectors.transport import Room, TransportSource
from pipelines.main import wanted
from pipelines.plan import RecordPlans, plan_flow
from pipelines.process import die_with_parent, executor_name, stop_on_signals, wait_until_reachable


def main() -> None:
    """Plan until SIGTERM."""
    stopping = stop_on_signals()
    die_with_parent(int(os.environ["JOBBER_EXECUTOR_PID"]))
    settings = ExecutorSettings()
    configure("planner", settings.log_level)
    hide(settings.jwt_secret, service_token(settings.jwt_secret))
    kinds = wanted(settings)
    wait_until_reachable("the jobs service", settings.jobs_grpc_service_url, stopping, settings)
    group = Group(tuple(f"{kind.name}.{Lane.PLAN}" for kind in kinds), 1)
    consumer = open_consumer(TransportSettings(), [group], "plan")
    room = Room(1)
    jobs = Jobs(settings.jobs_grpc_service_url, settings.jwt_secret, executor_name(), stopping)
    record = RecordPlans(jobs, Blobs(settings.blobs_url), consumer, room, stopping)
    event("ready", "Plans inputs.", jobs=[kind.name for kind in kinds])
    cli_main(plan_flow(TransportSource(consumer, room, stopping), record), workers_per_process=1)  # type: ignore[no-untyped-call]
    consumer.close()
    sys.exit(0)


if __name__ == "__main__":
    main()
