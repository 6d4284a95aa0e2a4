"""Alerts and dashboard: each alert fires when it should and not otherwise, and has its section in the operations guide; all
that is asked for is told by the services.

`promtool` is the judge of the language; what is asked for is compared with docs/observability.md, which a test of its own holds
against running services.
"""

import json
import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.deploy.tools import ROOT, Failed, documents, go_tool, run

RULES, DASHBOARD = "deploy/chart/files/rules.yaml", "deploy/chart/files/dashboard.json"
#: What Prometheus itself and its client library tell.
OTHERS = ("up", "process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds")
#: Prometheus sets these on every series.
TARGET = {"job", "instance", "le"}

#: Of each alert: series under which it fires, and under which it does not (https://prometheus.io/docs/prometheus/latest/
#: configuration/unit_testing_rules/ has the notation). An hour of minutes.
CASES: Mapping[str, tuple[Mapping[str, str], Mapping[str, str]]] = {
    "JobberServiceDown": (
        {'up{job="r-jobber-jobs",instance="a"}': "0x60"},
        {'up{job="r-jobber-jobs"}': "1x60", 'up{job="x"}': "0x60"},
    ),
    "JobberNoExecutor": ({'up{job="jobber"}': "1x60"}, {"jobber_executor_transport_up": "1x60"}),
    "JobberDatabaseDown": ({"jobber_jobs_waiting": "NaN NaN NaN NaN NaN NaN NaN NaN NaN NaN"}, {"jobber_jobs_waiting": "7x60"}),
    "JobberTransportDown": ({"jobber_executor_transport_up": "0x60"}, {"jobber_executor_transport_up": "1x60"}),
    "JobberTransportRefuses": (
        {"jobber_jobs_unpublished_messages_total": "0+1x60"},
        {"jobber_jobs_unpublished_messages_total": "5x60"},
    ),
    "JobberQueueOld": ({"jobber_jobs_queue_age_seconds": "400x60"}, {"jobber_jobs_queue_age_seconds": "200x60"}),
    "JobberUnclaimed": ({"jobber_jobs_unclaimed_age_seconds": "70x60"}, {"jobber_jobs_unclaimed_age_seconds": "20x60"}),
    "JobberBatchesComeAgain": (
        {
            'jobber_jobs_batch_attempts_total{attempt="first"}': "0+8x60",
            'jobber_jobs_batch_attempts_total{attempt="again"}': "0+2x60",
        },
        {
            'jobber_jobs_batch_attempts_total{attempt="first"}': "0+99x60",
            'jobber_jobs_batch_attempts_total{attempt="again"}': "0+1x60",
        },
    ),
    "JobberSuspects": (
        {'jobber_executor_claimed_batches_total{suspect="true"}': "0+1x60"},
        {'jobber_executor_claimed_batches_total{suspect="false"}': "0+9x60"},
    ),
    "JobberDeadLetters": ({"jobber_jobs_dead_letters_total": "0+1x60"}, {"jobber_jobs_dead_letters_total": "3x60"}),
    "JobberJobsFail": (
        {'jobber_jobs_ended_total{state="FAILED"}': "0+3x60", 'jobber_jobs_ended_total{state="SUCCEEDED"}': "0+1x60"},
        {'jobber_jobs_ended_total{state="FAILED"}': "0+1x60", 'jobber_jobs_ended_total{state="SUCCEEDED"}': "0+9x60"},
    ),
    "JobberRejects": (
        {
            'jobber_executor_records_total{outcome="rejected"}': "0+6x60",
            'jobber_executor_records_total{outcome="loaded"}': "0+4x60",
        },
        {
            'jobber_executor_records_total{outcome="rejected"}': "0+1x60",
            'jobber_executor_records_total{outcome="loaded"}': "0+9x60",
        },
    ),
    "JobberClosingStuck": ({"jobber_jobs_closing": "1x60"}, {"jobber_jobs_closing": "0x60"}),
    "JobberBugs": (
        {'jobber_grpc_calls_total{code="INTERNAL"}': "0+1x60"},
        {'jobber_graphql_requests_total{outcome="refused"}': "0+9x60", 'jobber_grpc_calls_total{code="NOT_FOUND"}': "0+9x60"},
    ),
    "JobberUnavailable": (
        {
            'jobber_graphql_requests_total{outcome="unavailable"}': "0+1x60",
            'jobber_graphql_requests_total{outcome="ok"}': "0+9x60",
        },
        {
            'jobber_graphql_requests_total{outcome="unavailable"}': "0+1x60",
            'jobber_graphql_requests_total{outcome="ok"}': "0+99x60",
        },
    ),
    "JobberSlow": (
        {
            'jobber_graphql_request_seconds_bucket{field="a",le="2.5"}': "0+0x60",
            'jobber_graphql_request_seconds_bucket{field="a",le="10"}': "0+9x60",
            'jobber_graphql_request_seconds_bucket{field="a",le="+Inf"}': "0+9x60",
        },
        {
            'jobber_graphql_request_seconds_bucket{field="a",le="0.1"}': "0+9x60",
            'jobber_graphql_request_seconds_bucket{field="a",le="+Inf"}': "0+9x60",
        },
    ),
    "JobberPoolFull": (
        {
            'jobber_database_waiting{pool="p",instance="a"}': "3x60",
            'jobber_database_connections_used{pool="p",instance="a"}': "12x60",
            'jobber_database_connections_limit{pool="p",instance="a"}': "12x60",
        },
        {
            'jobber_database_waiting{pool="p",instance="a"}': "0x60",
            'jobber_database_connections_used{pool="p",instance="a"}': "12x60",
            'jobber_database_connections_limit{pool="p",instance="a"}': "12x60",
        },
    ),
    "JobberCommitSlow": (
        {
            'jobber_products_commit_seconds_bucket{le="2.5"}': "0+0x60",
            'jobber_products_commit_seconds_bucket{le="10"}': "0+9x60",
            'jobber_products_commit_seconds_bucket{le="+Inf"}': "0+9x60",
        },
        {
            'jobber_products_commit_seconds_bucket{le="0.1"}': "0+9x60",
            'jobber_products_commit_seconds_bucket{le="+Inf"}': "0+9x60",
        },
    ),
    "JobberPlannerRestarts": (
        {'jobber_executor_planner_starts_total{instance="a"}': "1+1x60"},
        {'jobber_executor_planner_starts_total{instance="a"}': "1x60"},
    ),
    "JobberLoginsRefused": (
        {'jobber_auth_logins_total{outcome="limited"}': "0+90x60"},
        {'jobber_auth_logins_total{outcome="ok"}': "0+90x60"},
    ),
}


