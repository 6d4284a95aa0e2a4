"""Write docs/observability.md from the code: `python docs/generate_observability.py`; `--check` says whether it is up to date.

Metrics with their help and labels come from the modules that make them, log actions from `jobber.log.ACTIONS`.
"""

import sys
from pathlib import Path

from prometheus_client.metrics import MetricWrapperBase

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from api import metrics as shared  # noqa: E402
from api.auth import metrics as auth  # noqa: E402
from api.jobs import dead_letters  # noqa: E402
from api.jobs import metrics as jobs  # noqa: E402
from api.products import metrics as products  # noqa: E402
from jobber.log import ACTIONS  # noqa: E402
from pipelines import metrics as executor  # noqa: E402

TARGET = ROOT / "docs" / "observability.md"
HEADER = """# Metrics and logs

Written by `python dev.py generate` from the code.

Every service answers `GET /metrics` in Prometheus' format, without a token: keep that path from the outside, as the chart's
ingress does. Beside these each tells its own `process_*` and `python_*`. Nothing is counted by record or by job: labels are
methods, fields, outcomes, states, lanes, job types and codes, all of them few.

| metric | services | type | labels | what it is |
|---|---|---|---|---|
"""
LOGS = """
## Logs

One line for each event on standard error: JSON with `time`, `level`, `service`, `action` and `message`, and what belongs to
the event: `job`, `batch`, `upload`, and `trace` while something is traced. On a terminal it is text for people;
`JOBBER_LOG_FORMAT` chooses. Scripts and alerts may rely on the actions.

## Traces

With `OTEL_EXPORTER_OTLP_ENDPOINT` every service sends spans by OTLP over HTTP. One trace holds a job: the GraphQL request (in
the caller's trace, when that sends a `traceparent`), its submission, each dispatch, the plan (claim, scan, record), each batch
(claim, read, decode, check, enrich, send, acknowledge), the gRPC calls of these, the commit and its COPY. Attributes are
`jobber.job`, `jobber.batch` and `jobber.dispatch`. The SDK's own variables choose what is sampled. Without the endpoint nothing
is traced.

## Actions

| action | what happened |
|---|---|
"""


def render() -> str:
    """The page."""
    rows = []
    for module, services in (
        (shared, "auth, jobs, products"),
        (auth, "auth"),
        (jobs, "jobs"),
        (dead_letters, "jobs"),
        (executor, "executor"),
        (products, "products"),
    ):
        for metric in vars(module).values():
            if isinstance(metric, MetricWrapperBase):
                (family,) = metric.describe()
                name = f"{family.name}_total" if family.type == "counter" else family.name
                rows.append((name, services, family.type, metric._labelnames, family.documentation))
    for family in shared.pool_families():
        name = f"{family.name}_total" if family.type == "counter" else family.name
        rows.append((name, "auth, jobs, products", family.type, family._labelnames, family.documentation))
    metrics = "".join(
        f"| `{name}` | {services} | {kind} | {', '.join(f'`{label}`' for label in labels)} | {help_} |\n"
        for name, services, kind, labels, help_ in sorted(rows)
    )
    return HEADER + metrics + LOGS + "".join(f"| `{action}` | {meaning} |\n" for action, meaning in ACTIONS.items())


def main() -> int:
    """Write it, or check."""
    if "--check" not in sys.argv[1:]:
        TARGET.write_text(render())
        return 0
    if TARGET.exists() and TARGET.read_text() == render():
        return 0
    print("docs/observability.md is not what the code says")
    return 1


if __name__ == "__main__":
    sys.exit(main())
