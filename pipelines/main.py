"""`jobber executor`: reads the environment, and works until SIGTERM."""

import logging
import sys

from pydantic import ValidationError

from jobber import memory, tracing
from jobber.credentials import service_token
from jobber.errors import JobberError
from jobber.log import configure, event, hide
from jobber.settings import ExecutorSettings, TransportSettings, reasons
from pipelines.process import spare_memory


def main() -> None:
    """Load batches, and plan inputs in a child process, until SIGTERM."""
    memory.keep_freed()
    try:
        settings, transport = ExecutorSettings(), TransportSettings()
    except ValidationError as fault:
        configure("executor", "INFO")
        for name, why in reasons(fault):
            event("failed", f"Setting {name}: {why}", level=logging.ERROR, setting=name)
        sys.exit(1)
    configure("executor", settings.log_level, form=settings.log_format)
    tracing.configure("executor", settings.otlp_endpoint)
    hide(settings.jwt_secret, service_token(settings.jwt_secret))
    event("starting", f"executor starts in {settings.mode} mode.", mode=settings.mode)
    spare_memory()
    # Imports Polars, which reads at import how many threads it may have.
    from pipelines.executor import work

    try:
        work(settings, transport)
    except JobberError as fault:
        event("failed", fault.message, level=logging.ERROR, code=fault.code)
        sys.exit(1)
    except Exception as fault:
        # What Bytewax itself writes of it does not tell the cause.
        event("bug", "The executor ends because of a bug; what it held comes again.", level=logging.ERROR, error=fault)
        sys.exit(1)
    finally:
        tracing.close()
    event("stopped", "executor has ended.")


if __name__ == "__main__":
    main()
