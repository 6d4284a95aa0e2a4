"""Write the Grafana dashboard, deploy/chart/files/dashboard.json; `--check` says whether it is up to date.

A row for each question that an operator has; a panel is a title, a unit and its PromQL. The chart ships the file as a ConfigMap
for Grafana's sidecar, compose mounts it.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

TARGET = Path(__file__).resolve().parents[1] / "chart" / "files" / "dashboard.json"
RATE = "[$__rate_interval]"
SOURCE = {"type": "prometheus", "uid": "${source}"}

#: Title, unit, and legend -> PromQL.
Panel = tuple[str, str, Mapping[str, str]]


def quantiles(metric: str, by: str = "") -> Mapping[str, str]:
    """The middle and the slow end of a histogram."""
    labels, legend = (f"le, {by}", f" {{{{{by}}}}}") if by else ("le", "")
    return {
        f"p{share * 100:.0f}{legend}": f"histogram_quantile({share}, sum by ({labels}) (rate({metric}_bucket{RATE})))"
        for share in (0.5, 0.99)
    }


ROWS: Sequence[tuple[str, Sequence[Panel]]] = (
    (
        "Does it get on?",
        (
            ("Rows loaded", "rowsps", {"loaded": f"sum(rate(jobber_products_rows_total{RATE}))"}),
            (
                "Records by outcome",
                "rowsps",
                {"{{outcome}}": f"sum by (outcome) (rate(jobber_executor_records_total{RATE}))"},
            ),
            ("Rejects by code", "rowsps", {"{{code}}": f"sum by (code) (rate(jobber_executor_rejects_total{RATE}))"}),
            ("Jobs accepted", "reqps", {"{{type}}": f"sum by (type) (rate(jobber_jobs_submitted_total{RATE}))"}),
            ("Jobs ended", "reqps", {"{{state}}": f"sum by (state) (rate(jobber_jobs_ended_total{RATE}))"}),
            ("Uploads", "Bps", {"bytes": f"sum(rate(jobber_jobs_upload_bytes_total{RATE}))"}),
        ),
    ),
    (
        "What waits?",
        (
            ("Oldest waiting job", "s", {"age": "max(jobber_jobs_queue_age_seconds)"}),
            ("Waiting jobs", "short", {"waiting": "max(jobber_jobs_waiting)", "closing": "max(jobber_jobs_closing)"}),
            (
                "Batches",
                "short",
                {
                    "not dispatched": "max(jobber_jobs_backlog_batches)",
                    "in flight": "max(jobber_jobs_in_flight_batches)",
                    "unclaimed": "max(jobber_jobs_unclaimed_batches)",
                },
            ),
            ("Transport: dispatch to claim", "s", quantiles("jobber_jobs_transport_lag_seconds")),
            (
                "Executors: groups in flight",
                "short",
                {"in flight": "sum(jobber_executor_in_flight)", "limit": "sum(jobber_executor_in_flight_limit)"},
            ),
            ("Products: bytes that wait", "bytes", {"{{instance}}": "jobber_products_waiting_bytes"}),
        ),
    ),
    (
        "Where does the time go?",
        (
            (
                "Executors: seconds by step",
                "percentunit",
                {"{{step}}": f"sum by (step) (rate(jobber_executor_step_seconds_total{RATE}))"},
            ),
            ("Executors: ready to acknowledged", "s", quantiles("jobber_executor_settle_seconds")),
            ("Products: turn to commit", "s", quantiles("jobber_products_commit_seconds")),
            ("COPY", "s", quantiles("jobber_products_copy_seconds")),
            ("COPY bytes", "Bps", {"{{instance}}": f"rate(jobber_products_copy_bytes_total{RATE})"}),
            ("Planner", "s", quantiles("jobber_executor_planner_seconds")),
        ),
    ),
    (
        "GraphQL and gRPC: rate, errors, duration",
        (
            ("GraphQL requests", "reqps", {"{{field}}": f"sum by (field) (rate(jobber_graphql_requests_total{RATE}))"}),
            (
                "GraphQL requests that failed",
                "reqps",
                {"{{outcome}}": f'sum by (outcome) (rate(jobber_graphql_requests_total{{outcome!="ok"}}{RATE}))'},
            ),
            ("GraphQL seconds", "s", quantiles("jobber_graphql_request_seconds", "field")),
            ("gRPC calls", "reqps", {"{{method}}": f"sum by (method) (rate(jobber_grpc_calls_total{RATE}))"}),
            (
                "gRPC calls that failed",
                "reqps",
                {"{{code}} {{method}}": f'sum by (code, method) (rate(jobber_grpc_calls_total{{code!="OK"}}{RATE}))'},
            ),
            ("gRPC seconds", "s", quantiles("jobber_grpc_call_seconds", "method")),
        ),
    ),
    (
        "What goes wrong?",
        (
            (
                "Attempts at batches",
                "reqps",
                {"{{attempt}}": f"sum by (attempt) (rate(jobber_jobs_batch_attempts_total{RATE}))"},
            ),
            (
                "Batches that come again",
                "reqps",
                {
                    "published again": f"sum(rate(jobber_jobs_reissued_batches_total{RATE}))",
                    "handed back": f"sum(rate(jobber_executor_handed_back_total{RATE}))",
                    "not taken by the transport": f"sum(rate(jobber_jobs_unpublished_messages_total{RATE}))",
                },
            ),
            (
                "Suspects and dead letters",
                "short",
                {
                    "suspects": f'sum(increase(jobber_executor_claimed_batches_total{{suspect="true"}}{RATE}))',
                    "dead letters": f"sum(increase(jobber_jobs_dead_letters_total{RATE}))",
                },
            ),
            (
                "Executors' calls that failed",
                "reqps",
                {"{{method}} {{code}}": f'sum by (method, code) (rate(jobber_executor_calls_total{{code!="OK"}}{RATE}))'},
            ),
            ("Logins", "reqps", {"{{outcome}}": f"sum by (outcome) (rate(jobber_auth_logins_total{RATE}))"}),
            ("Transport answers", "bool", {"{{instance}}": "jobber_executor_transport_up"}),
        ),
    ),
    (
        "What does it use?",
        (
            (
                "Database connections in use",
                "percentunit",
                {
                    "{{pool}}": "sum by (pool) (jobber_database_connections_used)"
                    " / sum by (pool) (jobber_database_connections_limit)"
                },
            ),
            ("Requests that wait for a connection", "short", {"{{pool}}": "sum by (pool) (jobber_database_waiting)"}),
            ("Open subscriptions", "short", {"{{instance}}": "jobber_graphql_subscriptions"}),
            ("CPU", "percentunit", {"{{instance}}": f'rate(process_cpu_seconds_total{{job=~".*jobber.*"}}{RATE})'}),
            ("Memory", "bytes", {"{{instance}}": 'process_resident_memory_bytes{job=~".*jobber.*"}'}),
            ("Open files", "short", {"{{instance}}": 'process_open_fds{job=~".*jobber.*"}'}),
        ),
    ),
)


def dashboard() -> dict[str, Any]:
    """As Grafana imports it."""
    panels: list[dict[str, Any]] = []
    top = 0
    for title, row in ROWS:
        panels.append(
            {
                "type": "row",
                "title": title,
                "id": len(panels) + 1,
                "collapsed": False,
                "panels": [],
                "gridPos": _place(0, top, 24, 1),
            }
        )
        top += 1
        for number, panel in enumerate(row):
            panels.append(_panel(panel, len(panels) + 1, _place(number % 3 * 8, top + number // 3 * 8, 8, 8)))
        top += -(-len(row) // 3) * 8
    source = {"name": "source", "type": "datasource", "query": "prometheus", "label": "Source"}
    return {
        "uid": "jobber",
        "title": "Jobber",
        "tags": ["jobber"],
        "schemaVersion": 41,
        "editable": False,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [source]},
        "panels": panels,
    }


def _panel(panel: Panel, number: int, place: dict[str, int]) -> dict[str, Any]:
    title, unit, queries = panel
    targets = [
        {"refId": chr(ord("A") + index), "datasource": SOURCE, "expr": query, "legendFormat": legend}
        for index, (legend, query) in enumerate(queries.items())
    ]
    return {
        "type": "timeseries",
        "title": title,
        "id": number,
        "datasource": SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": unit, "min": 0, "custom": {"fillOpacity": 8}}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi", "sort": "desc"}},
        "targets": targets,
    }


def _place(x: int, y: int, width: int, height: int) -> dict[str, int]:
    return {"x": x, "y": y, "w": width, "h": height}


def main() -> int:
    """Write it, or check."""
    text = json.dumps(dashboard(), indent=1) + "\n"
    if "--check" not in sys.argv[1:]:
        TARGET.write_text(text)
        return 0
    if TARGET.exists() and TARGET.read_text() == text:
        return 0
    print(f"{TARGET.name} is not what its generator makes")
    return 1


if __name__ == "__main__":
    sys.exit(main())
