"""`jobber executor`: reads the environment, and works until SIGTERM."""

import logging
import sys

from pydantic import ValidationError

from jobber import tracing
from jobber.credentials import service_token
from jobber.errors import JobberError
from jobber.log import configure, event, hide
from jobber.settings import ExecutorSettings, TransportSettings
from pipelines.process import spare_memory


def main() -> None:
    """Load batches, and plan inputs in a child process, until SIGTERM."""
    try:
        settings, transport = ExecutorSettings(), TransportSettings()
        _ = transport.url
    except (ValidationError, ValueError) as fault:
        configure("executor", "INFO")
        event("failed", f"The settings are wrong: {_reason(fault)}", level=logging.ERROR)
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


def _reason(fault: ValueError) -> str:
    if isinstance(fault, ValidationError):
        return "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in fault.errors(include_input=False))
    return str(fault)


if __name__ == "__main__":
    main()