def rules() -> str:
    """promtool reads the rules, and each alert fires as it should; each has its section in docs/operations.md."""
    promtool = go_tool("promtool")
    run(promtool, "check", "rules", RULES)
    known = [rule["alert"] for rule in alerts()]
    if set(known) != set(CASES):
        raise Failed(f"alerts without a case, or cases without an alert: {set(known) ^ set(CASES)}")
    sections = set(re.findall(r"^### (\w+)$", (ROOT / "docs/operations.md").read_text(), re.MULTILINE))
    told = {name for name in sections if name.startswith("Jobber")}
    if told != set(known):
        raise Failed(f"docs/operations.md and the alerts differ: {told ^ set(known)}")
    for rule in alerts():
        if rule["annotations"]["runbook"] != f"docs/operations.md#{rule['alert'].lower()}":
            raise Failed(f"{rule['alert']} points elsewhere: {rule['annotations']['runbook']}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tests.yaml"
        path.write_text(json.dumps({"rule_files": [str(ROOT / RULES)], "tests": list(cases())}))
        run(promtool, "test", "rules", str(path))
    return f"{len(known)} alerts fire, and do not otherwise"


def queries() -> str:
    """Alerts and dashboard ask only for metrics and labels that there are, in PromQL that promtool reads."""
    asked = {f"alert {rule['alert']}": rule["expr"] for rule in alerts()}
    board: dict[str, Any] = json.loads((ROOT / DASHBOARD).read_text())
    for panel in board["panels"]:
        for target in panel.get("targets", ()):
            asked[f"panel {panel['title']} {target['refId']}"] = target["expr"].replace("$__rate_interval", "1m")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "queries.yaml"
        records = [{"record": f"q:{number}", "expr": query} for number, query in enumerate(asked.values())]
        path.write_text(json.dumps({"groups": [{"name": "queries", "rules": records}]}))
        run(go_tool("promtool"), "check", "rules", "--lint=none", str(path))
    known = documented()
    for where, query in asked.items():
        metrics, labels = names(query)
        if not metrics:
            raise Failed(f"{where} asks for no metric: {query}")
        if unknown := metrics - set(known):
            raise Failed(f"{where}: nobody tells {sorted(unknown)}")
        if unknown := labels - TARGET - set().union(*(known[metric] for metric in metrics)):
            raise Failed(f"{where}: there are no labels {sorted(unknown)} on {sorted(metrics)}")
    return f"{len(asked)} queries ask for what there is"


def alerts() -> list[dict[str, Any]]:
    """The rules, read."""
    (document,) = documents((ROOT / RULES).read_text())
    groups: Any = document["groups"]
    return [rule for group in groups for rule in group["rules"]]


def cases() -> Iterator[dict[str, Any]]:
    """As promtool tests them: how many alerts of the name fire after 45 minutes, or after 8 where the series end before."""
    for name, (fires, quiet) in CASES.items():
        for series, count in ((fires, 1), (quiet, 0)):
            at = "45m" if all("x" in values for values in series.values()) else "8m"
            query = f'count(ALERTS{{alertname="{name}", alertstate="firing"}}) or vector(0)'
            yield {
                "name": f"{name} {'fires' if count else 'is quiet'}",
                "interval": "1m",
                "input_series": [{"series": key, "values": values} for key, values in series.items()],
                "promql_expr_test": [{"expr": query, "eval_time": at, "exp_samples": [{"labels": "{}", "value": count}]}],
            }


def documented() -> dict[str, set[str]]:
    """Labels by the name of a series, as docs/observability.md lists them."""
    known: dict[str, set[str]] = {name: set() for name in OTHERS}
    for line in (ROOT / "docs/observability.md").read_text().splitlines():
        found = re.match(r"\| `(jobber_\w+)` \| [^|]+ \| (\w+) \| ([^|]*) \|", line)
        if found:
            endings = ("_bucket", "_count", "_sum") if found[2] == "histogram" else ("",)
            for ending in endings:
                known[found[1] + ending] = set(re.findall(r"`(\w+)`", found[3]))
    return known


def names(query: str) -> tuple[set[str], set[str]]:
    """Metrics and labels of a query that promtool has read: what is no function, keyword, label or number is a metric."""
    labels = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"", query))
    rest = re.sub(r"\"[^\"]*\"", "", query)
    for listed in re.findall(r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)", rest):
        labels |= set(re.findall(r"\w+", listed))
    rest = re.sub(r"\b(?:by|without|on|ignoring)\s*\([^)]*\)", "", rest)
    rest = re.sub(r"\{[^}]*\}|\[[^\]]*\]", "", rest)
    words = set(re.findall(r"\b[a-z_]\w*\b(?!\s*\()", rest))
    return words - {"and", "or", "unless", "bool", "offset", "sum", "max", "min", "count", "avg"}, labels
